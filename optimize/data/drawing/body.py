"""Bodies: their build, pose and colouring, and the geometry of torso and arms on a canvas."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np

from .canvas import (
    Array,
    Canvas,
    Color,
    Window,
    join_soft,
    look_up,
    measure_limb,
    smooth_step,
    tabulate_profile,
)
from .garment import ARM_LENGTH, NECK_HALF, SHOULDER_SLOPE, TORSO_LENGTH

Point = tuple[float, float]

POSES = {
    "hanging": ((5, 11), (-3, 5), 0.36),
    "out": ((14, 24), (6, 18), 0.16),
    "hip": ((36, 44), (-52, -44), 0.20),
    "raised": ((20, 27), (24, 34), 0.08),
    "up": ((20, 30), (158, 172), 0.06),
    "crossing": ((6, 12), (-84, -66), 0.14),
}
"""Ranges of the upper and lower arm's angles (degrees from straight down, outward positive), and weights."""
SKINS: tuple[Color, ...] = (
    (0.99, 0.88, 0.80), (0.96, 0.80, 0.69), (0.90, 0.72, 0.58), (0.80, 0.60, 0.45), (0.64, 0.45, 0.33),
    (0.47, 0.32, 0.24),
)  # fmt: skip
HAIRS: tuple[Color, ...] = (
    (0.13, 0.11, 0.12), (0.25, 0.17, 0.13), (0.40, 0.25, 0.17), (0.58, 0.38, 0.22), (0.86, 0.70, 0.44),
    (0.62, 0.25, 0.14), (0.62, 0.61, 0.62),
)  # fmt: skip
BOTTOM_COLORS: tuple[Color, ...] = (
    (0.20, 0.28, 0.44), (0.36, 0.48, 0.64), (0.15, 0.16, 0.20), (0.76, 0.67, 0.54), (0.42, 0.43, 0.40),
    (0.88, 0.87, 0.84), (0.45, 0.20, 0.22), (0.26, 0.33, 0.26),
)  # fmt: skip
BACKDROPS: tuple[Color, ...] = (
    (0.96, 0.96, 0.96), (0.93, 0.92, 0.90), (0.90, 0.93, 0.95), (0.95, 0.92, 0.92), (0.92, 0.94, 0.90),
)  # fmt: skip
HAIR_STYLES = ("short", "bob", "long", "bun", "afro", "parted")
BOTTOMS = ("trousers", "skirt")
_SPAN = 180.0


@dataclass(frozen=True)
class Body:
    """A person without the garment; lengths are canvas units, angles degrees."""

    center: float
    neck_y: float
    size: float
    shoulder: float
    waist: float
    hip: float
    lean: float
    tilt: float
    poses: tuple[str, str]
    arm_angles: tuple[Point, Point]
    head_tilt: float
    head_width: float
    skin: Color
    hair: Color
    hair_style: str
    bottom: str
    bottom_color: Color
    backdrop: Color
    iris: Color
    smile: float

    @property
    def torso_length(self) -> float:
        """From the neck's side down to the hips."""
        return 116.0 * self.size

    @property
    def arm_radius(self) -> float:
        """Radius at the shoulder joint."""
        return 0.19 * self.shoulder + 1.0

    @property
    def joint(self) -> Point:
        """The right-hand shoulder joint relative to the neck's base."""
        across = self.shoulder - self.arm_radius
        return across, SHOULDER_SLOPE * (across - NECK_HALF * self.size) + 1.04 * self.arm_radius

    def trace_arm(self, right: bool) -> tuple[Point, Point, Point, Point]:
        """Joint, elbow, wrist and fingertips of an arm, relative to the neck's base, as if on the right."""
        (x, y), (upper, lower) = self.joint, self.arm_angles[right]
        lengths = (59.0 * self.size, 54.0 * self.size, 19.0 * self.size)
        angles = (upper, lower, lower * 0.9 + (10.0 if self.poses[right] == "hip" else 0.0))
        points = [(x, y)]
        for length, angle in zip(lengths, angles, strict=True):
            x, y = x + length * sin(radians(angle)), y + length * cos(radians(angle))
            points.append((x, y))
        return points[0], points[1], points[2], points[3]


def pick_body(rng: np.random.Generator) -> Body:
    """Draw a body at random."""

    def pick(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    size = pick(0.93, 1.05)
    shoulder = pick(38, 45) * size
    names = list(POSES)
    weights = np.array([POSES[name][2] for name in names])
    poses = [str(name) for name in rng.choice(names, 2, p=weights)]
    if poses == ["crossing", "crossing"] and rng.random() < 0.5:
        poses[0] = "hanging"
    angles = [(pick(*POSES[pose][0]), pick(*POSES[pose][1])) for pose in poses]
    glow = pick(0.94, 1.03)
    skin = SKINS[int(rng.integers(len(SKINS)))]
    return Body(
        center=pick(93, 99),
        neck_y=pick(74, 80) + 6 * (size - 1),
        size=size,
        shoulder=shoulder,
        waist=shoulder * pick(0.62, 0.80),
        hip=shoulder * pick(0.82, 0.98),
        lean=pick(-4, 4),
        tilt=pick(-0.05, 0.05),
        poses=(poses[0], poses[1]),
        arm_angles=(angles[0], angles[1]),
        head_tilt=pick(-8, 8),
        head_width=pick(17.0, 19.0) * size,
        skin=(min(skin[0] * glow, 1.0), skin[1] * glow, skin[2] * glow),
        hair=HAIRS[int(rng.integers(len(HAIRS)))],
        hair_style=str(rng.choice(HAIR_STYLES, p=(0.24, 0.16, 0.26, 0.12, 0.08, 0.14))),
        bottom=str(rng.choice(BOTTOMS, p=(0.7, 0.3))),
        bottom_color=BOTTOM_COLORS[int(rng.integers(len(BOTTOM_COLORS)))],
        backdrop=BACKDROPS[int(rng.integers(len(BACKDROPS)))],
        iris=((0.30, 0.20, 0.13), (0.24, 0.40, 0.52), (0.30, 0.42, 0.28))[int(rng.integers(3))],
        smile=pick(0.3, 1.0),
    )


@dataclass(frozen=True)
class TorsoMap:
    """The torso on the canvas: x from its middle line, v in garment units, half width, distance, folds."""

    window: Window
    x: Array
    v: Array
    width: Array
    distance: Array
    shade: Array
    scale: float


@dataclass(frozen=True)
class ArmMap:
    """An arm on the canvas: garment coordinates along it, offset across it outward, radius, distance."""

    window: Window
    side: float
    along: Array
    across: Array
    radius: Array
    distance: Array
    shade: Array
    scale: float


def map_torso(body: Body, canvas: Canvas) -> TorsoMap:
    """Measure the torso and the hips below it."""
    reach = body.shoulder + 16
    window = canvas.open_window(body.center - reach, body.neck_y - 8, body.center + reach, 256)
    down = window.y - np.float32(body.neck_y)
    fade = 1.0 - smooth_step(0, 110, down)
    x = (
        window.x
        - np.float32(body.center)
        - np.float32(body.lean) * np.sin(np.clip(down / np.float32(body.torso_length), 0, 1.3) * np.float32(2.4))
    )
    y = down - np.float32(body.tilt) * x * fade
    s, w, h, length = body.shoulder, body.waist, body.hip, body.torso_length
    places = [part * length for part in (0, 0.12, 0.28, 0.62, 0.98, 1.5)]
    table = tabulate_profile(places, (s * 0.97, s * 0.97, s * 0.84, w, h, h * 1.02), _SPAN)
    width = look_up(table, _SPAN, y)
    side = np.abs(x)
    slope = SHOULDER_SLOPE * np.maximum(side - np.float32(NECK_HALF * body.size), 0.0)
    distance = join_soft(side - width, slope - y, 9.0)
    scale = length / TORSO_LENGTH
    return TorsoMap(window, x, y / np.float32(scale), width, distance, _shade_torso(body, x, y, width), scale)


def _shade_torso(body: Body, x: Array, y: Array, width: Array) -> Array:
    """Side shading, bust and folds; they depend on build and pose only."""
    t = np.clip(np.abs(x) / width, 0.0, 1.2)
    shade = 1.0 - 0.20 * t**4 + 0.03 * (1 - t * t)
    scale = np.float32(1.0 / body.size)
    shade = shade - 0.05 * np.exp(-(((y * scale - 52.0) / 7.0) ** 2)) * t * (1.0 - 0.6 * t)
    for right in (False, True):
        upper = body.arm_angles[right][0]
        own = x if right else -x
        start, turn = np.float32(0.84 * body.shoulder), radians(150.0 - 1.0 * upper)
        for spread, depth in ((0.0, 0.07), (0.35, 0.05)):
            dx, dy = -sin(turn - spread), -cos(turn - spread)
            px, py = own - start, y - np.float32(34.0 * body.size)
            along, off = px * np.float32(dx) + py * np.float32(dy), px * np.float32(dy) - py * np.float32(dx)
            mark = np.exp(-((off / 2.4) ** 2)) * smooth_step(-2, 6, along) * (1.0 - smooth_step(12, 34, along))
            shade = shade - np.float32(depth * (0.5 + min(upper, 40.0) / 40.0)) * mark
    lean = np.float32(0.35 * np.sign(body.lean))
    for place in (76.0, 88.0):
        ridge = y * scale - place - lean * x
        shade = shade - 0.05 * np.exp(-((ridge / 2.2) ** 2)) * smooth_step(0.25, 0.9, t)
    return shade.astype(np.float32)


def map_arm(body: Body, canvas: Canvas, right: bool) -> ArmMap:
    """Measure one arm from shoulder to wrist."""
    side = 1.0 if right else -1.0
    joint, elbow, wrist, tips = body.trace_arm(right)
    xs = [side * p[0] + body.center for p in (joint, elbow, wrist, tips)]
    ys = [p[1] + body.neck_y for p in (joint, elbow, wrist, tips)]
    window = canvas.open_window(min(xs) - 18, min(ys) - 18, max(xs) + 18, max(ys) + 18)
    sway = np.float32(body.tilt * side * joint[0])
    x = (window.x - np.float32(body.center)) * np.float32(side)
    y = window.y - np.float32(body.neck_y) - sway
    radii = (body.arm_radius, 0.80 * body.arm_radius, 0.52 * body.arm_radius)
    first = _measure_bone(x, y, joint, elbow, (radii[0], radii[1]), open_end=False)
    second = _measure_bone(x, y, elbow, wrist, (radii[1], radii[2]), open_end=True)
    upper, lower = (float(np.hypot(b[0] - a[0], b[1] - a[1])) for a, b in ((joint, elbow), (elbow, wrist)))
    nearer = first[0] < second[0]
    scale = ARM_LENGTH / (upper + lower)
    along = np.where(nearer, first[1], second[1] + np.float32(upper)) * np.float32(scale)
    across = np.where(nearer, first[2], second[2])
    outer = np.float32(body.arm_angles[right][0] - body.arm_angles[right][1])
    beyond = np.where(nearer, first[1] >= np.float32(upper), second[1] <= 0.0)
    across = np.where(beyond, np.copysign(across, outer), across)
    radius = np.where(nearer, first[3], second[3])
    distance = np.minimum(first[0], second[0])
    shade = _shade_arm(body, right, along, across / radius, upper * scale)
    return ArmMap(window, side, along, across, radius, distance, shade, 1 / scale)


def _measure_bone(
    x: Array, y: Array, start: Point, end: Point, radii: Point, open_end: bool
) -> tuple[Array, Array, Array, Array]:
    """Distance to one limb, place along it, offset across it (outward positive) and its radius."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = float(np.hypot(dx, dy))
    dx, dy = dx / length, dy / length
    px, py = x - np.float32(start[0]), y - np.float32(start[1])
    free = px * np.float32(dx) + py * np.float32(dy)
    along = np.clip(free, 0.0, length)
    off = px * np.float32(dy) - py * np.float32(dx)
    away = np.sqrt(off * off + (free - along) ** 2)
    radius = np.float32(radii[0]) + along * np.float32((radii[1] - radii[0]) / length)
    across = np.where(off < 0, -away, away)
    place = np.maximum(free, 0.0) if open_end else np.minimum(free, length)
    return away - radius, place, across if open_end else np.where(free < 0, off, across), radius


def _shade_arm(body: Body, right: bool, along: Array, t: Array, elbow: float) -> Array:
    """Round shading, weaker at the shoulder, and creases inside a bent elbow."""
    near = smooth_step(-2, 26, along)
    side = np.minimum(np.abs(t), 1.3)
    shade = 1.0 - (0.04 + 0.16 * near) * side**3 - 0.05 * near * (t < 0) * side
    upper, lower = body.arm_angles[right]
    bend = min(abs(lower - upper) / 90.0, 1.0)
    inner = np.clip(t if lower > upper else -t, 0.0, 1.0)
    for offset, depth in ((0.0, 0.20), (-7.0, 0.09), (7.0, 0.09)):
        shade = shade - np.float32(depth * bend) * inner * np.exp(-(((along - np.float32(elbow + offset)) / 3.0) ** 2))
    return shade.astype(np.float32)


def measure_hand(body: Body, arm: ArmMap) -> Array:
    """Signed distance to the hand with its thumb."""
    _, _, wrist, tips = body.trace_arm(arm.side > 0)
    sway = np.float32(body.tilt * arm.side * body.joint[0])
    x = (arm.window.x - np.float32(body.center)) * np.float32(arm.side)
    y = arm.window.y - np.float32(body.neck_y) - sway
    size = body.size
    palm = (0.45 * wrist[0] + 0.55 * tips[0], 0.45 * wrist[1] + 0.55 * tips[1])
    hand = np.minimum(
        measure_limb(x, y, wrist, palm, (0.5 * body.arm_radius, 5.2 * size)),
        measure_limb(x, y, palm, tips, (5.2 * size, 3.0 * size)),
    )
    dx, dy = (tips[0] - wrist[0]) / 19.0, (tips[1] - wrist[1]) / 19.0
    root = (wrist[0] + 3 * dx - 2 * dy, wrist[1] + 3 * dy + 2 * dx)
    thumb = (wrist[0] + 11 * dx - 6.5 * dy, wrist[1] + 11 * dy + 6.5 * dx)
    return np.minimum(hand, measure_limb(x, y, root, thumb, (2.6 * size, 1.7 * size)))

"""Garments as cut patterns: which parts they have, how long and wide they are, how they are coloured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import cos, radians, sin

import numpy as np

from .canvas import UNITS_HIGH, UNITS_WIDE, Array, Color, join_soft, look_up, tabulate_profile

TORSO_LENGTH = 120.0
"""Garment units from the neck's side down to the hips."""
ARM_LENGTH = 118.0
"""Garment units from the shoulder joint to the wrist."""
NECK_HALF = 11.0
SHOULDER_SLOPE = 0.33
PROFILE_SPAN = 160.0

SLEEVE_LENGTHS = {"none": 0.0, "short": 36.0, "elbow": 56.0, "long": 113.0}
HEM_LENGTHS = {"cropped": 78.0, "normal": 111.0, "long": 138.0}
NECKLINES = {"round": (14.0, 11.0), "v": (13.5, 27.0), "square": (17.0, 17.0), "boat": (22.0, 9.0)}
PATTERNS = (
    ("plain", 0.16), ("bands", 0.16), ("pinstripes", 0.09), ("diagonals", 0.08), ("dots", 0.10),
    ("checks", 0.06), ("plaid", 0.09), ("letters", 0.10), ("logo", 0.09), ("blocks", 0.07),
)  # fmt: skip
LOGOS = ("star", "circle", "heart", "triangle", "mountain")
WORDS = ("LOVE", "CITY", "1987", "OHIO", "SURF", "WILD", "NOVA", "PARIS", "HELLO", "TEAM", "ZEN", "MAY")
SLEEVE_TINTS = ("same", "contrast", "raglan")
_PALETTE_CODES = (
    "f4f1ea c9ccd1 8a9099 3a3d44 1e2126 c8202f e8564a f08a7a f2b8b5 f28c28 f6c244 f5e08a 8a9a3b 3f7d4e "
    "1f4d3a 7fc8a9 2a9d8f 8ecae6 4a90d9 2456a8 1b2a52 6a5acd a78bda d35d9a 8e2452 6b3e2e b98b5e e3cfae"
)
PALETTE = tuple(tuple(int(code[i : i + 2], 16) / 255.0 for i in (0, 2, 4)) for code in _PALETTE_CODES.split())


@dataclass(frozen=True)
class Garment:
    """An upper-body garment in its own flat space; lengths are garment units."""

    sleeve: str
    neckline: str
    hem: str
    loose: float
    pattern: str
    colors: tuple[Color, Color, Color]
    period: float
    duty: float
    slant: float
    emblem: str
    sleeve_tint: str
    trimmed: bool
    sleeve_angle: float

    @property
    def sleeve_length(self) -> float:
        """How far the sleeve reaches from the shoulder joint; 0 for none."""
        return SLEEVE_LENGTHS[self.sleeve]

    @property
    def hem_length(self) -> float:
        """How far the torso reaches below the neck's side."""
        return HEM_LENGTHS[self.hem]

    @property
    def sleeve_radii(self) -> tuple[float, float]:
        """The sleeve's half widths at the shoulder joint and at the wrist."""
        return 11.5 + 2.5 * self.loose, 7.5 + 4.0 * self.loose

    @property
    def joint(self) -> tuple[float, float]:
        """Where the sleeve's axis starts, in garment space."""
        radius = self.sleeve_radii[0]
        across = 36.5 + 4.0 * self.loose
        return across, SHOULDER_SLOPE * (across - NECK_HALF) + 1.08 * radius + self.loose

    @property
    def sleeve_axis(self) -> tuple[float, float]:
        """The sleeve's direction in garment space."""
        return sin(radians(self.sleeve_angle)), cos(radians(self.sleeve_angle))

    @cached_property
    def _widths(self) -> Array:
        shoulder = 39.0 + 3.0 * self.loose
        chest, waist, hem = 41.0 + 5 * self.loose, 35.0 + 10 * self.loose, 41.0 + 7 * self.loose
        return tabulate_profile(
            (0, 8, 38, 74, 120, 160), (shoulder, shoulder, chest, waist, hem, hem + 3), PROFILE_SPAN
        )

    @cached_property
    def _armholes(self) -> Array:
        return tabulate_profile((0, 10, 22, 32, 40), (29, 28, 28, 33, 60), PROFILE_SPAN)

    def measure_width(self, v: Array) -> Array:
        """Half width of the torso piece, without armholes, at distance v below the neck's side."""
        return look_up(self._widths, PROFILE_SPAN, v)

    def measure_armhole(self, v: Array) -> Array:
        """Half width the armholes of a sleeveless garment leave at v."""
        return look_up(self._armholes, PROFILE_SPAN, v)

    def measure_opening(self, side: Array, v: Array) -> Array:
        """Signed distance to the front neck opening, negative in it; side is the distance from the middle."""
        half, depth = NECKLINES[self.neckline]
        if self.neckline == "v":
            return (v - np.float32(depth) + side * np.float32(depth / half)) * np.float32(half / np.hypot(half, depth))
        if self.neckline == "square":
            return join_soft(side - np.float32(half), v - np.float32(depth), 3.0)
        return _measure_ellipse_well(side, v, half, depth)

    def measure_neckline(self, u: Array) -> Array:
        """Depth of the front neckline's edge at u; far above the garment beyond the opening."""
        half, depth = NECKLINES[self.neckline]
        return _trace_neckline(self.neckline, np.abs(u) / np.float32(half), depth)


def _measure_ellipse_well(x: Array, y: Array, a: float, b: float) -> Array:
    """Signed distance to an ellipse, true to first order near its edge."""
    k = np.sqrt((x / np.float32(a)) ** 2 + (y / np.float32(b)) ** 2)
    slope = np.sqrt((x / np.float32(a * a)) ** 2 + (y / np.float32(b * b)) ** 2)
    return (k - 1.0) * np.maximum(k, 0.2) / np.maximum(slope, np.float32(0.2 / a))


def _trace_neckline(kind: str, x: Array, depth: float) -> Array:
    inside = np.clip(1.0 - x, 0.0, 1.0)
    if kind == "v":
        edge = depth * inside
    elif kind == "square":
        edge = depth * np.clip(inside * 9.0, 0.0, 1.0)
    else:
        edge = depth * np.sqrt(np.maximum(1.0 - np.minimum(x, 1.0) ** 2, 0.0))
    return np.where(x < 1.0, edge, np.float32(-40.0)).astype(np.float32)


@dataclass(frozen=True)
class Placement:
    """Where a garment lies in its flat picture: picture = offset + zoom * garment."""

    zoom: float
    center: float
    top: float
    half: float
    bottom: float


def place_garment(garment: Garment) -> Placement:
    """Lay the garment in the middle of its picture, as large as the frame allows."""
    across, along = garment.sleeve_axis
    length, cuff = garment.sleeve_length, garment.sleeve_radii[1]
    half = max(48.0 + 7 * garment.loose, garment.joint[0] + length * across + cuff * along)
    bottom = max(garment.hem_length, garment.joint[1] + length * along + cuff * across)
    zoom = min(0.92 * UNITS_WIDE / (2 * half), 0.86 * UNITS_HIGH / (bottom + 4))
    return Placement(zoom, UNITS_WIDE / 2, (UNITS_HIGH - zoom * bottom) / 2, half, bottom)


def pick_garment(rng: np.random.Generator) -> Garment:
    """Draw a garment at random."""
    sleeve = str(rng.choice(list(SLEEVE_LENGTHS), p=(0.18, 0.36, 0.14, 0.32)))
    names, weights = zip(*PATTERNS, strict=True)
    pattern = str(rng.choice(names, p=weights))
    broad = pattern in ("bands", "diagonals", "checks")
    return Garment(
        sleeve=sleeve,
        neckline=str(rng.choice(list(NECKLINES), p=(0.45, 0.25, 0.15, 0.15))),
        hem=str(rng.choice(list(HEM_LENGTHS), p=(0.2, 0.55, 0.25))),
        loose=float(rng.choice((0.0, 0.4, 1.0), p=(0.4, 0.3, 0.3))),
        pattern=pattern,
        colors=_pick_colors(rng),
        period=float(rng.uniform(9, 24) if broad else rng.uniform(9, 16)),
        duty=float(rng.uniform(0.25, 0.55)),
        slant=float(rng.choice((-1.0, 1.0)) * rng.uniform(30, 60)),
        emblem=str(rng.choice(WORDS if pattern == "letters" else LOGOS)),
        sleeve_tint=str(rng.choice(SLEEVE_TINTS, p=(0.68, 0.18, 0.14))),
        trimmed=bool(rng.random() < 0.45),
        sleeve_angle={"none": 20.0, "short": 38.0, "elbow": 29.0, "long": 19.0}[sleeve] + float(rng.uniform(-3, 3)),
    )


def _pick_colors(rng: np.random.Generator) -> tuple[Color, Color, Color]:
    """Pick three colours that stand apart from one another."""
    picked: list[Color] = []
    for index in rng.permutation(len(PALETTE)):
        red, green, blue = PALETTE[index]
        gaps = [abs(red - r) + abs(green - g) + abs(blue - b) for r, g, b in picked]
        if min(gaps, default=9.0) > 0.7:
            picked.append((red, green, blue))
    return picked[0], picked[1], picked[min(2, len(picked) - 1)]

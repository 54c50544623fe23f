"""Head, face and hair."""

from __future__ import annotations

from itertools import pairwise
from math import cos, radians, sin

import numpy as np

from ..labels import Label
from .body import Body, Point
from .canvas import Array, Canvas, Layer, Window, measure_ellipse, measure_limb, shade_color, smooth_step

_HIGH = 24.0
_HAIR_BACK = {
    "short": (), "parted": (), "afro": (), "bun": (),
    "bob": ((0, -2, 1.22, 1.02), (0, 12, 1.18, 0.72)),
    "long": ((0, -2, 1.20, 1.04), (0, 18, 1.26, 1.0), (0, 38, 1.36, 1.0)),
}  # fmt: skip
"""Ellipses behind the head: centre and half axes, the axes in head widths and heights."""
_LOCKS = {
    "bob": ((-3.5, -14, 4.5), (0.6, -2, 3.8), (1.0, 19, 4.6)),
    "long": ((-3.5, -14, 4.5), (0.6, -2, 3.8), (1.6, 22, 5.4), (3.5, 44, 6.0), (1.0, 64, 2.0)),
}
"""Hair beside the face, top to bottom: place beyond the face's side, height, radius."""
Reach = tuple[float, float, float]
_FACE_REACH: Reach = (25.0, 28.0, 28.0)
_HAIR_REACH: dict[str, Reach] = {
    "short": (26, 32, 12), "parted": (26, 32, 12), "afro": (34, 40, 20), "bun": (26, 44, 12),
    "bob": (32, 34, 36), "long": (38, 34, 76),
}  # fmt: skip


def _open_head(body: Body, canvas: Canvas, reach: Reach) -> tuple[Window, Array, Array]:
    """Window about the head, with coordinates turned with it, about the face's middle, size 1."""
    side, up, down_to = (part * body.size for part in reach)
    middle = body.neck_y - 37.0 * body.size
    window = canvas.open_window(body.center - side, middle - up, body.center + side, middle + down_to)
    turn = radians(body.head_tilt)
    x, y = window.x - np.float32(body.center), window.y - np.float32(middle + 24 * body.size)
    unit = np.float32(1.0 / body.size)
    across = (x * np.float32(cos(turn)) + y * np.float32(sin(turn))) * unit
    down = (y * np.float32(cos(turn)) - x * np.float32(sin(turn))) * unit + 24.0
    return window, across, down


def locate_face(body: Body) -> dict[str, Point]:
    """Tell where nose, eyes and ears are, in canvas units; left and right are those of the picture."""
    turn, wide = radians(body.head_tilt), body.head_width / body.size
    places = {"nose": (0.0, 9.0)}
    for name, side in (("left", -1.0), ("right", 1.0)):
        places |= {f"{name} eye": (side * 0.43 * wide, 1.5), f"{name} ear": (side * (wide - 0.5), 3.0)}

    def turn_back(across: float, down: float) -> Point:
        x, y = across * body.size, (down - 24.0) * body.size
        pivot = body.neck_y - 13.0 * body.size
        return body.center + x * cos(turn) - y * sin(turn), pivot + y * cos(turn) + x * sin(turn)

    return {name: turn_back(*place) for name, place in places.items()}


def draw_hair_back(body: Body, canvas: Canvas) -> list[Layer]:
    """The hair behind neck and shoulders."""
    ellipses = _HAIR_BACK[body.hair_style]
    if not ellipses:
        return []
    window, x, y = _open_head(body, canvas, _HAIR_REACH[body.hair_style])
    wide = body.head_width / body.size
    distance = np.minimum.reduce([measure_ellipse(x - u, y - v, a * wide, b * _HIGH) for u, v, a, b in ellipses])
    return [Layer(window, window.cover(distance * body.size), shade_color(body.hair, 0.72), Label.HAIR)]


def draw_neck(body: Body, canvas: Canvas) -> list[Layer]:
    """The neck down into the chest, with the chin's shadow on it."""
    size = body.size
    window = canvas.open_window(body.center - 24, body.neck_y - 40, body.center + 24, body.neck_y + 20)
    x, y = window.x - np.float32(body.center), window.y - np.float32(body.neck_y)
    bent = x + np.float32(0.5 * radians(body.head_tilt)) * np.minimum(y, 0.0)
    flare = 0.5 * np.exp(np.minimum(y + 2, 6.0) / np.float32(3.5))
    distance = np.maximum(np.abs(bent) - (np.float32(8.6 * size) + flare), y - 12.0)
    shade = 1.0 - 0.20 * (1 - smooth_step(-14, 0, y + 0.02 * x * x)) - 0.10 * np.clip(np.abs(bent) / 10, 0, 1) ** 3
    alpha = window.cover(distance) * (1.0 - smooth_step(1, 12, y))
    return [Layer(window, alpha, shade_color(body.skin, shade), Label.SKIN)]


def draw_head(body: Body, canvas: Canvas) -> list[Layer]:
    """Ears, face and the hair in front, over everything else."""
    window, x, y = _open_head(body, canvas, _FACE_REACH)
    wide = body.head_width / body.size
    face = _measure_face(x, y, wide)
    side = np.abs(x)
    ears = measure_ellipse(side - wide + 0.5, y - 3.0, 3.0, 5.2)
    shade = 1.0 - 0.16 * smooth_step(0.55, 1.05, side / np.float32(wide)) ** 2
    layers = [
        _paint(window, body, ears, shade_color(body.skin, 0.86), label=Label.FACE),
        _paint(window, body, face, shade_color(body.skin, shade), label=Label.FACE),
    ]
    return layers + _draw_face(body, window, x, y, wide) + _draw_hair(body, canvas)


def _paint(
    window: Window, body: Body, distance: Array, color: Array, strength: float = 1.0, label: int | None = None
) -> Layer:
    return Layer(window, window.cover(distance * np.float32(body.size)) * np.float32(strength), color, label)


def _draw_face(body: Body, window: Window, x: Array, y: Array, wide: float) -> list[Layer]:
    side = np.abs(x)
    apart = 0.43 * wide
    eye_x, eye_y = side - apart, y - 1.5
    eye = measure_ellipse(eye_x, eye_y, 3.6, 2.1)
    lid = np.abs(measure_ellipse(eye_x, eye_y, 3.8, 2.4)) - 0.45 + np.maximum(eye_y + 0.3, 0.0)
    iris = np.maximum(measure_ellipse(eye_x, eye_y + 0.1, 1.9, 2.0), eye)
    brow = np.abs(y + 5.4 - 0.06 * (eye_x - 0.8) ** 2) - 0.75
    brow = np.maximum(brow, np.abs(eye_x) - 4.4)
    nose = measure_ellipse(side - 1.6, y - 10.3, 1.5, 0.9)
    curve = np.float32(0.03 + 0.035 * body.smile)
    mouth_y = y - 15.2 + curve * x * x
    mouth = np.maximum(np.abs(mouth_y) - 1.5 * np.sqrt(np.maximum(1.0 - (x / 5.8) ** 2, 0.0)), side - 5.8)
    seam = np.maximum(np.abs(mouth_y + 0.2) - 0.3, side - 5.4)
    blush = np.exp(-((side - 0.58 * wide) ** 2 / 14.0 + (y - 9.0) ** 2 / 9.0))
    skin = np.asarray(body.skin, np.float32)
    lip = skin * np.array((0.86, 0.56, 0.56), np.float32)
    dark = np.asarray(body.hair, np.float32) * 0.4 + skin * np.float32(0.14)
    gap = (x * np.float32(0.9) - 1.4, y - 6.0)
    bridge = np.exp(-((gap[0] / 1.3) ** 2 + (gap[1] / 5.0) ** 2))
    return [
        Layer(window, (blush * 0.22).astype(np.float32), skin * np.array((1.0, 0.66, 0.62), np.float32)),
        Layer(window, (bridge * 0.30).astype(np.float32), skin * np.float32(0.80)),
        _paint(window, body, eye, np.array((0.97, 0.97, 0.97), np.float32)),
        _paint(window, body, iris, np.asarray(body.iris, np.float32)),
        _paint(
            window,
            body,
            np.maximum(measure_ellipse(eye_x, eye_y, 0.9, 0.9), eye),
            np.full(3, 0.05, np.float32),
        ),
        _paint(window, body, measure_ellipse(eye_x + 0.6, eye_y + 0.8, 0.45, 0.45), np.ones(3, np.float32)),
        _paint(window, body, lid, dark, 0.9),
        _paint(window, body, brow, dark, 0.85),
        _paint(window, body, nose, skin * np.float32(0.72), 0.65),
        _paint(window, body, mouth, lip),
        _paint(window, body, seam, lip * np.float32(0.66), 0.8),
    ]


def _measure_face(x: Array, y: Array, wide: float) -> Array:
    taper = 1.0 - 0.24 * smooth_step(0.0, 1.0, y / _HIGH)
    return measure_ellipse(x / taper, y, wide, _HIGH)


def _draw_hair(body: Body, canvas: Canvas) -> list[Layer]:
    style = body.hair_style
    window, x, y = _open_head(body, canvas, _HAIR_REACH[style])
    wide = body.head_width / body.size
    side = np.abs(x)
    thick = {"afro": 9.0, "short": 2.4, "bun": 1.8}.get(style, 3.2)
    crown = measure_ellipse(x, y + 1.5, wide + thick, _HIGH + thick)
    if style == "afro":
        crown = crown + 0.7 * np.sin(np.arctan2(y + 6, x) * 22.0)
    hairline = _trace_hairline(style, x, side, wide)
    cap = np.maximum(crown, y - hairline)
    if style in ("bob", "long"):
        cap = np.minimum(cap, _trace_locks(style, side, y, wide))
    if style == "bun":
        cap = np.minimum(cap, measure_ellipse(x, y + _HIGH + 5, 8.5, 7.5))
    gloss = 1.0 + 0.16 * np.exp(-(((y + 15.0 + 0.02 * x * x) / 3.6) ** 2)) * (side < wide + 6)
    strands = 0.05 * np.sin(x * np.float32(1.1) + 0.12 * y) * smooth_step(-18, 0, y)
    shadow = np.exp(-np.maximum(cap, 0.0) * np.float32(0.45)) * window.cover(_measure_face(x, y, wide))
    return [
        Layer(window, (0.20 * shadow).astype(np.float32), shade_color(body.skin, 0.5)),
        _paint(window, body, cap, shade_color(body.hair, (gloss + strands).astype(np.float32)), label=Label.HAIR),
    ]


def _trace_hairline(style: str, x: Array, side: Array, wide: float) -> Array:
    """How far down the hair comes on the forehead and at the temples."""
    edge = smooth_step(0.70, 0.98, side / np.float32(wide))
    if style == "parted":
        return -15.5 + 0.012 * (x + 7) ** 2 - 3.0 * np.exp(-((x + 7) ** 2) / 6.0) + edge * 19.0
    if style == "short":
        return -13.5 - 1.4 * np.cos(x * np.float32(0.22)) + edge * 16.0
    if style == "bun":
        return -15.5 + 0.010 * x * x + edge * 12.0
    return -15.0 + 0.016 * x * x + edge * 20.0


def _trace_locks(style: str, side: Array, y: Array, wide: float) -> Array:
    """Signed distance to the hair falling beside the face, and over the shoulders when long."""
    path = _LOCKS[style]
    bones = [((wide + a[0], a[1]), (wide + b[0], b[1]), (a[2], b[2])) for a, b in pairwise(path)]
    return np.minimum.reduce([measure_limb(side, y, start, end, radii) for start, end, radii in bones])

"""Patterns printed or woven into cloth, and the emblems on its chest."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from math import cos, pi, radians, sin

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .canvas import Array, shade_color
from .garment import Garment

Points = list[tuple[float, float]]


def _cut_stripes(place: Array, period: float, width: float, sharp: float) -> Array:
    """Coverage of stripes of the given width every period; sharp is pixels per garment unit."""
    phase = place / np.float32(period)
    distance = np.abs(phase - np.floor(phase) - 0.5) * np.float32(period) - np.float32(width / 2)
    return np.clip(0.5 - distance * np.float32(sharp), 0.0, 1.0)


def _weave_bands(u: Array, v: Array, g: Garment, sharp: float) -> tuple[Array, Array | None]:
    return _cut_stripes(v + 0 * u, g.period, g.period * g.duty, sharp), None


def _weave_pinstripes(u: Array, v: Array, g: Garment, sharp: float) -> tuple[Array, Array | None]:
    return _cut_stripes(u + 0 * v, g.period, g.period * g.duty * 0.8, sharp), None


def _weave_diagonals(u: Array, v: Array, g: Garment, sharp: float) -> tuple[Array, Array | None]:
    place = u * np.float32(cos(radians(g.slant))) + v * np.float32(sin(radians(g.slant)))
    return _cut_stripes(place, g.period, g.period * g.duty, sharp), None


def _weave_dots(u: Array, v: Array, g: Garment, sharp: float) -> tuple[Array, Array | None]:
    row = np.floor(v / np.float32(g.period) + 0.5)
    x = (u / np.float32(g.period) + 0.5 * (row % 2)) % 1.0 - 0.5
    y = v / np.float32(g.period) - row
    distance = np.sqrt(x * x + y * y) * np.float32(g.period) - np.float32(g.period * (0.14 + 0.3 * g.duty))
    return np.clip(0.5 - distance * np.float32(sharp), 0.0, 1.0), None


def _weave_checks(u: Array, v: Array, g: Garment, sharp: float) -> tuple[Array, Array | None]:
    across = _cut_stripes(u, g.period, g.period / 2, sharp)
    down = _cut_stripes(v, g.period, g.period / 2, sharp)
    return 0.5 * (across + down), None


def _weave_plaid(u: Array, v: Array, g: Garment, sharp: float) -> tuple[Array, Array | None]:
    period = 1.6 * g.period
    across = _cut_stripes(u, period, period * 0.42, sharp)
    down = _cut_stripes(v, period, period * 0.42, sharp)
    fine_across = _cut_stripes(u + np.float32(period / 2), period, 1.8, sharp)
    fine_down = _cut_stripes(v + np.float32(period / 2), period, 1.8, sharp)
    return 0.42 * (across + down), 0.75 * np.maximum(fine_across, fine_down)


def _weave_blocks(u: Array, v: Array, g: Garment, sharp: float) -> tuple[Array, Array | None]:
    tilt = 0.0 if g.duty < 0.38 else 0.35 * np.sign(np.float32(g.slant))
    edge = v + np.float32(tilt) * u
    low = np.clip(0.5 + (edge - 62.0) * np.float32(sharp), 0.0, 1.0)
    return low, np.clip(0.5 - (np.abs(edge - 55.0) - 7.0) * np.float32(sharp), 0.0, 1.0)


_WEAVES: dict[str, Callable[[Array, Array, Garment, float], tuple[Array, Array | None]]] = {
    "bands": _weave_bands,
    "pinstripes": _weave_pinstripes,
    "diagonals": _weave_diagonals,
    "dots": _weave_dots,
    "checks": _weave_checks,
    "plaid": _weave_plaid,
    "blocks": _weave_blocks,
}


def weave_cloth(garment: Garment, u: Array, v: Array, sharp: float) -> Array:
    """Colour cloth at garment coordinates (h, w); gives (h, w, 3) in 0..1."""
    base, accent, third = (np.asarray(color, np.float32) for color in garment.colors)
    weave = _WEAVES.get(garment.pattern)
    if weave is None:
        return np.broadcast_to(base, (*np.broadcast_shapes(u.shape, v.shape), 3)).copy()
    second_weight, third_weight = weave(u, v, garment, sharp)
    cloth = base + second_weight[..., None] * (accent - base)
    if third_weight is not None:
        cloth += third_weight[..., None] * (third - cloth)
    return cloth


def stamp_emblem(cloth: Array, garment: Garment, center: tuple[float, float], sharp: float) -> None:
    """Print the garment's word or logo on the picture (H, W, 3) about center (pixels), in place."""
    if garment.pattern not in ("letters", "logo"):
        return
    half_wide, half_high = int(36 * sharp), int(22 * sharp)
    left, top = int(center[0]) - half_wide, int(center[1]) - half_high
    middle = (4 * (center[0] - left), 4 * (center[1] - top))
    patch = Image.new("L", (8 * half_wide, 8 * half_high))
    pen = ImageDraw.Draw(patch)
    if garment.pattern == "letters":
        size = min(20.0, 82.0 / len(garment.emblem))
        pen.text(middle, garment.emblem, fill=255, font=_load_font(4 * size * sharp), anchor="mm")
    else:
        reach = (13.0 + 12.0 * garment.duty) * 4 * sharp
        corners = [(middle[0] + reach * x, middle[1] + reach * y) for x, y in _outline_logo(garment.emblem)]
        pen.polygon(corners, fill=255)
    mask = np.asarray(patch.reduce(4), np.float32)[..., None] / 255.0
    part = cloth[top : top + mask.shape[0], left : left + mask.shape[1]]
    part += mask[: part.shape[0], : part.shape[1]] * (shade_color(garment.colors[1], 1.0) - part)


@lru_cache(maxsize=256)
def _load_font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


@cache
def _outline_logo(name: str) -> Points:
    """Corners of a logo within the unit circle."""
    turns = [2 * pi * i / 48 for i in range(48)]
    outlines: dict[str, Points] = {
        "circle": [(0.8 * cos(a), 0.8 * sin(a)) for a in turns],
        "star": [((1.0, 0.42)[i % 2] * sin(pi * i / 5), -(1.0, 0.42)[i % 2] * cos(pi * i / 5)) for i in range(10)],
        "heart": [(sin(a) ** 3, -(13 * cos(a) - 5 * cos(2 * a) - 2 * cos(3 * a) - cos(4 * a)) / 15) for a in turns],
        "triangle": [(0.0, -0.85), (0.95, 0.75), (-0.95, 0.75)],
        "mountain": [(-1.2, 0.7), (-0.45, -0.55), (-0.1, 0.0), (0.3, -0.85), (1.2, 0.7)],
    }
    return outlines[name]

"""Scale-free canvas, soft edges and layers; every length is in units of 1/256 of the picture's height."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Color = tuple[float, float, float]

UNITS_HIGH = 256.0
UNITS_WIDE = 192.0


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels with the unit coordinates of their centres: x is (1, w), y is (h, 1)."""

    rows: slice
    columns: slice
    x: Array
    y: Array
    scale: float

    def cover(self, distance: Array) -> Array:
        """Turn signed distances (units, negative inside) into coverage in 0..1, one pixel soft."""
        return np.clip(0.5 - distance * np.float32(self.scale), 0.0, 1.0, dtype=np.float32)


@dataclass(frozen=True)
class Canvas:
    """A picture's size in pixels, and the windows that can be cut out of it."""

    height: int
    width: int

    @property
    def scale(self) -> float:
        """Pixels per unit."""
        return self.height / UNITS_HIGH

    def open_window(self, left: float, top: float, right: float, bottom: float) -> Window:
        """Cut out the pixels of a rectangle given in units, clipped to the picture."""
        rows = _clip_span(top, bottom, self.height, self.scale)
        columns = _clip_span(left, right, self.width, self.scale)
        x = (np.arange(columns.start, columns.stop, dtype=np.float32) + 0.5) / np.float32(self.scale)
        y = (np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5) / np.float32(self.scale)
        return Window(rows, columns, x[None, :], y[:, None], self.scale)

    def open_all(self) -> Window:
        """Cut out the whole picture."""
        return self.open_window(0.0, 0.0, UNITS_WIDE, UNITS_HIGH)


def _clip_span(low: float, high: float, count: int, scale: float) -> slice:
    start = min(max(int(np.floor(low * scale)), 0), count - 1)
    return slice(start, min(max(int(np.ceil(high * scale)), start + 1), count))


@dataclass(frozen=True)
class Layer:
    """Something to lay over a picture: coverage (h, w) and a colour, (3,) or (h, w, 3), in 0..1.

    What has no label is a shade on what lies below, and leaves that its label.
    """

    window: Window
    alpha: Array
    color: Array | Color
    label: int | None = None

    def lay_over(self, picture: Array) -> None:
        """Blend this layer into the picture (H, W, 3) in place."""
        part = picture[self.window.rows, self.window.columns]
        part += self.alpha[..., None] * (np.asarray(self.color, np.float32) - part)


def lay_all(picture: Array, layers: Iterable[Layer]) -> None:
    """Blend layers into the picture in their order, in place."""
    for layer in layers:
        layer.lay_over(picture)


def lay_labels(labels: NDArray[np.uint8], layers: Iterable[Layer]) -> None:
    """Write the labels of layers into a label map (H, W) in their order, in place, where they cover half or more."""
    for layer in layers:
        if layer.label is not None:
            labels[layer.window.rows, layer.window.columns][layer.alpha >= 0.5] = layer.label


def quantize(picture: Array) -> NDArray[np.uint8]:
    """Turn a picture of 0..1 into bytes."""
    return (np.clip(picture, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def shade_color(color: Color, factor: Array | float) -> Array:
    """Multiply a colour by a factor, a number or (h, w); gives (3,) or (h, w, 3)."""
    return np.asarray(factor, np.float32)[..., None] * np.asarray(color, np.float32)


def smooth_step(low: float, high: float, value: Array) -> Array:
    """Rise smoothly from 0 at low to 1 at high."""
    t = np.clip((value - np.float32(low)) / np.float32(high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def join_soft(a: Array, b: Array, radius: float) -> Array:
    """Intersect two signed distances, rounding their corner by the radius."""
    gap = np.maximum(np.float32(radius) - np.abs(a - b), 0.0)
    return np.maximum(a, b) + gap * gap * np.float32(0.25 / radius)


def measure_ellipse(x: Array, y: Array, a: float, b: float) -> Array:
    """Approximate the signed distance to an ellipse about the origin with half axes a and b."""
    return (np.sqrt((x / np.float32(a)) ** 2 + (y / np.float32(b)) ** 2) - 1.0) * np.float32(min(a, b))


def measure_limb(
    x: Array, y: Array, start: tuple[float, float], end: tuple[float, float], radii: tuple[float, float]
) -> Array:
    """Approximate the signed distance to a limb: a capsule whose radius goes linearly along it."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    px, py = x - np.float32(start[0]), y - np.float32(start[1])
    along = np.clip((px * np.float32(dx) + py * np.float32(dy)) / np.float32(dx * dx + dy * dy), 0.0, 1.0)
    away = np.sqrt((px - along * np.float32(dx)) ** 2 + (py - along * np.float32(dy)) ** 2)
    return away - (np.float32(radii[0]) + along * np.float32(radii[1] - radii[0]))


def sample_picture(picture: Array, x: Array, y: Array) -> Array:
    """Read the picture (H, W, 3) bilinearly at points given in units, both (n,); gives (n, 3)."""
    height, width = picture.shape[:2]
    scale = np.float32(height / UNITS_HIGH)
    column = np.clip(x * scale - 0.5, 0.0, width - 1.001)
    row = np.clip(y * scale - 0.5, 0.0, height - 1.001)
    left, top = column.astype(np.int32), row.astype(np.int32)
    across, down = (column - left)[:, None], (row - top)[:, None]
    pixels = picture.reshape(-1, 3)
    index = top * width + left
    upper = pixels.take(index, 0)
    upper += across * (pixels.take(index + 1, 0) - upper)
    lower = pixels.take(index + width, 0)
    lower += across * (pixels.take(index + width + 1, 0) - lower)
    return upper + down * (lower - upper)


def tabulate_profile(positions: Iterable[float], values: Iterable[float], span: float) -> Array:
    """Tabulate a smoothed piecewise-linear profile over 0..span, finely enough to read the nearest entry."""
    grid = np.linspace(0.0, span, 257)
    table = np.interp(grid, list(positions), list(values))
    kernel = np.hanning(23)[1:-1]
    smooth = np.convolve(np.pad(table, 10, mode="edge"), kernel / kernel.sum(), "valid")
    return np.interp(np.linspace(0.0, span, 4097), grid, smooth).astype(np.float32)


def look_up(table: Array, span: float, value: Array) -> Array:
    """Read a tabulated profile at the values, holding its ends."""
    return table.take((value * np.float32((len(table) - 1) / span)).astype(np.intp), mode="clip")

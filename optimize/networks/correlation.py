"""The correlation layer (cost volume): how alike each place of one picture is to the places around it in another.

Method: Dosovitskiy et al., "FlowNet: Learning Optical Flow with Convolutional Networks", ICCV 2015
(https://arxiv.org/abs/1504.06852).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Correlation", "correlate", "correlate_slices"]

TILE = 8
"""Height and width of the squares in which `correlate` works: a choice between idle products and copies."""


class Correlation(nn.Module):
    """Correlate features with those at most `radius` pixels away, as a module that every step can find."""

    def __init__(self, radius: int = 3) -> None:
        super().__init__()
        self.radius = radius

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return (N, (2 * radius + 1)², H, W) from two feature maps (N, C, H, W); see `correlate`."""
        return correlate(first, second, self.radius)


def correlate(first: Tensor, second: Tensor, radius: int = 3) -> Tensor:
    """Return the mean over channels of `first` times `second` shifted by (dy, dx), both (N, C, H, W).

    Channels of the result are the shifts from -radius to radius, dx fastest: (N, (2 * radius + 1)², H, W). Outside
    its picture `second` is zero.

    The pictures are cut into tiles. One matrix product per tile multiplies all its pixels by all that a shift may
    bring there, and of these products those of each pixel's own shifts are picked: more products than are needed,
    but no copy of the features per shift, and every runtime has them.
    `vtopt bench correlation` measures it beside other forms.
    """
    count, channels, height, width = first.shape
    side, window = 2 * radius + 1, TILE + 2 * radius
    rows, columns = (height + TILE - 1) // TILE, (width + TILE - 1) // TILE
    pixels = _cut_tiles(first, rows, columns, TILE, 0)
    around = _cut_tiles(second, rows, columns, window, radius)
    products = (pixels @ around.transpose(2, 3)).flatten(2)
    picked = products.index_select(2, _list_shifts(side, window).to(first.device)) / channels
    tiles = picked.reshape(count, rows, columns, side * side, TILE, TILE).permute(0, 3, 1, 4, 2, 5)
    return tiles.reshape(count, side * side, rows * TILE, columns * TILE)[:, :, :height, :width]


def _cut_tiles(features: Tensor, rows: int, columns: int, side: int, margin: int) -> Tensor:
    """Return squares of `side` pixels, one per tile and `margin` pixels before it: (N, tiles, side², C).

    All pixels outside the picture are one row of zeros after its own: neither a padding, which the exporter
    cannot write for older opsets, nor many zeros in the exported file.
    """
    count, channels, height, width = features.shape
    y = (_count(rows) * TILE - margin).view(-1, 1, 1, 1) + _count(side).view(1, 1, -1, 1)
    x = (_count(columns) * TILE - margin).view(1, -1, 1, 1) + _count(side).view(1, 1, 1, -1)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    places = torch.where(inside, y * width + x, height * width).flatten().to(features.device)
    pixels = features.flatten(2).transpose(1, 2)
    pixels = torch.cat([pixels, pixels.new_zeros(count, 1, channels)], 1)
    return pixels.index_select(1, places).reshape(count, rows * columns, side * side, channels)


def _list_shifts(side: int, window: int) -> Tensor:
    """Return where the products of a tile's pixels with their own shifts are: shift by shift, pixel by pixel."""
    y, x, shifts = _count(TILE).view(-1, 1), _count(TILE), _count(side)
    pixel = (y * TILE + x) * window * window
    at = (y + shifts.view(-1, 1, 1, 1)) * window + x + shifts.view(-1, 1, 1)
    return (pixel + at).flatten()


def _count(end: int) -> Tensor:
    """Return 0 to `end` - 1, as the exported file holds indices: at half of the usual size."""
    return torch.arange(end, dtype=torch.int32)


def correlate_slices(first: Tensor, second: Tensor, radius: int = 3) -> Tensor:
    """Return the same as `correlate`, plainly: one shifted copy, one product and one mean per shift."""
    height, width = first.shape[2:]
    padded = F.pad(second, (radius,) * 4)
    shifts = range(2 * radius + 1)
    return torch.cat(
        [
            (first * padded[:, :, dy : dy + height, dx : dx + width]).mean(1, keepdim=True)
            for dy in shifts
            for dx in shifts
        ],
        1,
    )

"""The warp: sampling features at flow-given places, as a module of its own so that every step can find it.

Grids are normalised as `torch.nn.functional.grid_sample` with align_corners False reads them. SDAFN's
offsets, however, are pixels scaled by 2 / (size - 1), as its authors do; both are kept as published.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "DeformableAttentionWarp",
    "compose_grids",
    "estimate_offsets",
    "offsets_to_grids",
    "sample_clamped",
    "sample_features",
]


def sample_features(
    features: Tensor, grids: Tensor, heads: int = 1, *, outside: str = "border", align_corners: bool = False
) -> Tensor:
    """Sample `features` (N, C, H, W) bilinearly at `grids` (N * heads, 2, H', W'), as every warp does.

    Returns (N, C, heads * H', W'): heads are stacked along the height. `outside` is "border", which repeats, or
    "zeros"; `align_corners` is how the grids are to be read.

    It only calls `sample_clamped`, by its place in this module: what is put there is what all networks sample by.
    """
    return sample_clamped(features, grids, heads, outside, align_corners)


def sample_clamped(features: Tensor, grids: Tensor, heads: int, outside: str, align_corners: bool) -> Tensor:
    """Sample as `sample_features` says, by the one form of grid_sample that has a fast kernel in onnxruntime.

    That is zero padding with align_corners False. Grids for True are scaled to those for False, and a clamped grid
    with zero padding equals padding_mode="border" for bilinear sampling.
    """
    height, width = features.shape[2:]
    limit = torch.tensor([1 - 1 / width, 1 - 1 / height], dtype=grids.dtype, device=grids.device).view(1, 2, 1, 1)
    if align_corners:
        grids = grids * limit
    if outside == "border":
        grids = torch.minimum(torch.maximum(grids, -limit), limit)
    points = grids.permute(0, 2, 3, 1)
    if heads > 1:
        points = points.reshape(-1, heads * grids.shape[2], grids.shape[3], 2)
    return F.grid_sample(features, points, mode="bilinear", padding_mode="zeros", align_corners=False)


def estimate_offsets(head: nn.Module, features: Tensor) -> Tensor:
    """Return what a head makes of features (N, C, H, W): offsets, and what it makes beside them.

    A head is one layer, or several in a Sequential. Under autocast the last is run in float32 all the same, as half
    precision would round places by whole pixels.
    """
    device = features.device.type
    if not torch.is_autocast_enabled(device):
        return head(features)
    *layers, last = head if isinstance(head, nn.Sequential) else (head,)
    for layer in layers:
        features = layer(features)
    with torch.autocast(device, enabled=False):
        return last(features.float())


def offsets_to_grids(offsets: Tensor) -> Tensor:
    """Turn pixel offsets (N, 2K, H, W), x before y, into normalised grids (N * K, 2, H, W).

    It calls `place_offsets` by its place in this module, as `sample_features` does what samples.
    """
    return place_offsets(offsets.reshape(-1, 2, *offsets.shape[2:]))


def place_offsets(offsets: Tensor) -> Tensor:
    """Add pixel offsets (N, 2, H, W) to where their pixels are, normalised to [-1, 1].

    Columns and rows are added one after the other: two vectors, where their sum is a constant of 2 H W numbers
    that every exported file would hold.
    """
    height, width = offsets.shape[2:]
    like = {"dtype": offsets.dtype, "device": offsets.device}
    columns, rows = torch.zeros(1, 2, 1, width, **like), torch.zeros(1, 2, height, 1, **like)
    columns[0, 0, 0] = torch.linspace(-1, 1, width, **like)
    rows[0, 1, :, 0] = torch.linspace(-1, 1, height, **like)
    scale = torch.tensor([2 / (width - 1), 2 / (height - 1)], **like).view(1, 2, 1, 1)
    return offsets * scale + columns + rows


def compose_grids(before: Tensor | None, grids: Tensor) -> Tensor:
    """Return `before` sampled at `grids`, both (N * K, 2, H, W); `grids` itself when nothing came before."""
    if before is None:
        return grids
    return sample_features(before, grids)


class DeformableAttentionWarp(nn.Module):
    """Sample the same features at K places per pixel and add them, weighted by attention.

    The K grids are stacked along the height, so one sampling serves all heads and the features are
    never copied (the public code repeats them K times with repeat_interleave).
    """

    def forward(self, features: Tensor, grids: Tensor, attention: Tensor) -> Tensor:
        """Return (N, C, H, W) from features (N, C, H, W), grids (N * K, 2, H, W), attention (N, K, H, W)."""
        channels = features.shape[1]
        heads, height, width = attention.shape[1:]
        sampled = sample_features(features, grids, heads).reshape(-1, channels, heads, height, width)
        return (sampled * attention.unsqueeze(1)).sum(2)

"""The correlation layer (cost volume): how alike each place of one picture is to the places around it in another.

Method: Dosovitskiy et al., "FlowNet: Learning Optical Flow with Convolutional Networks", ICCV 2015, and Sun et al.,
"PWC-Net", CVPR 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Correlation", "correlate_slices"]


class Correlation(nn.Module):
    """Correlate features with those at most `radius` pixels away, as a module that every step can find."""

    def __init__(self, radius: int = 3) -> None:
        super().__init__()
        self.radius = radius

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return (N, (2 * radius + 1)², H, W) from two feature maps (N, C, H, W); see `correlate_slices`."""
        return correlate_slices(first, second, self.radius)


def correlate_slices(first: Tensor, second: Tensor, radius: int = 3) -> Tensor:
    """Return the mean over channels of `first` times `second` shifted by (dy, dx), both (N, C, H, W).

    Channels of the result are the shifts from -radius to radius, dx fastest: (N, (2 * radius + 1)², H, W). Outside
    its picture `second` is zero.
    """
    height, width = first.shape[2:]
    padded = F.pad(second, (radius,) * 4)
    shifts = [(dy, dx) for dy in range(2 * radius + 1) for dx in range(2 * radius + 1)]
    return torch.cat(
        [(first * padded[:, :, dy : dy + height, dx : dx + width]).mean(1, keepdim=True) for dy, dx in shifts], 1
    )

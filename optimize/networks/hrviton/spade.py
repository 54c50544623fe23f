"""SPADE: a normalisation whose scale and shift are drawn over the picture by a segmentation.

Method: Park et al., "Semantic Image Synthesis with Spatially-Adaptive Normalization", CVPR 2019
(https://arxiv.org/abs/1903.07291), with instance norms and noise as HR-VITON has them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm

__all__ = ["SpadeBlock", "SpadeNorm", "draw_noise"]

HIDDEN = 128
LEAKY_SLOPE = 0.2


class SpadeNorm(nn.Module):
    """Normalise every channel of every picture, then scale and shift each pixel as its class asks.

    With `noise_seed` the same noise, one number per pixel, is added to every channel at the scale that it learned:
    the noise depends on the seed and the size alone. Without, none is added.
    """

    def __init__(self, channels: int, classes: int, noise_seed: Sequence[int] | None = None) -> None:
        super().__init__()
        self.noise_seed = noise_seed
        self.noise_scale = nn.Parameter(torch.zeros(channels))
        self.conv_shared = nn.Sequential(nn.Conv2d(classes, HIDDEN, 3, padding=1), nn.ReLU())
        self.conv_gamma = nn.Conv2d(HIDDEN, channels, 3, padding=1)
        self.conv_beta = nn.Conv2d(HIDDEN, channels, 3, padding=1)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return (N, channels, H, W) from features of that shape and labels (N, classes, H, W)."""
        if self.noise_seed is not None:
            # Tied to x, or simplifiers would multiply constants and store as many numbers as x has.
            noise = draw_noise(self.noise_seed, *x.shape[2:]).to(x) + 0 * x[:, :1]
            x = x + noise * self.noise_scale.view(1, -1, 1, 1)
        shared = self.conv_shared(labels)
        return F.instance_norm(x) * (1 + self.conv_gamma(shared)) + self.conv_beta(shared)


class SpadeBlock(nn.Module):
    """Two spectrally normalised convolutions behind SPADE norms, and a way around them, normalised where it must."""

    def __init__(
        self, in_channels: int, out_channels: int, classes: int, noise_seed: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        middle = min(in_channels, out_channels)
        self.widens = in_channels != out_channels
        self.conv_0 = spectral_norm(nn.Conv2d(in_channels, middle, 3, padding=1))
        self.conv_1 = spectral_norm(nn.Conv2d(middle, out_channels, 3, padding=1))
        if self.widens:
            self.conv_s = spectral_norm(nn.Conv2d(in_channels, out_channels, 1, bias=False))

        def make_norm(channels: int, place: int) -> SpadeNorm:
            return SpadeNorm(channels, classes, None if noise_seed is None else (*noise_seed, place))

        self.norm_0 = make_norm(in_channels, 0)
        self.norm_1 = make_norm(middle, 1)
        if self.widens:
            self.norm_s = make_norm(in_channels, 2)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return (N, out_channels, H, W) from (N, in_channels, H, W) and labels (N, classes, H, W)."""
        straight = self.conv_s(self.norm_s(x, labels)) if self.widens else x
        x = self.conv_0(F.leaky_relu(self.norm_0(x, labels), LEAKY_SLOPE))
        return straight + self.conv_1(F.leaky_relu(self.norm_1(x, labels), LEAKY_SLOPE))


def draw_noise(seed: Sequence[int], height: int, width: int) -> Tensor:
    """Return standard normal noise (1, 1, height, width), a constant to every exporter; one seed, one noise."""
    generator = np.random.Generator(np.random.PCG64(list(seed)))
    return torch.tensor(generator.standard_normal((1, 1, height, width), dtype=np.float32))

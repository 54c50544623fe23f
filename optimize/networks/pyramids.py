"""Feature pyramids of appearance-flow networks: a picture's features at every scale, all of one width.

Method: Ge et al., "Parser-Free Virtual Try-on via Distilling Appearance Flows", CVPR 2021
(https://arxiv.org/abs/2103.04559), and before it Lin et al., "Feature Pyramid Networks for Object Detection",
CVPR 2017. State-dict names are those of the published networks.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["FeatureEncoder", "RefinePyramid"]


class FeatureEncoder(nn.Module):
    """Encode a picture (N, in_channels, H, W) to one feature map per width, each half the size of the one before."""

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(
            nn.Sequential(_DownSample(before, width), _ResidualBlock(width), _ResidualBlock(width))
            for before, width in zip((in_channels, *widths), widths, strict=False)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features, finest first."""
        features = []
        for encoder in self.encoders:
            x = encoder(x)
            features.append(x)
        return features


class RefinePyramid(nn.Module):
    """Bring all levels to one width, coarse to fine (a feature pyramid network)."""

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__()
        self.adaptive = nn.ModuleList(nn.Conv2d(width, dim, 1) for width in reversed(widths))
        self.smooth = nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1) for _ in widths)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the refined features, coarsest first, from features finest first."""
        refined: list[Tensor] = []
        for feature, adaptive, smooth in zip(reversed(features), self.adaptive, self.smooth, strict=True):
            x = adaptive(feature)
            if refined:
                x = x + F.interpolate(refined[-1], scale_factor=2.0, mode="nearest")
            refined.append(smooth(x))
        return refined


class _DownSample(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(*_norm_relu_conv(in_channels, out_channels, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(*_norm_relu_conv(channels, channels), *_norm_relu_conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + x


def _norm_relu_conv(in_channels: int, out_channels: int, stride: int = 1) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
    return nn.BatchNorm2d(in_channels), nn.ReLU(), conv

"""PF-AFN's generator: a U-Net (Ronneberger et al., MICCAI 2015) with residual blocks at every scale.

The levels lie in each other, and with them the names in the state dict: `model.model.4.model.5. ...`
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["build_res_unet"]


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            _conv(channels, channels),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            _conv(channels, channels),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.block(x) + x)


class _Level(nn.Module):
    """Halve the size, run the levels below, double it again; inside the outermost its input goes along."""

    def __init__(self, layers: list[nn.Module], *, skip: bool = True) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        made = self.model(x)
        return torch.cat([x, made], 1) if self.skip else made


def build_res_unet(in_channels: int, out_channels: int, widths: tuple[int, ...]) -> nn.Module:
    """Return the network (N, in_channels, H, W) -> (N, out_channels, H, W), nothing limiting its values.

    `widths` are the channels after each halving, at least two; H and W must be divisible by 2 ** len(widths).
    """
    level = _Level([*_halve(widths[-2], widths[-1], norm=False), *_double(widths[-1], widths[-2])])
    for outer, inner in reversed(list(pairwise(widths[:-1]))):
        level = _Level([*_halve(outer, inner), level, *_double(2 * inner, outer)])
    first, last = _halve(in_channels, widths[0], norm=False), [_nearest(), _conv(2 * widths[0], out_channels)]
    return _Level([*first, level, *last], skip=False)


def _halve(before: int, after: int, *, norm: bool = True) -> list[nn.Module]:
    norms: list[nn.Module] = [nn.BatchNorm2d(after)] if norm else []
    return [_conv(before, after, stride=2), *norms, nn.ReLU(), _ResidualBlock(after), _ResidualBlock(after)]


def _double(before: int, after: int) -> list[nn.Module]:
    blocks = (_ResidualBlock(after), _ResidualBlock(after))
    return [_nearest(), _conv(before, after), nn.BatchNorm2d(after), nn.ReLU(), *blocks]


def _nearest() -> nn.Module:
    return nn.Upsample(scale_factor=2, mode="nearest")


def _conv(before: int, after: int, stride: int = 1) -> nn.Module:
    return nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)

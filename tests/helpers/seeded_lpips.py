"""LPIPS weights drawn from a seed, in the layouts of torchvision and of the published linear weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

__all__ = ["Weights", "draw_weights", "save_weights"]

Weights = dict[str, Tensor]

WIDTHS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}
ALEX = {0: (3, 64, 11), 3: (64, 192, 5), 6: (192, 384, 3), 8: (384, 256, 3), 10: (256, 256, 3)}
"""Where torchvision's alexnet has convolutions, and their shapes."""
VGG_PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
VGG_WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
VGG = dict(zip(VGG_PLACES, zip((3, *VGG_WIDTHS), VGG_WIDTHS, (3,) * len(VGG_WIDTHS), strict=False), strict=True))


def draw_weights(name: str) -> tuple[Weights, Weights]:
    """Return random weights of the trunk, "alex" or "vgg", and of the compared channels."""
    draws = torch.Generator().manual_seed(0)
    trunk = {"classifier.1.weight": torch.zeros(4, 4)}  # not needed
    for place, (before, width, kernel) in (ALEX if name == "alex" else VGG).items():
        deviation = (2 / (before * kernel**2)) ** 0.5
        trunk[f"features.{place}.weight"] = deviation * torch.randn(width, before, kernel, kernel, generator=draws)
        trunk[f"features.{place}.bias"] = 0.1 * torch.randn(width, generator=draws)
    linear = {
        f"lin{index}.model.1.weight": torch.rand(1, width, 1, 1, generator=draws)
        for index, width in enumerate(WIDTHS[name])
    }
    return trunk, linear


def save_weights(weights: tuple[Weights, Weights], folder: Path) -> tuple[Path, Path]:
    """Save trunk and linear weights as files of their own."""
    paths = folder / "trunk.pth", folder / "linear.pth"
    for tensors, path in zip(weights, paths, strict=True):
        torch.save(tensors, path)
    return paths

"""A small convolutional network whose weights are drawn from a fixed seed: features where no weights are at hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["FEATURES", "SIDE", "RandomNetwork"]

SIDE = 128
"""Height and width of the pictures it takes, in pixels."""
WIDTHS = (16, 32, 64, 128)
FEATURES = sum(WIDTHS)
SEED = 0


class RandomNetwork(nn.Module):
    """Returns features (N, 240) of pictures (N, 3, 128, 128): the mean of every channel of its four layers."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, *WIDTHS)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False) for before, width in pairwise(widths)
        )
        # RandomState, unlike numpy's and torch's generators, draws the same numbers in every version.
        draws = np.random.RandomState(SEED)
        for parameter in self.parameters():
            deviation = np.sqrt(2 / parameter[0].numel())
            values = deviation * draws.standard_normal(tuple(parameter.shape))
            parameter.data = torch.from_numpy(values.astype(np.float32))

    def forward(self, pictures: Tensor) -> Tensor:
        features, means = pictures, []
        for layer in self.layers:
            features = layer(features).relu()
            means.append(features.mean(dim=(2, 3)))
        return torch.cat(means, dim=1)

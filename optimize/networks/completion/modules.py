"""What a stage of completion is made of: an encoder of garments to codes, a generator, and a discriminator.

The layers and widths are those of the networks for 256x256 of Zheng et al., "Pluralistic Image Completion", CVPR 2019
(https://arxiv.org/abs/1903.04227), with a code of 8 channels, and an encoder of its own for the generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...data.derived import CODE_CHANNELS
from ..settings import Count
from .blocks import LEAKY_SLOPE, Attention, Block, FirstBlock, GrowingBlock, make_conv, make_head

__all__ = ["Code", "Discriminator", "Generator", "VariationalEncoder", "Widths"]

ATTENTION_LEVEL = 2
"""Attention is behind this block of the decoder, counted from 1, and looks at the encoder's features of that size."""


@dataclass(frozen=True)
class Widths:
    """Every width of a stage; the defaults are the published ones."""

    first: Count = 32
    most: Count = 128
    levels: Count = 5
    """How often height and width are halved; at least 3."""
    code: Count = CODE_CHANNELS
    scales: Count = 4
    """At how many sizes the generator makes its output, each twice the one before."""

    @property
    def features(self) -> list[int]:
        """The channels of an encoder's features, finest first."""
        return [min(self.first * 2**level, self.most) for level in range(self.levels)]


class Code(NamedTuple):
    """A normal distribution for every place of the coarsest level: (N, code, H, W) both."""

    mean: Tensor
    std: Tensor


class _Pyramid(nn.Module):
    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.first = FirstBlock(in_channels, widths[0])
        self.blocks = nn.ModuleList(Block(before, width, before, halve=True) for before, width in pairwise(widths))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of every level, finest first; the first has half the height and width."""
        features = [self.first(x)]
        for block in self.blocks:
            features.append(block(features[-1]))
        return features


class VariationalEncoder(nn.Module):
    """Encode pictures to a distribution of codes."""

    def __init__(self, in_channels: int, widths: Widths) -> None:
        super().__init__()
        deepest = widths.features[-1]
        self.channels = widths.code
        self.pyramid = _Pyramid(in_channels, widths.features)
        self.code = Block(deepest, 2 * widths.code, deepest)

    def forward(self, x: Tensor) -> Code:
        """Return the distribution of the codes of `x` (N, C, H, W), at the coarsest level's height and width."""
        found = self.code(self.pyramid(x)[-1])
        return Code(found[:, : self.channels], F.softplus(found[:, self.channels :]))


class Generator(nn.Module):
    """Complete what has a hole, after a code: a residual encoder and decoder with attention.

    The code is lifted to features and added to the encoder's, and enters the decoder beside them once more.
    """

    def __init__(self, in_channels: int, out_channels: int, widths: Widths, activation: nn.Module) -> None:
        super().__init__()
        features = widths.features
        deepest = features[-1]
        self.encoder = _Pyramid(in_channels, features)
        self.lift = Block(widths.code, deepest, deepest)
        made = features[::-1]
        self.first_scale = widths.levels - widths.scales
        extra = [widths.code, *(out_channels if level > self.first_scale else 0 for level in range(1, widths.levels))]
        self.decoder = nn.ModuleList(
            GrowingBlock(before + more, width)
            for before, more, width in zip((deepest, *made), extra, made, strict=False)
        )
        self.heads = nn.ModuleList(make_head(width, out_channels) for width in made[self.first_scale :])
        self.attention = Attention(made[ATTENTION_LEVEL - 1], features[-1 - ATTENTION_LEVEL])
        self.activation = activation

    def forward(self, x: Tensor, hole: Tensor, code: Tensor) -> list[Tensor]:
        """Return the output at every scale, coarsest first; the last has the height and width of `x` (N, C, H, W).

        `hole` (N, 1, H, W) is 1 where something is missing, `code` is at the coarsest level's height and width.
        """
        features = self.encoder(x)
        y = torch.cat([features[-1] + self.lift(code), code], 1)
        outputs: list[Tensor] = []
        for level, block in enumerate(self.decoder):
            y = block(torch.cat([y, outputs[-1]], 1) if outputs else y)
            if level == ATTENTION_LEVEL - 1:
                encoded = features[-1 - ATTENTION_LEVEL]
                y = self.attention(y, encoded, F.interpolate(hole, size=encoded.shape[2:], mode="nearest"))
            if level >= self.first_scale:
                outputs.append(self.activation(self.heads[level - self.first_scale](y)))
        return outputs


class Discriminator(nn.Module):
    """Tell real pictures or layouts from made ones; for training."""

    def __init__(self, in_channels: int, widths: Widths) -> None:
        super().__init__()
        features = widths.features
        self.first = FirstBlock(in_channels, features[0])
        self.blocks = nn.ModuleList(Block(before, width, before, halve=True) for before, width in pairwise(features))
        self.attention = Attention(features[ATTENTION_LEVEL])
        self.last = Block(features[-1], features[-1], features[-1])
        self.verdict = make_conv(features[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return a verdict for every place of the coarsest level, (N, 1, H, W): the higher, the more real."""
        y = self.first(x)
        for level, block in enumerate(self.blocks):
            y = block(self.attention(y) if level == ATTENTION_LEVEL else y)
        return self.verdict(F.leaky_relu(self.last(y), LEAKY_SLOPE))

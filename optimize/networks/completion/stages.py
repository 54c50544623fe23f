"""The two stages of fashion completion, and both in one: a layout is completed, then the picture in that layout.

Method: two stages with two encoders each, in the manner of Han et al., "FiNet: Compatible and Diverse Fashion Image
Inpainting", ICCV 2019 (https://arxiv.org/abs/1902.01096). docs/completion.md says what is published and what is chosen.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ...data.derived import GARMENT_CHANNELS
from ...data.labels import LAYOUT_COLORS
from .modules import Code, Generator, VariationalEncoder, Widths

__all__ = [
    "CLASSES",
    "REPRESENTATION_CHANNELS",
    "Completion",
    "Sampling",
    "ShapeStage",
    "TextureStage",
    "TrainingPass",
    "measure_divergence",
]

CLASSES = ("background", "hair", "face", "top", "bottom", "arms", "legs", "shoes")
"""The layout's channels, in their order."""

REPRESENTATION_CHANNELS = 19
"""A map for each of 18 joints, and the silhouette."""

PICTURE_CHANNELS = 3

Sampling = Literal["mean", "seeded", "explicit", "garment"]
"""Where a code comes from:

- mean: the mean of what goes with the other garments;
- seeded: a draw from that, the same for a seed; one number for each channel of the code holds for the whole picture;
- explicit: the same with standard normal numbers from a further input `z`;
- garment: the mean of the garment in a further input `clothes`, so that this garment is put on.
"""


class TrainingPass(NamedTuple):
    """What a stage makes of a person who wears the garment, for losses."""

    outputs: list[Tensor]
    """What the generator makes from the garment's own code, at every scale, coarsest first."""
    garment: Code
    outfit: Code
    """What goes with the other garments."""


class _Stage(nn.Module):
    """A generator, the encoder of the garment to be, and that of the garments that it must go with."""

    unit: Tensor

    def __init__(self, generator: Generator, widths: Widths, sampling: Sampling, seed: int) -> None:
        super().__init__()
        self.generator = generator
        self.encoder = VariationalEncoder(PICTURE_CHANNELS, widths)
        self.compatibility = VariationalEncoder(GARMENT_CHANNELS, widths)
        self.sampling: Sampling = sampling
        self.shrink = 2**widths.levels
        drawn = torch.randn(1, widths.code, 1, 1, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("unit", drawn, persistent=False)

    def choose_code(self, garments: Tensor, given: Tensor | None) -> Tensor:
        """Return the code (N, code, H, W) as `sampling` says; `given` is the input `z` or `clothes`."""
        if self.sampling == "garment":
            return self.encoder(_require(given, self.sampling)).mean
        mean, std = self.compatibility(garments)
        if self.sampling == "mean":
            return mean
        if self.sampling == "seeded":
            return mean + std * self.unit
        return mean + std * _require(given, self.sampling)[:, :, :: self.shrink, :: self.shrink]

    def _train_on(self, x: Tensor, hole: Tensor, garments: Tensor, clothes: Tensor) -> TrainingPass:
        garment, outfit = self.encoder(clothes), self.compatibility(garments)
        code = garment.mean + garment.std * torch.randn_like(garment.std)
        return TrainingPass(self.generator(x, hole, code), garment, outfit)


def _require(given: Tensor | None, sampling: str) -> Tensor:
    if given is None:
        raise ValueError(f"sampling '{sampling}' needs one more input than was given")
    return given


class ShapeStage(_Stage):
    """Complete a layout of 8 classes for a person."""

    palette: Tensor

    def __init__(self, widths: Widths, sampling: Sampling = "mean", seed: int = 0) -> None:
        channels = len(CLASSES)
        generator = Generator(channels + REPRESENTATION_CHANNELS, channels, widths, nn.Softmax(1))
        super().__init__(generator, widths, sampling, seed)
        colours = torch.tensor(LAYOUT_COLORS, dtype=torch.float32).T / 127.5 - 1
        self.register_buffer("palette", colours, persistent=False)

    def forward(
        self, layout: Tensor, representation: Tensor, hole: Tensor, garments: Tensor, given: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the completed layout as a picture (N, 3, H, W) in [-1, 1], and its shares of classes (N, 8, H, W).

        `layout` (N, 8, H, W) is 1 in each pixel's class, `representation` (N, 19, H, W) in [0, 1], `hole`
        (N, 1, H, W) is 1 where the layout is to be made, `garments` (N, 12, H, W) in [-1, 1]; what is in the hole is
        not read.
        """
        made = self.generator(self._join(layout, representation, hole), hole, self.choose_code(garments, given))[-1]
        completed = hole * made + (1 - hole) * layout
        return self.paint(completed), completed

    def forward_training(
        self, layout: Tensor, representation: Tensor, hole: Tensor, garments: Tensor, clothes: Tensor
    ) -> TrainingPass:
        """Return what losses need; `clothes` (N, 3, H, W) is the garment whose shape is hidden."""
        return self._train_on(self._join(layout, representation, hole), hole, garments, clothes)

    def paint(self, layout: Tensor) -> Tensor:
        """Return shares of classes (N, 8, H, W) as a picture (N, 3, H, W) in the colours of `LAYOUT_COLORS`."""
        return torch.nn.functional.conv2d(layout, self.palette[:, :, None, None])

    def _join(self, layout: Tensor, representation: Tensor, hole: Tensor) -> Tensor:
        return torch.cat([(1 - hole) * layout, representation], 1)


class TextureStage(_Stage):
    """Complete a picture; the layout's colours stand where it is to be made."""

    def __init__(self, widths: Widths, sampling: Sampling = "mean", seed: int = 0) -> None:
        generator = Generator(PICTURE_CHANNELS, PICTURE_CHANNELS, widths, nn.Tanh())
        super().__init__(generator, widths, sampling, seed)

    def forward(
        self, person: Tensor, painted_layout: Tensor, hole: Tensor, garments: Tensor, given: Tensor | None = None
    ) -> Tensor:
        """Return the completed picture (N, 3, H, W) in [-1, 1].

        `person` and `painted_layout` are (N, 3, H, W) in [-1, 1]; `hole` (N, 1, H, W) is 1 where the picture is to
        be made, `garments` (N, 12, H, W) in [-1, 1]; what of the person is in the hole is not read.
        """
        made = self.generator(self._join(person, painted_layout, hole), hole, self.choose_code(garments, given))[-1]
        return self._join(person, made, hole)

    def forward_training(
        self, person: Tensor, painted_layout: Tensor, hole: Tensor, garments: Tensor, clothes: Tensor
    ) -> TrainingPass:
        """Return what losses need; `clothes` (N, 3, H, W) is the garment that is hidden."""
        return self._train_on(self._join(person, painted_layout, hole), hole, garments, clothes)

    def _join(self, person: Tensor, inside: Tensor, hole: Tensor) -> Tensor:
        return hole * inside + (1 - hole) * person


class Completion(nn.Module):
    """Both stages, one after the other."""

    def __init__(self, shape: ShapeStage, texture: TextureStage) -> None:
        super().__init__()
        self.shape = shape
        self.texture = texture

    def forward(
        self,
        person: Tensor,
        layout: Tensor,
        representation: Tensor,
        hole: Tensor,
        garments: Tensor,
        given: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the completed picture (N, 3, H, W) in [-1, 1], and its layout's shares of classes (N, 8, H, W).

        The inputs are those of the stages; `layout` is (N, 8, H, W) with shares of classes, and the hole is one and the
        same for layout and picture.
        """
        painted, completed = self.shape(layout, representation, hole, garments, given)
        return self.texture(person, painted, hole, garments, given), completed


def measure_divergence(code: Code, wanted: Code) -> Tensor:
    """Return the Kullback-Leibler divergence of `code` from `wanted`, in nats: the mean over all numbers of a code."""
    from torch.distributions import Normal, kl_divergence

    return kl_divergence(Normal(*code), Normal(*wanted)).mean()

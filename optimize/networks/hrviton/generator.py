"""The image generator: the person in the warped garment, from a segmentation and pictures of what is known.

Method: Lee et al., "High-Resolution Virtual Try-On with Misalignment and Occlusion-Handled Conditions", ECCV 2022
(https://arxiv.org/abs/2206.14180): SPADE blocks, each at twice the size of the one before, that all see the pictures.
Module names are those of the public code, so its checkpoints load as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..registry import DRESSES, InputSpec, Network
from ..settings import Count, Seed, Sides, make_config
from .spade import LEAKY_SLOPE, SpadeBlock

__all__ = ["GeneratorConfig", "ImageGenerator", "build_hrviton_gen", "find_notice"]

BLOCKS = {"head_0": 16, "G_middle_0": 16, "G_middle_1": 16, "up_0": 8, "up_1": 4, "up_2": 2, "up_3": 1, "up_4": 0.5}
"""Name of a block, coarsest first -> its channels in units of the width."""

_COARSE = 3

PARTS = {
    "middle": (*list(BLOCKS)[:_COARSE], *(f"conv_{level}" for level in range(_COARSE))),
    "decoder": (*list(BLOCKS)[_COARSE:], *(f"conv_{level}" for level in range(_COARSE, len(BLOCKS))), "conv_img"),
}
"""What may be pruned by a ratio of its own; what sees the pictures at a size goes with the block of that size."""

ALIASES = {r"\b(?:ace|alias)_(?=[01s]\b)": "norm_", r"\.Spade\b": ""}
"""Names that the normalisations had in weights of the authors' and in those of networks that theirs came from."""

NO_NOISE = "its public code adds noise to every picture and none is added here; vtopt strip --noise SEED keeps some"

FEATURES = 16
"""Channels that the pictures are given at every size but the coarsest."""


@dataclass(frozen=True)
class GeneratorConfig:
    """Every width of the network; the defaults are the published ones."""

    width: Count = 64
    picture_channels: Count = 9
    classes: Count = 7
    size: Sides = (1024, 768)
    """Height and width to export at, where none are asked for."""
    noise_seed: Seed = None
    """Seeds the noise of the normalisations; none is added without."""

    @property
    def multiple_of(self) -> int:
        """Height and width must be divisible by this, one doubling per block but the first."""
        return 2 ** (len(BLOCKS) - 1)


class ImageGenerator(nn.Module):
    """The try-on picture from the agnostic person, its DensePose picture, the warped garment and a segmentation."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        widths = [int(units * config.width) for units in BLOCKS.values()]
        for level in range(len(BLOCKS)):
            channels = FEATURES if level else widths[0]
            self.add_module(f"conv_{level}", nn.Conv2d(config.picture_channels, channels, 3, padding=1))
        joined = [widths[0], *(width + FEATURES for width in widths)]
        for level, name in enumerate(BLOCKS):
            seed = None if config.noise_seed is None else (config.noise_seed, level)
            self.add_module(name, SpadeBlock(joined[level], widths[level], config.classes, seed))
        self.conv_img = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, x: Tensor, seg: Tensor) -> Tensor:
        """Return the try-on picture (N, 3, H, W) in [-1, 1].

        `x` (N, 9, H, W) is the agnostic person, its DensePose picture and the warped garment, each in [-1, 1];
        `seg` (N, 7, H, W) says with 0 and 1 of which class a pixel is. H and W must be divisible by 128.
        """
        made = x.new_empty(0)
        for level, name in enumerate(BLOCKS):
            step = 2 ** (len(BLOCKS) - 1 - level)
            features = self.get_submodule(f"conv_{level}")(_take_nearest(x, step))
            if level:
                features = torch.cat([F.interpolate(made, scale_factor=2.0, mode="nearest"), features], 1)
            made = self.get_submodule(name)(features, _take_nearest(seg, step))
        return torch.tanh(self.conv_img(F.leaky_relu(made, LEAKY_SLOPE)))


def _take_nearest(x: Tensor, step: int) -> Tensor:
    """Shrink to every `step`-th pixel, which a nearest resize by a whole number is."""
    return x[:, :, ::step, ::step] if step > 1 else x


def build_hrviton_gen(**settings: Any) -> Network:
    """Return the image generator; `settings` are fields of `GeneratorConfig`."""
    config = make_config(GeneratorConfig, settings)
    return Network(
        module=ImageGenerator(config),
        inputs=(
            InputSpec("x", config.picture_channels, picture=("agnostic", "densepose", "clothes")),
            InputSpec("seg", config.classes, picture="parse"),
        ),
        size=config.size,
        multiple_of=config.multiple_of,
        config=asdict(config),
        parts=PARTS,
        without_truth=DRESSES,
        aliases=ALIASES,
        notice=find_notice(settings),
    )


def find_notice(settings: Mapping[str, Any]) -> str:
    """Return what is to be said where nobody chose whether there is noise."""
    return "" if "noise_seed" in settings else NO_NOISE

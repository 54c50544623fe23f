"""HR-VITON as one network: conditions at a small size, what is made of them, and the picture at full size.

Method: Lee et al., "High-Resolution Virtual Try-On with Misalignment and Occlusion-Handled Conditions", ECCV 2022
(https://arxiv.org/abs/2206.14180).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..edges import cut_edge
from ..registry import InputSpec, Network, prefix_parts
from ..settings import Count, Flag, Seed, Sides, make_config
from . import conditions, generator
from .between import blur, group_classes, mask_upper, remove_overlap
from .conditions import ConditionConfig, ConditionGenerator, warp_by_flow
from .generator import GeneratorConfig, ImageGenerator, find_notice

__all__ = ["CONDITION_SIZE", "HrViton", "PipelineConfig", "build_hrviton"]

CONDITION_SIZE = (256, 192)
"""Height and width that the published condition generator was trained at."""


@dataclass(frozen=True)
class PipelineConfig:
    """The widths of both networks, and what happens between them; the defaults are the published ones."""

    conditions_width: Count = ConditionConfig.width
    generator_width: Count = GeneratorConfig.width
    size: Sides = GeneratorConfig.size
    condition_size: Sides = CONDITION_SIZE
    """What the condition generator works at, whatever the size of the pictures."""
    occlusion: Flag = True
    """Whether the garment gives way to hair and arms before it."""
    noise_seed: Seed = None
    """As in `GeneratorConfig`."""


class HrViton(nn.Module):
    """Both networks and what is between them."""

    def __init__(
        self,
        conditions: ConditionConfig,
        generator: GeneratorConfig,
        condition_size: tuple[int, int],
        occlusion: bool,
    ) -> None:
        super().__init__()
        self.condition_size = condition_size
        self.occlusion = occlusion
        self.conditions = ConditionGenerator(conditions)
        self.generator = ImageGenerator(generator)

    def forward(
        self, clothes: Tensor, edge: Tensor, parse_agnostic: Tensor, densepose: Tensor, agnostic: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the try-on picture (N, 3, H, W), the warped garment (N, 3, H, W) and its mask (N, 1, H, W).

        `clothes`, `densepose` (the DensePose picture of the person) and `agnostic` (the person with garment and arms
        hidden) are (N, 3, H, W) in [-1, 1]; `edge` (N, 1, H, W) is above 0.5 where the garment is; `parse_agnostic`
        (N, 13, H, W) says with 0 and 1 of which class a pixel of the agnostic person is. H and W must be divisible by
        128. Where the garment is not, its warped picture is white.
        """
        edge = cut_edge(edge)
        garment = torch.cat([self._shrink(clothes, "bilinear"), self._shrink(edge, "nearest")], 1)
        person = torch.cat([self._shrink(parse_agnostic, "nearest"), self._shrink(densepose, "bilinear")], 1)
        found = self.conditions.estimate(garment, person)

        scores = mask_upper(found.segmentation, found.garment[:, -1:])
        scores = blur(F.interpolate(scores, size=clothes.shape[2:], mode="bilinear", align_corners=False))
        warped = warp_by_flow(torch.cat([clothes, edge], 1), found.flow)
        warped_clothes, mask = warped[:, :-1], warped[:, -1:]
        if self.occlusion:
            mask = remove_overlap(mask, scores)
            warped_clothes = warped_clothes * mask + (1 - mask)
        pictures = torch.cat([agnostic, densepose, warped_clothes], 1)
        return self.generator(pictures, group_classes(scores)), warped_clothes, mask

    def _shrink(self, x: Tensor, mode: str) -> Tensor:
        return F.interpolate(x, size=self.condition_size, mode=mode, align_corners=None if mode == "nearest" else False)


def build_hrviton(**settings: Any) -> Network:
    """Return HR-VITON as one network; `settings` are fields of `PipelineConfig`.

    In its state dict the names of the condition generator begin with `conditions.`, those of the image generator with
    `generator.`.

    Raises ValueError for a condition size that cannot be halved as often as is needed.
    """
    config = make_config(PipelineConfig, settings)
    first = ConditionConfig(width=config.conditions_width)
    second = GeneratorConfig(width=config.generator_width, size=config.size, noise_seed=config.noise_seed)
    if any(side % first.multiple_of for side in config.condition_size):
        raise ValueError(f"condition_size {config.condition_size} is no multiple of {first.multiple_of}")
    return Network(
        module=HrViton(first, second, config.condition_size, config.occlusion),
        inputs=(
            InputSpec("clothes"),
            InputSpec("edge", 1),
            InputSpec("parse_agnostic", first.classes),
            InputSpec("densepose"),
            InputSpec("agnostic"),
        ),
        outputs=("tryon", "warped_clothes", "warped_edge"),
        size=second.size,
        multiple_of=second.multiple_of,
        config=asdict(config),
        notice=find_notice(settings),
        aliases=generator.ALIASES,
        parts=prefix_parts("conditions", conditions.PARTS) | prefix_parts("generator", generator.PARTS),
    )

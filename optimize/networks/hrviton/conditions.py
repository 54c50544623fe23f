"""The condition generator: how a garment is bent to a person's body, and which class every pixel will be of.

Method: Lee et al., "High-Resolution Virtual Try-On with Misalignment and Occlusion-Handled Conditions", ECCV 2022
(https://arxiv.org/abs/2206.14180). Two encoders see the garment, and the person without it. From coarse to fine a flow
grows from what both have, the garment's features are warped by it, and the segmentation is decoded from the warped ones
and the person's. Module names are those of the public code, so its checkpoints load as they are.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..registry import WARPS, InputSpec, Network
from ..settings import Count, make_config
from ..warping import estimate_offsets, offsets_to_grids, sample_features

__all__ = ["ConditionConfig", "ConditionGenerator", "Conditions", "build_hrviton_tocg", "resize_flow", "warp_by_flow"]

PARTS = {
    "encoder": ("ClothEncoder", "PoseEncoder"),
    "flows": ("conv1", "conv2", "flow_conv", "bottleneck"),
    "decoder": ("conv", "SegDecoder", "out_layer"),
}

LEVELS = (1, 2, 4, 4, 4)
"""Channels of each level, finest first, in units of the width."""


@dataclass(frozen=True)
class ConditionConfig:
    """Every width of the network; the defaults are the published ones."""

    width: Count = 96
    garment_channels: Count = 4
    classes: Count = 13
    body_channels: Count = 3

    @property
    def multiple_of(self) -> int:
        """Height and width must be divisible by this, one halving per level."""
        return 2 ** len(LEVELS)


class Conditions(NamedTuple):
    """What the image generator is told."""

    garment: Tensor  # (N, garment_channels, H, W) warped: colours in [-1, 1], the mask last
    segmentation: Tensor  # (N, classes, H, W) scores, not negative
    flow: Tensor  # (N, 2, H / 2, W / 2) pixels of that size, x before y


class _ResidualBlock(nn.Module):
    def __init__(self, scale: nn.Module, channels: int) -> None:
        super().__init__()
        self.scale = scale
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        scaled = self.scale(x)
        return F.relu(scaled + self.block(scaled))


def _make_down(in_channels: int, channels: int) -> _ResidualBlock:
    return _ResidualBlock(nn.Conv2d(in_channels, channels, 3, stride=2, padding=1, bias=False), channels)


def _make_same(in_channels: int, channels: int) -> _ResidualBlock:
    return _ResidualBlock(nn.Conv2d(in_channels, channels, 1), channels)


def _make_up(in_channels: int, channels: int) -> _ResidualBlock:
    """Twice the size, by a resize and a 1x1 convolution: the two commute, and this way round it costs a quarter."""
    layers = {"1": nn.Conv2d(in_channels, channels, 1), "2": nn.Upsample(scale_factor=2.0, mode="bilinear")}
    return _ResidualBlock(nn.Sequential(OrderedDict(layers)), channels)


def _make_encoder(in_channels: int, widths: list[int]) -> nn.ModuleList:
    return nn.ModuleList(_make_down(*sides) for sides in zip((in_channels, *widths), widths, strict=False))


def _encode(encoder: nn.ModuleList, x: Tensor) -> list[Tensor]:
    """Return the features of every level, coarsest first."""
    features: list[Tensor] = []
    for block in encoder:
        x = block(x)
        features.insert(0, x)
    return features


class ConditionGenerator(nn.Module):
    """Flow, segmentation and warped garment from a garment and a person without it."""

    def __init__(self, config: ConditionConfig) -> None:
        super().__init__()
        widths = [config.width * units for units in LEVELS]
        dim, finer = widths[-1], widths[-2::-1]
        person_channels = config.classes + config.body_channels
        self.ClothEncoder = _make_encoder(config.garment_channels, widths)
        self.PoseEncoder = _make_encoder(person_channels, widths)
        self.conv = _make_same(dim, 2 * dim)
        joined = [2 * dim, *(2 * width + dim for width in finer)]
        self.SegDecoder = nn.ModuleList(_make_up(*sides) for sides in zip(joined, (*finer, finer[-1]), strict=True))
        self.out_layer = _make_same(widths[0] + config.garment_channels + person_channels, config.classes)
        self.conv1 = nn.ModuleList(nn.Conv2d(width, dim, 1) for width in widths[:-1])
        self.conv2 = nn.ModuleList(nn.Conv2d(width, dim, 1) for width in widths[:-1])  # published, and never used
        self.flow_conv = nn.ModuleList(nn.Conv2d(2 * dim, 2, 3, padding=1) for _ in widths)
        self.bottleneck = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, dim, 3, padding=1), nn.ReLU()) for width in finer
        )

    def estimate(self, garment: Tensor, person: Tensor) -> Conditions:
        """Return the conditions; the inputs are those of `forward`."""
        garments, persons = _encode(self.ClothEncoder, garment), _encode(self.PoseEncoder, person)
        pyramid = garments[0]
        flow = estimate_offsets(self.flow_conv[0], torch.cat([pyramid, persons[0]], 1))
        decoded = self.SegDecoder[0](self.conv(persons[0]))
        for level in range(1, len(garments)):
            pyramid = _double(pyramid) + self.conv1[-level](garments[level])
            warped = warp_by_flow(pyramid, flow)
            joined = torch.cat([warped, self.bottleneck[level - 1](decoded)], 1)
            flow = _double(flow) + estimate_offsets(self.flow_conv[level], joined)
            decoded = self.SegDecoder[level](torch.cat([decoded, persons[level], warped], 1))
        warped = warp_by_flow(garment, flow)
        return Conditions(warped, self.out_layer(torch.cat([decoded, person, warped], 1)), flow)

    def forward(self, input1: Tensor, input2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the warped garment, its mask, the segmentation's scores, and the flow.

        `input1` (N, 4, H, W) is the garment in [-1, 1] and its mask of 0 and 1; `input2` (N, 16, H, W) is the
        person's segmentation without the garment, one of 13 classes per pixel, and its DensePose picture in
        [-1, 1]. H and W must be divisible by 32. The flow is (N, H / 2, W / 2, 2), in pixels of that
        size, x before y.
        """
        garment, segmentation, flow = self.estimate(input1, input2)
        return garment[:, :-1], garment[:, -1:], segmentation, flow.permute(0, 2, 3, 1)


def warp_by_flow(features: Tensor, flow: Tensor) -> Tensor:
    """Sample `features` (N, C, H, W) where a flow (N, 2, h, w) of any size leads, in pixels of its own size."""
    return sample_features(features, offsets_to_grids(resize_flow(flow, features.shape[2:])))


def resize_flow(flow: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Bring a flow (N, 2, h, w) to another size, and to pixels of that size."""
    sides = zip(reversed(size), reversed(flow.shape[2:]), strict=True)
    ratios = [(new - 1) / max(old - 1, 1) for new, old in sides]
    scale = torch.tensor(ratios, dtype=flow.dtype, device=flow.device).view(1, 2, 1, 1)
    return F.interpolate(flow * scale, size=tuple(size), mode="bilinear", align_corners=False)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def build_hrviton_tocg(**settings: Any) -> Network:
    """Return the condition generator; `settings` are fields of `ConditionConfig`."""
    config = make_config(ConditionConfig, settings)
    return Network(
        module=ConditionGenerator(config),
        inputs=(
            InputSpec("input1", config.garment_channels, picture=("clothes", "edge")),
            InputSpec("input2", config.classes + config.body_channels, picture=("parse_agnostic", "densepose")),
        ),
        outputs=("warped_cloth", "warped_mask", "segmentation", "flow"),
        multiple_of=config.multiple_of,
        config=asdict(config),
        parts=PARTS,
        without_truth=WARPS,
    )

"""PF-AFN: parser-free try-on, a warp of the garment by appearance flows and a generator that draws the rest.

Method: Ge et al., "Parser-Free Virtual Try-on via Distilling Appearance Flows", CVPR 2021
(https://arxiv.org/abs/2103.04559). State-dict names and shapes equal those of the authors' release
(https://github.com/geyuying/PF-AFN), so published weights load as they are.

Two feature pyramids (garment and person) are walked from coarse to fine. At each level a flow is estimated from
the correlation of both, composed with that of the level before, refined from both side by side, and doubled in
size. The generator then sees the person and the warped garment, and draws what the garment does not cover.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .correlation import Correlation
from .edges import cut_edge
from .pyramids import FeatureEncoder, RefinePyramid
from .registry import DRESSES, WARPS, InputSpec, Network, prefix_parts
from .res_unet import build_res_unet
from .settings import Count, Flag, TwoWidths, Widths, make_config
from .warping import estimate_offsets, offsets_to_grids, sample_features

__all__ = [
    "Pfafn",
    "PfafnGenerator",
    "PfafnWarp",
    "WarpConfig",
    "build_pfafn",
    "build_pfafn_gen",
    "build_pfafn_warp",
    "compose_picture",
]

LEAKY_SLOPE = 0.1
RADIUS = 3

WARP_PARTS = {
    "encoder": ("image_features", "cond_features", "image_FPN", "cond_FPN"),
    "flows": ("aflow_net",),
}
GENERATOR_PARTS = {"generator": ("model",)}

ASSUMED = "align_corners was not chosen: False is taken; the published weights need True, choose --network {}_aligned"


@dataclass(frozen=True)
class WarpConfig:
    """How the warp samples, and its widths; the default widths are the published ones.

    `align_corners` is that of torch's grid_sample. The published weights were trained where True was its default.
    """

    align_corners: Flag = False
    pyramid_widths: Widths = (64, 128, 256, 256, 256)
    pyramid_dim: Count = 256
    flow_filters: Widths = (128, 64, 32)

    @property
    def multiple_of(self) -> int:
        """Height and width must be divisible by this, one halving per pyramid level."""
        return 2 ** len(self.pyramid_widths)


@dataclass(frozen=True)
class GeneratorConfig:
    """The generator's channels after each halving; the default is the published one."""

    generator_widths: TwoWidths = (64, 128, 256, 512, 512)

    @property
    def multiple_of(self) -> int:
        """Height and width must be divisible by this, one halving per width."""
        return 2 ** len(self.generator_widths)


@dataclass(frozen=True)
class PfafnConfig(WarpConfig):
    """The settings of the warp and of the generator."""

    generator_widths: TwoWidths = GeneratorConfig.generator_widths

    @property
    def multiple_of(self) -> int:
        """Height and width must be divisible by this, by what the warp halves and by what the generator does."""
        return 2 ** max(len(self.pyramid_widths), len(self.generator_widths))


class _FlowHead(nn.Sequential):
    """Estimate one offset per pixel, in pixels: (N, in_channels, H, W) to (N, 2, H, W)."""

    def __init__(self, in_channels: int, filters: Sequence[int]) -> None:
        layers: list[nn.Module] = []
        for before, width in zip((in_channels, *filters), filters, strict=False):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.LeakyReLU(LEAKY_SLOPE)]
        super().__init__(*layers, nn.Conv2d(filters[-1], 2, 3, padding=1))


class _FlowNet(nn.Module):
    """Estimate the flow level by level."""

    def __init__(self, config: WarpConfig) -> None:
        super().__init__()
        self.align_corners = config.align_corners
        self.correlate = Correlation(RADIUS)

        def heads(in_channels: int) -> nn.ModuleList:
            return nn.ModuleList(_FlowHead(in_channels, config.flow_filters) for _ in config.pyramid_widths)

        self.netMain = heads((2 * RADIUS + 1) ** 2)
        self.netRefine = heads(2 * config.pyramid_dim)

    def forward(self, garment: Sequence[Tensor], person: Sequence[Tensor]) -> list[Tensor]:
        """Return the grids (N, 2, H, W) after each level, coarsest first as the features, each at twice its size."""
        levels: list[Tensor] = []
        for level, (garment_features, person_features) in enumerate(zip(garment, person, strict=True)):
            before = levels[-1] if levels else None
            levels.append(self._estimate_level(level, garment_features, person_features, before))
        return levels

    def _estimate_level(self, level: int, garment: Tensor, person: Tensor, before: Tensor | None) -> Tensor:
        warped = garment
        if before is not None:
            # The public network stops gradients here: the warps of a level train at that level.
            warped = self._sample(garment, before.detach())
        alike = F.leaky_relu(self.correlate(warped, person), LEAKY_SLOPE)
        grids = offsets_to_grids(estimate_offsets(self.netMain[level], alike))
        if before is not None:
            grids = self._sample(before, grids)
        warped = self._sample(garment, grids)
        refined = offsets_to_grids(estimate_offsets(self.netRefine[level], torch.cat([warped, person], 1)))
        grids = self._sample(grids, refined)
        return F.interpolate(grids, scale_factor=2.0, mode="bilinear", align_corners=False)

    def _sample(self, features: Tensor, grids: Tensor) -> Tensor:
        return sample_features(features, grids, align_corners=self.align_corners)


class PfafnWarp(nn.Module):
    """The appearance-flow warping module: person and garment in, the garment as the person wears it out."""

    def __init__(self, config: WarpConfig) -> None:
        super().__init__()
        self.align_corners = config.align_corners
        self.image_features = FeatureEncoder(3, config.pyramid_widths)
        self.cond_features = FeatureEncoder(3, config.pyramid_widths)
        self.image_FPN = RefinePyramid(config.pyramid_widths, config.pyramid_dim)
        self.cond_FPN = RefinePyramid(config.pyramid_widths, config.pyramid_dim)
        self.aflow_net = _FlowNet(config)

    def estimate_flows(self, person: Tensor, clothes: Tensor) -> list[Tensor]:
        """Return the grids (N, 2, H, W) after each level, coarsest first; the last is at full size."""
        garment = self.image_FPN(self.image_features(clothes))
        return self.aflow_net(garment, self.cond_FPN(self.cond_features(person)))

    def forward(self, person: Tensor, clothes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the warped garment (N, 3, H, W), and where each pixel of it came from (N, 2, H, W).

        Pictures are (N, 3, H, W) in [-1, 1]; H and W must be divisible by 2 ** levels. Places are x before y,
        normalised to [-1, 1] as grid_sample with this network's align_corners reads them.
        """
        flow = self.estimate_flows(person, clothes)[-1]
        return self.sample(clothes, flow), flow

    def sample(self, picture: Tensor, flow: Tensor, outside: str = "border") -> Tensor:
        """Warp a picture (N, C, H, W) by a flow of this network; outside is its border, or zeros."""
        return sample_features(picture, flow, outside=outside, align_corners=self.align_corners)


class PfafnGenerator(nn.Module):
    """The try-on module: person and warped garment in, the person wearing the garment out."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.model = build_res_unet(7, 4, widths)

    def forward(self, person: Tensor, warped_clothes: Tensor, warped_edge: Tensor) -> tuple[Tensor, Tensor]:
        """Return the try-on picture (N, 3, H, W) in [-1, 1], and the U-Net's own output (N, 4, H, W).

        That is a picture before tanh and a mask before the sigmoid: where the mask is 1, and inside the warped
        edge (N, 1, H, W) of 0 to 1, the warped garment itself is seen.
        """
        raw = self.model(torch.cat([person, warped_clothes, warped_edge], 1))
        return compose_picture(raw, warped_clothes, warped_edge), raw


def compose_picture(raw: Tensor, warped_clothes: Tensor, warped_edge: Tensor) -> Tensor:
    """Return the try-on picture (N, 3, H, W) of the generator's U-Net output and what it was given."""
    rendered, mask = raw[:, :3].tanh(), raw[:, 3:].sigmoid() * warped_edge
    return warped_clothes * mask + rendered * (1 - mask)


class Pfafn(nn.Module):
    """The whole of PF-AFN: warp, generator, and the garment's edge between them."""

    def __init__(self, config: PfafnConfig) -> None:
        super().__init__()
        self.warp = PfafnWarp(config)
        self.generator = PfafnGenerator(config.generator_widths)

    def forward(self, person: Tensor, clothes: Tensor, edge: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the try-on picture (N, 3, H, W), the warped garment (N, 3, H, W) and its edge (N, 1, H, W).

        Pictures are (N, 3, H, W) in [-1, 1]; the edge (N, 1, H, W) is above 0.5 where the garment is.
        """
        edge = cut_edge(edge)
        warped_clothes, flow = self.warp(person, clothes * edge)
        warped_edge = self.warp.sample(edge, flow, outside="zeros")
        return self.generator(person, warped_clothes, warped_edge)[0], warped_clothes, warped_edge


def build_pfafn_warp(**settings: Any) -> Network:
    """Return PF-AFN's warp; `settings` are fields of `WarpConfig`, of which align_corners should be chosen."""
    config = make_config(WarpConfig, settings)
    return Network(
        module=PfafnWarp(config),
        inputs=(InputSpec("person"), InputSpec("clothes")),
        outputs=("warped_clothes", "flow"),
        multiple_of=config.multiple_of,
        config=asdict(config),
        parts=WARP_PARTS,
        without_truth=WARPS,
        notice=_find_notice("pfafn_warp", settings),
    )


def build_pfafn_gen(**settings: Any) -> Network:
    """Return PF-AFN's generator; `settings` are fields of `GeneratorConfig`."""
    config = make_config(GeneratorConfig, settings)
    return Network(
        module=PfafnGenerator(config.generator_widths),
        inputs=(
            InputSpec("person"),
            InputSpec("warped_clothes", picture="clothes"),
            InputSpec("warped_edge", 1, picture="edge"),
        ),
        outputs=("tryon", "raw"),
        multiple_of=config.multiple_of,
        config=asdict(config),
        parts=GENERATOR_PARTS,
        without_truth=DRESSES,
    )


def build_pfafn(**settings: Any) -> Network:
    """Return PF-AFN as one network; `settings` are fields of `PfafnConfig`, of which align_corners should be chosen.

    In its state dict the names of the warp begin with `warp.`, those of the generator with `generator.`.
    """
    config = make_config(PfafnConfig, settings)
    return Network(
        module=Pfafn(config),
        inputs=(InputSpec("person"), InputSpec("clothes"), InputSpec("edge", 1)),
        outputs=("tryon", "warped_clothes", "warped_edge"),
        multiple_of=config.multiple_of,
        config=asdict(config),
        parts=prefix_parts("warp", WARP_PARTS) | prefix_parts("generator"),
        notice=_find_notice("pfafn", settings),
    )


def _find_notice(name: str, settings: dict[str, Any]) -> str:
    return "" if "align_corners" in settings else ASSUMED.format(name)

"""SDAFN (DAFlow) and its student SDAFN_plus: single-stage try-on by deformable attention flows.

Method: Bai et al., "Single Stage Virtual Try-on via Deformable Attention Flows", ECCV 2022
(https://arxiv.org/abs/2207.09161). State-dict names and shapes equal those of the authors'
release (https://github.com/OFA-Sys/DAFlow), so published weights load as they are.

Two feature pyramids (person and garment) are walked from coarse to fine. At each level K sampling
grids and K attention maps per branch are estimated, composed with those of the level before, and
doubled in size. At full size, shallow features of both pictures are warped by them, added and decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .pyramids import FeatureEncoder, RefinePyramid
from .registry import InputSpec, Network
from .settings import Count, Widths, make_config
from .warping import DeformableAttentionWarp, compose_grids, estimate_offsets, offsets_to_grids

__all__ = ["Flows", "Sdafn", "SdafnConfig", "SdafnPlus", "build_sdafn", "build_sdafn_plus"]

LEAKY_SLOPE = 0.1

PARTS = {
    "encoder": ("source_features", "reference_features", "source_FPN", "reference_FPN"),
    "flows": ("dafnet.Self_MFEs", "dafnet.Cross_MFEs", "dafnet.Refine_MFEs"),
    "decoder": ("dafnet.lights_encoder", "dafnet.lights_decoder"),
}
"""What may be pruned by a ratio of its own; the shallow encoder goes with the decoder, as they share one width."""


@dataclass(frozen=True)
class SdafnConfig:
    """Every width of the network; the defaults are the published ones."""

    reference_channels: Count = 6
    pyramid_widths: Widths = (64, 128, 256, 256, 256)
    pyramid_dim: Count = 256
    heads: Count = 6
    mfe_filters: Widths = (128, 64, 32)
    self_mfe_kernel: Count = 7
    shallow_hidden: Count = 32
    shallow_dim: Count = 64

    @property
    def multiple_of(self) -> int:
        """Height and width must be divisible by this, one halving per pyramid level."""
        return 2 ** len(self.pyramid_widths)


class Flows(NamedTuple):
    """K normalised sampling grids and K attention maps for each of the two branches."""

    cross_grids: Tensor  # (N * K, 2, H, W) into the garment, x before y, [-1, 1]
    self_grids: Tensor  # (N * K, 2, H, W) into the person
    cross_attention: Tensor  # (N, K, H, W); both attentions together sum to 1 over their 2K maps
    self_attention: Tensor  # (N, K, H, W)


class _FlowHead(nn.Module):
    """Multi-flow estimation block: features of both branches to offsets and attention logits."""

    def __init__(self, in_channels: int, out_channels: int, filters: Sequence[int], kernel: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, (before, width) in enumerate(zip((in_channels, *filters), filters, strict=False)):
            size = 3 if index == 0 else kernel
            layers += [nn.Conv2d(before, width, size, padding=size // 2), nn.LeakyReLU(LEAKY_SLOPE)]
        layers.append(nn.Conv2d(filters[-1], out_channels, kernel, padding=kernel // 2))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return estimate_offsets(self.layers, x)


class _FlowNet(nn.Module):
    """Estimate the flows level by level, and render the try-on picture with them."""

    def __init__(self, config: SdafnConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.warp = DeformableAttentionWarp()

        def heads(maps: int, kernel: int) -> nn.ModuleList:
            shape = (2 * config.pyramid_dim, maps * config.heads, config.mfe_filters, kernel)
            return nn.ModuleList(_FlowHead(*shape) for _ in config.pyramid_widths)

        self.Self_MFEs = heads(3, config.self_mfe_kernel)
        self.Cross_MFEs = heads(3, 3)
        self.Refine_MFEs = heads(6, 3)
        hidden, dim = config.shallow_hidden, config.shallow_dim
        self.lights_decoder = nn.Sequential(
            nn.Conv2d(dim, hidden, 1), nn.LeakyReLU(LEAKY_SLOPE), nn.Conv2d(hidden, 3, 3, padding=1)
        )
        self.lights_encoder = nn.Sequential(
            nn.Conv2d(3, hidden, 3, padding=1), nn.LeakyReLU(LEAKY_SLOPE), nn.Conv2d(hidden, dim, 1)
        )

    def estimate_flows(self, source: list[Tensor], reference: list[Tensor]) -> list[Flows]:
        """Return the flows after each level, coarsest first, each at twice that level's size."""
        levels: list[Flows] = []
        for level, (source_features, reference_features) in enumerate(zip(source, reference, strict=True)):
            before = levels[-1] if levels else None
            levels.append(self._estimate_level(level, source_features, reference_features, before))
        return levels

    def _estimate_level(self, level: int, source: Tensor, reference: Tensor, before: Flows | None) -> Flows:
        k = self.heads
        warped_source, warped_reference = source, reference
        if before is not None:
            # The public network stops gradients here: the warps of a level train at that level.
            warped_source = self.warp(source, before.cross_grids.detach(), before.cross_attention)
            warped_reference = self.warp(reference, before.self_grids.detach(), before.self_attention)

        estimate = self.Cross_MFEs[level](torch.cat([warped_source, reference], 1))
        cross_attention = estimate[:, 2 * k :].softmax(1)
        cross_grids = compose_grids(before and before.cross_grids, offsets_to_grids(estimate[:, : 2 * k]))
        warped_source = self.warp(source, cross_grids, cross_attention)

        estimate = self.Self_MFEs[level](torch.cat([warped_source, warped_reference], 1))
        self_attention = estimate[:, 2 * k :].softmax(1)
        self_grids = compose_grids(before and before.self_grids, offsets_to_grids(estimate[:, : 2 * k]))
        warped_reference = self.warp(reference, self_grids, self_attention)

        estimate = self.Refine_MFEs[level](torch.cat([warped_source, warped_reference], 1))
        attention = estimate[:, 4 * k :].softmax(1)
        cross_grids = compose_grids(cross_grids, offsets_to_grids(estimate[:, : 2 * k]))
        self_grids = compose_grids(self_grids, offsets_to_grids(estimate[:, 2 * k : 4 * k]))
        return Flows(
            cross_grids=_double(cross_grids),
            self_grids=_double(self_grids),
            cross_attention=_double(attention[:, k:]),
            self_attention=_double(attention[:, :k]),
        )

    def render(self, source_image: Tensor, reference_image: Tensor, flows: Flows) -> Tensor:
        """Warp shallow features of both pictures by `flows`, add and decode them: (N, 3, H, W)."""
        source = self.lights_encoder(source_image)
        reference = self.lights_encoder(reference_image)
        warped_source = self.warp(source, flows.cross_grids, flows.cross_attention)
        warped_reference = self.warp(reference, flows.self_grids, flows.self_attention)
        return self.lights_decoder(warped_source + warped_reference)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class Sdafn(nn.Module):
    """The teacher: pose and agnostic person, garment and person picture in, try-on picture out."""

    def __init__(self, config: SdafnConfig) -> None:
        super().__init__()
        widths = config.pyramid_widths
        self.source_features = FeatureEncoder(3, widths)
        self.reference_features = FeatureEncoder(config.reference_channels, widths)
        self.source_FPN = RefinePyramid(widths, config.pyramid_dim)
        self.reference_FPN = RefinePyramid(widths, config.pyramid_dim)
        self.dafnet = _FlowNet(config)

    def estimate_flows(self, ref_input: Tensor, source_image: Tensor) -> list[Flows]:
        """Return the flows after each level, coarsest first; the last is at full size."""
        return self.dafnet.estimate_flows(*self._extract_features(ref_input, source_image))

    def _extract_features(self, ref_input: Tensor, source_image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the refined features of garment and person, coarsest first."""
        reference = self.reference_FPN(self.reference_features(ref_input))
        return self.source_FPN(self.source_features(source_image)), reference

    def forward(self, ref_input: Tensor, source_image: Tensor, ref_image: Tensor) -> Tensor:
        """Return the try-on picture (N, 3, H, W), about [-1, 1].

        `ref_input` is (N, reference_channels, H, W), the pictures are (N, 3, H, W) in [-1, 1];
        H and W must be divisible by 2 ** levels.
        """
        flows = self.estimate_flows(ref_input, source_image)[-1]
        return self.dafnet.render(source_image, ref_image, flows)

    def forward_levels(self, ref_input: Tensor, source_image: Tensor, ref_image: Tensor) -> list[tuple[Tensor, Flows]]:
        """Return the try-on picture as each level would make it, and its flows, coarsest first."""
        return [
            (self._render_level(source_image, ref_image, flows), flows)
            for flows in self.estimate_flows(ref_input, source_image)
        ]

    def forward_targets(self, ref_input: Tensor, source_image: Tensor, ref_image: Tensor) -> dict[str, Tensor]:
        """Return what a student can learn from this network, by `kind/scale`, coarsest first.

        At scale 1, the finest, a tensor has the picture's height and width, at scale 4 a quarter of them. The kinds
        are `picture`, the fields of `Flows`, and `source_features` and `reference_features`, of both pyramids.
        """
        source, reference = self._extract_features(ref_input, source_image)
        levels = self.dafnet.estimate_flows(source, reference)
        targets: dict[str, Tensor] = {}
        for level, flows in enumerate(levels):
            scale = 2 ** (len(levels) - 1 - level)
            targets[f"source_features/{2 * scale}"] = source[level]
            targets[f"reference_features/{2 * scale}"] = reference[level]
            targets |= {f"{kind}/{scale}": tensor for kind, tensor in flows._asdict().items()}
            targets[f"picture/{scale}"] = self._render_level(source_image, ref_image, flows)
        return targets

    def _render_level(self, source_image: Tensor, ref_image: Tensor, flows: Flows) -> Tensor:
        size = flows.cross_attention.shape[2:]
        return self.dafnet.render(_shrink(source_image, size), _shrink(ref_image, size), flows)


def _shrink(picture: Tensor, size: torch.Size) -> Tensor:
    if picture.shape[2:] == size:
        return picture
    return F.interpolate(picture, size=size, mode="area")


class SdafnPlus(Sdafn):
    """The student: only person and garment in; the person is both reference inputs."""

    def forward(self, person: Tensor, clothes: Tensor) -> Tensor:  # type: ignore[override]
        """Return the person wearing the garment, (N, 3, H, W), about [-1, 1]."""
        return super().forward(person, clothes, person)

    def forward_levels(self, person: Tensor, clothes: Tensor) -> list[tuple[Tensor, Flows]]:  # type: ignore[override]
        """Return the try-on picture and the flows of every level, coarsest first."""
        return super().forward_levels(person, clothes, person)

    def forward_targets(self, person: Tensor, clothes: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """Return what a student can learn from this network, by `kind/scale`, coarsest first."""
        return super().forward_targets(person, clothes, person)


def build_sdafn(**settings: Any) -> Network:
    """Return SDAFN, fed as its authors feed it; `settings` are fields of `SdafnConfig`.

    Where it looks is decided from pose and agnostic person, and pixels of the person are copied from the agnostic
    one. Were they copied from the person, a teacher trained to put a garment on the person who wears it would learn
    to copy all of the picture.
    """
    config = make_config(SdafnConfig, settings)
    return Network(
        module=Sdafn(config),
        inputs=(
            InputSpec("ref_input", config.reference_channels, picture=("pose", "agnostic")),
            InputSpec("source_image", picture="clothes"),
            InputSpec("ref_image", picture="agnostic"),
        ),
        multiple_of=config.multiple_of,
        config=asdict(config),
        parts=PARTS,
    )


def build_sdafn_plus(**settings: Any) -> Network:
    """Return SDAFN_plus; `settings` are fields of `SdafnConfig`."""
    config = make_config(SdafnConfig, {"reference_channels": 3} | settings)
    return Network(
        module=SdafnPlus(config),
        inputs=(InputSpec("person"), InputSpec("clothes")),
        multiple_of=config.multiple_of,
        config=asdict(config),
        parts=PARTS,
    )

"""From settings to the networks that the registry knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from ...data.derived import CODE_CHANNELS, GARMENT_CHANNELS
from ..registry import InputSpec, Network, prefix_parts
from ..settings import make_config
from .modules import Discriminator, Widths
from .stages import (
    CLASSES,
    PICTURE_CHANNELS,
    REPRESENTATION_CHANNELS,
    Completion,
    Sampling,
    ShapeStage,
    TextureStage,
)

__all__ = [
    "CompletionConfig",
    "build_completion",
    "build_completion_shape",
    "build_completion_texture",
    "build_discriminator",
]

SIZE = (256, 256)
SMALLEST_LEVELS = 3

PARTS = {name: (name,) for name in ("generator", "encoder", "compatibility")}


@dataclass(frozen=True)
class CompletionConfig(Widths):
    """Every width, and where a code comes from; `seed` is that of `sampling` "seeded"."""

    sampling: Sampling = "mean"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.levels < SMALLEST_LEVELS or not 1 <= self.scales <= self.levels:
            raise ValueError(
                f"levels {self.levels} and scales {self.scales} cannot be built; levels begin at {SMALLEST_LEVELS}, "
                "scales go from 1 to levels"
            )
        if self.sampling == "explicit" and self.code != CODE_CHANNELS:
            raise ValueError(
                f"code is {self.code}, and the picture z that sampling explicit reads has {CODE_CHANNELS} channels; "
                "choose another sampling, or that code"
            )


_LAYOUT = InputSpec("layout", len(CLASSES))
_REPRESENTATION = InputSpec("representation", REPRESENTATION_CHANNELS)
_HOLE = InputSpec("hole", 1)
_GARMENTS = InputSpec("garments", GARMENT_CHANNELS)
_PERSON = InputSpec("person")


def build_completion_shape(**settings: Any) -> Network:
    """Return the stage that completes a layout; `settings` are fields of `CompletionConfig`."""
    config = make_config(CompletionConfig, settings)
    inputs = (_LAYOUT, _REPRESENTATION, _HOLE, _GARMENTS)
    return _describe(ShapeStage(config, config.sampling, config.seed), inputs, ("picture", "completed_layout"), config)


def build_completion_texture(**settings: Any) -> Network:
    """Return the stage that completes a picture; `settings` are fields of `CompletionConfig`."""
    config = make_config(CompletionConfig, settings)
    inputs = (_PERSON, InputSpec("painted_layout", PICTURE_CHANNELS), _HOLE, _GARMENTS)
    return _describe(TextureStage(config, config.sampling, config.seed), inputs, ("tryon",), config)


def build_completion(**settings: Any) -> Network:
    """Return both stages in one; `settings` are fields of `CompletionConfig`, for both."""
    config = make_config(CompletionConfig, settings)
    stages = (ShapeStage(config, config.sampling, config.seed), TextureStage(config, config.sampling, config.seed))
    inputs = (_PERSON, _LAYOUT, _REPRESENTATION, _HOLE, _GARMENTS)
    parts = prefix_parts("shape", PARTS) | prefix_parts("texture", PARTS)
    return _describe(Completion(*stages), inputs, ("tryon", "completed_layout"), config, parts)


def build_discriminator(channels: int = PICTURE_CHANNELS, **settings: Any) -> Discriminator:
    """Return what training tells real from made with, for pictures, or for layouts with `channels` 8."""
    config = make_config(CompletionConfig, settings)
    return Discriminator(channels, config)


def _describe(
    module: nn.Module,
    inputs: tuple[InputSpec, ...],
    outputs: tuple[str, ...],
    config: CompletionConfig,
    parts: Mapping[str, tuple[str, ...]] = PARTS,
) -> Network:
    further = {
        "explicit": (InputSpec("z", CODE_CHANNELS),),
        "garment": (InputSpec("clothes"),),
    }
    return Network(
        module=module,
        inputs=inputs + further.get(config.sampling, ()),
        outputs=outputs,
        size=SIZE,
        multiple_of=2**config.levels,
        config=asdict(config),
        parts=parts,
        without_truth="completes what the person wears",
    )

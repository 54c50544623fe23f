"""What a rewrite did to a model, place by place, so that each place can be checked and taken back alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["IN_SUBGRAPH", "Rewriting", "Runtime", "Site"]

Runtime = Literal["onnxruntime", "openvino"]

IN_SUBGRAPH = "lies inside {}; warps in If, Loop and Scan are left alone"


@dataclass(frozen=True)
class Site:
    """One place that was rewritten: the values it is made from, which stayed, and the one it makes."""

    warps: tuple[str, ...]
    """The nodes that sampled; they are gone."""
    output: str
    features: tuple[str, ...] = ()
    grids: tuple[str, ...] = ()
    """Normalised coordinates."""
    attention: tuple[str, ...] = ()
    """Weights over channels that sum to one at every pixel."""

    @property
    def name(self) -> str:
        return "+".join(self.warps)

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.features + self.grids + self.attention


class Rewriting(NamedTuple):
    """The rewritten model, where it was rewritten, and why it was not elsewhere."""

    model: ModelProto
    sites: tuple[Site, ...] = ()
    left: tuple[str, ...] = ()
    """Sentences, each beginning with the name of a warp."""

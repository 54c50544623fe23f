"""What every engine is told: one set of settings for all."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from ..cpu_target import CpuTarget

__all__ = ["Int8Settings", "RangeMethod"]

RangeMethod = Literal["minmax", "percentile", "entropy", "mse"]
"""How the range of an activation is chosen from the numbers seen in calibration."""


@dataclass(frozen=True)
class Int8Settings:
    """How to quantise a model to int8; warps and what makes their grids stay float whatever is set here."""

    target: CpuTarget
    ranges: RangeMethod = "minmax"
    float_nodes: Collection[str] = field(default_factory=frozenset)
    """Convolutions, by name, that stay float beside those of the warps."""

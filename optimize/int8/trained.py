"""Ranges that a quantisation-aware training found: how they travel in the header of weights, and onto a graph."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..cpu_target import TARGETS, CpuTarget
from ..errors import InputError
from ..provenance import INT8_RANGES, Metadata
from .ranges import Range
from .units import Unit

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..networks import Network

__all__ = ["ModuleRanges", "Trained", "TrainedRanges", "assign_ranges", "name_module", "read_ranges"]


class ModuleRanges(NamedTuple):
    """What a convolution reads, and what it makes; an activation and a batch-norm that int8 files fuse belong to it."""

    input: Range
    output: Range


@dataclass(frozen=True)
class TrainedRanges:
    """The ranges of a network's convolutions by the names of their modules, and the CPU target trained for."""

    target: str
    modules: Mapping[str, ModuleRanges]

    def to_entries(self) -> Metadata:
        """Return the header entry that holds them."""
        ranges = {name: each._asdict() for name, each in self.modules.items()}
        return {INT8_RANGES: json.dumps({"target": self.target, "ranges": ranges}, sort_keys=True, allow_nan=False)}

    def compare_target(self, target: CpuTarget) -> tuple[str, ...]:
        """Return a notice where weights get other bits than they were trained with."""
        if TARGETS[self.target].reduce_range == target.reduce_range:
            return ()
        return (f"trained for {self.target} and quantised for {target.name}, whose weights have other bits",)


class Trained(NamedTuple):
    """A torch network, or its ONNX model, whose weights were trained for int8, and the ranges that came of it."""

    model: Network | ModelProto
    ranges: TrainedRanges


def read_ranges(metadata: Metadata, path: Path) -> TrainedRanges | None:
    """Return the trained ranges among the header entries of `path`, None where there are none.

    Raises InputError where they are not what vtopt writes.
    """
    if INT8_RANGES not in metadata:
        return None
    try:
        entry = json.loads(metadata[INT8_RANGES])
        modules = {
            name: ModuleRanges(_read_range(each["input"]), _read_range(each["output"]))
            for name, each in entry["ranges"].items()
        }
        target = entry["target"]
        if target not in TARGETS:
            raise ValueError(f"no target is called {target!r}")
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: its entry {INT8_RANGES} is not what vtopt writes ({error}); make the file again"
        ) from error
    return TrainedRanges(target, modules)


def _read_range(ends: Any) -> Range:
    low, high = (float(end) for end in ends)
    if not (math.isfinite(low) and math.isfinite(high) and low <= 0 <= high):
        raise ValueError(f"{ends} is no range around zero")
    return Range(low, high)


def assign_ranges(units: Sequence[Unit], modules: Mapping[str, ModuleRanges]) -> dict[str, Range]:
    """Return the range of each tensor that a trained unit reads or makes.

    Raises InputError where one tensor is given two.
    """
    ranges: dict[str, Range] = {}
    for unit in units:
        for tensor, found in zip((unit.source, unit.output), modules.get(name_module(unit), ()), strict=False):
            if ranges.setdefault(tensor, found) != found:
                raise InputError(
                    f"trained int8 ranges disagree at {name_module(unit)}: one tensor is {found.low:g} to "
                    f"{found.high:g}, and {ranges[tensor].low:g} to {ranges[tensor].high:g}; "
                    "quantise the network as it was trained"
                )
    return ranges


def name_module(unit: Unit) -> str:
    """Return the name of the module whose weights the unit has: exports call them `module.weight`."""
    return unit.weight.removesuffix(".weight")

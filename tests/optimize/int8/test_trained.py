"""Trained ranges: they survive a header as they are, and what is no such entry is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vtopt.optimize.cpu_target import TARGETS
from vtopt.optimize.errors import InputError
from vtopt.optimize.int8.ranges import Range
from vtopt.optimize.int8.trained import ModuleRanges, TrainedRanges, assign_ranges, read_ranges
from vtopt.optimize.int8.units import Unit
from vtopt.optimize.provenance import INT8_RANGES

PATH = Path("weights.safetensors")
RANGES = TrainedRanges("avx2", {"a.0": ModuleRanges(Range(-0.1, 1 / 3), Range(0.0, 2.5))})


def test_a_header_keeps_every_digit() -> None:
    assert read_ranges(RANGES.to_entries(), PATH) == RANGES


def test_no_entry_means_no_ranges() -> None:
    assert read_ranges({}, PATH) is None


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param([], id="a list"),
        pytest.param({"target": "avx2"}, id="no ranges"),
        pytest.param({"target": "abacus", "ranges": {}}, id="no such target"),
        pytest.param({"target": "avx2", "ranges": {"a": {"input": [0, 1]}}}, id="no output"),
        pytest.param({"target": "avx2", "ranges": {"a": {"input": [0], "output": [0, 1]}}}, id="one end"),
        pytest.param({"target": "avx2", "ranges": {"a": {"input": [1, 2], "output": [0, 1]}}}, id="zero outside"),
        pytest.param({"target": "avx2", "ranges": {"a": {"input": [0, 1e999], "output": [0, 1]}}}, id="infinite"),
    ],
)
def test_what_vtopt_does_not_write_is_refused(entry: Any) -> None:
    with pytest.raises(InputError, match=r"weights\.safetensors: its entry vtopt\.int8_ranges"):
        read_ranges({INT8_RANGES: json.dumps(entry)}, PATH)


def test_tensors_get_the_ranges_of_the_modules_around_them() -> None:
    units = [Unit("n1", "x", "a.0.weight", "", "y"), Unit("n2", "y", "folded_7", "", "z")]
    assert assign_ranges(units, RANGES.modules) == {"x": Range(-0.1, 1 / 3), "y": Range(0.0, 2.5)}


@pytest.mark.parametrize(("target", "notices"), [("avx2", 0), ("vnni", 1), ("arm64", 1)])
def test_other_bits_than_trained_with_are_noted(target: str, notices: int) -> None:
    assert len(RANGES.compare_target(TARGETS[target])) == notices

"""Runs of the same two models on a shared machine, up to two hours apart: each finds the others' ratio."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path

import pytest

from vtopt.benchmarks.readme.figures import list_rows, read_rows
from vtopt.benchmarks.timing.intervals import Processes, estimate_ratio

ROWS = read_rows(Path(__file__).parents[3] / "benchmarks" / "results" / "repeated-runs.csv")
RUNS = sorted({row["run"] for row in ROWS})


def read_processes(run: str, model: str) -> Processes:
    rows = list_rows(ROWS, {"run": run, "model": model})
    return [
        [float(row["ms"]) for row in list_rows(rows, {"process": process})]
        for process in sorted({row["process"] for row in rows})
    ]


@pytest.mark.parametrize(("one", "other"), itertools.permutations(RUNS, 2))
def test_a_run_finds_the_ratio_within_the_interval_of_another(one: str, other: str) -> None:
    first, second = (estimate_ratio(read_processes(run, "int8"), read_processes(run, "fp32")) for run in (one, other))
    assert first.holds(second.value)


def test_the_machine_was_not_the_same_all_the_while() -> None:
    """Else nothing is shown: by medians the ratios of the runs are further apart than their intervals."""
    slowest, fastest = (
        extreme(statistics.median(itertools.chain(*read_processes(run, "fp32"))) for run in RUNS)
        for extreme in (max, min)
    )
    assert slowest > 1.15 * fastest

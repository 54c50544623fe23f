"""Verdicts on drawn runs: how often equal models are called changed, and how small a change is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bench_results import TIMES, find_change, make_entry, make_quiet_results, make_results

from vtopt.benchmarks.run.compare import compare_results
from vtopt.benchmarks.run.results import Entry, Results
from vtopt.benchmarks.timing.intervals import LEVEL

NETWORKS = ("a", "b", "c", "d")

DAY = 0.015

"""What a ratio was seen to move by from run to run, and MACHINE what times by themselves may (standard deviations)."""

MACHINE = 0.2


def _draw(
    generator: np.random.Generator,
    slower: float = 1.0,
    *,
    day: float = DAY,
    machine: float = MACHINE,
    luck: float = 0.02,
) -> Results:
    """Draw a quiet run of four models beside the first; the machine, each model and each of 8 processes have luck."""

    def draw_entry(name: str, time_ms: float) -> Entry:
        return make_entry(name, time_ms, luck=np.exp(generator.normal(0, luck, 8)).tolist(), waited=0)

    pace = float(np.exp(generator.normal(0, machine)))
    made = [draw_entry("fp32", 20.0 * pace)]
    for name in NETWORKS:
        time_ms = 10.0 * pace * float(np.exp(generator.normal(0, day))) * (slower if name == NETWORKS[0] else 1.0)
        made.append(draw_entry(name, time_ms))
    return make_results(dict.fromkeys(("fp32", *NETWORKS), 10.0), entries=tuple(made))


def _count_calls(generator: np.random.Generator, runs: int = 200, **luck: float) -> int:
    """Return in how many comparisons of equal models a speed or a time is called changed."""
    called = 0
    for _ in range(runs):
        changes = compare_results(_draw(generator, **luck), _draw(generator, **luck)).changes
        called += any(change.verdict in ("worse", "better") for change in changes if change.kind in ("speed", "time"))
    return called


def test_equal_models_are_called_changed_no_oftener_than_stated() -> None:
    assert _count_calls(np.random.default_rng(0)) <= 200 * LEVEL


@pytest.mark.parametrize(
    "luck", [pytest.param({"day": 0.05}, id="of models"), pytest.param({"machine": 0.5}, id="all")]
)
def test_they_are_where_runs_differ_more_than_is_assumed(luck: dict[str, float]) -> None:
    assert _count_calls(np.random.default_rng(0), 100, **luck) > 2 * 100 * LEVEL


def test_a_tenth_slower_is_always_found_where_the_machine_is_quiet() -> None:
    generator = np.random.default_rng(1)
    for _ in range(200):
        old, new = (_draw(generator, slower, day=0.0, machine=0.05, luck=0.01) for slower in (1.0, 1.1))
        (found,) = compare_results(old, new).regressions
        assert found.startswith("a on onnxruntime: speed x fp32 from ")


def test_what_is_said_to_be_found_19_times_of_20_is() -> None:
    generator = np.random.default_rng(2)
    found = 0
    for _ in range(200):
        old = _draw(generator)
        seen = compare_results(old, old).find_seen("speed")
        assert seen is not None
        found += "a on onnxruntime: speed" in "; ".join(compare_results(old, _draw(generator, seen[1])).regressions)
    assert found >= 190


@pytest.mark.parametrize(("model", "kind", "what"), [("int8", "speed", "speed x fp32"), ("fp32", "time", "fastest ms")])
def test_a_change_is_called_one_from_what_is_said_on(model: str, kind: Any, what: str) -> None:
    times = TIMES if kind == "speed" else {"fp32": 20.0}
    old = make_quiet_results(times)
    seen = compare_results(old, old).find_seen(kind)
    assert seen is not None
    verdicts = [
        find_change(old, make_quiet_results(times | {model: times[model] * seen[0] * share}), model, what).verdict
        for share in (0.999, 1.001)
    ]
    assert verdicts == ["within the noise", "worse"]


def test_what_is_called_changed_has_1_outside_its_interval() -> None:
    generator = np.random.default_rng(3)
    for _ in range(40):
        for change in compare_results(_draw(generator), _draw(generator, 1.08)).changes:
            if change.ratio and change.kind == "speed":
                assert change.verdict == "within the noise" or not change.ratio.holds(1.0)

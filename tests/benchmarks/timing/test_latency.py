"""Latency: engines in turns, warm-up apart, figures by formula; the engines here only count and fail."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from math import ceil

import numpy as np
import pytest

from vtopt.benchmarks.engines.engine import Engine
from vtopt.benchmarks.timing import latency
from vtopt.benchmarks.timing.latency import measure_latency, summarize_times
from vtopt.optimize.errors import InputError

Feeds = Mapping[str, np.ndarray]
FEEDS: Feeds = {"person": np.zeros((1, 3, 4, 3), np.float32)}


def _make_engine(
    run: Callable[[Feeds], dict[str, np.ndarray]] = lambda _: {}, runtime: str = "torch", threads: int = 2
) -> Engine:
    return Engine(runtime, {"person": (1, 3, 4, 3)}, ("tryon",), {"person": "person"}, run, threads=threads)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "PAUSE_SECONDS", 0)


@pytest.fixture(autouse=True)
def _own_collector() -> Iterator[None]:
    """Leave the garbage collector as it was, whatever a test does to it."""
    enabled = gc.isenabled()
    yield
    (gc.enable if enabled else gc.disable)()


def _record(calls: list[str], name: str) -> Engine:
    def run(_: Feeds) -> dict[str, np.ndarray]:
        calls.append(name)
        return {}

    return _make_engine(run)


def test_measure_latency_turns_the_order_by_one_from_round_to_round() -> None:
    calls: list[str] = []
    engines = {name: _record(calls, name) for name in "abc"}
    measure_latency(engines, dict.fromkeys(engines, FEEDS), runs=3, warmup=1)
    assert "".join(calls) == "abc" + "bca" + "cab" + "abc"


def test_measure_latency_of_one_engine_runs_it_once_a_round() -> None:
    calls: list[str] = []
    timing = measure_latency({"a": _record(calls, "a")}, {"a": FEEDS}, runs=5, warmup=2)["a"]
    assert len(calls) == 5 + 2
    assert (timing.runs, timing.warmup) == (5, 2)


def test_measure_latency_of_no_engines_is_nothing() -> None:
    assert measure_latency({}, {}, runs=2) == {}


def test_measure_latency_gives_each_engine_its_own_feeds() -> None:
    seen: dict[str, list[Feeds]] = {"a": [], "b": []}
    engines = {name: _make_engine(lambda feeds, name=name: seen[name].append(feeds) or {}) for name in seen}
    feeds = {name: {"person": np.zeros((1, 1))} for name in seen}
    measure_latency(engines, feeds, runs=2, warmup=0)
    assert all(given is feeds[name] for name, taken in seen.items() for given in taken)


def _fake_clock(monkeypatch: pytest.MonkeyPatch, durations_ms: list[float]) -> Engine:
    """Return an engine whose runs take these times, on a clock that nothing else moves."""
    now = 0
    left = iter(durations_ms)

    def run(_: Feeds) -> dict[str, np.ndarray]:
        nonlocal now
        now += int(next(left) * 1e6)
        return {}

    monkeypatch.setattr(time, "perf_counter_ns", lambda: now)
    return _make_engine(run)


def test_measure_latency_does_not_count_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = _fake_clock(monkeypatch, [900, 800, 3, 1, 2])
    timing = measure_latency({"a": engine}, {"a": FEEDS}, runs=3, warmup=2)["a"]
    assert (timing.median_ms, timing.p90_ms, timing.min_ms) == (2, 3, 1)


def test_measure_latency_without_warm_up_counts_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = _fake_clock(monkeypatch, [900, 1, 2])
    assert measure_latency({"a": engine}, {"a": FEEDS}, runs=3, warmup=0)["a"].p90_ms == 900


def test_measure_latency_times_the_wall_clock_of_the_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "PAUSE_SECONDS", 0.1)
    slow, fast = _make_engine(lambda _: time.sleep(0.1) or {}), _make_engine()
    timings = measure_latency({"slow": slow, "fast": fast}, dict.fromkeys(("slow", "fast"), FEEDS), runs=3, warmup=0)
    assert timings["slow"].min_ms >= 100  # sleep never returns early
    assert timings["fast"].min_ms < 100  # neither the other's run nor the pause is in it


def test_measure_latency_says_how_far_it_is() -> None:
    told: list[tuple[int, int]] = []
    measure_latency({"a": _make_engine()}, {"a": FEEDS}, runs=2, warmup=1, progress=lambda *done: told.append(done))
    assert told == [(1, 2 + 1), (2, 2 + 1), (3, 2 + 1)]


@pytest.mark.parametrize("enabled", [pytest.param(True, id="it was on"), pytest.param(False, id="it was off")])
def test_measure_latency_keeps_the_garbage_collector_off_and_restores_it(enabled: bool) -> None:
    (gc.enable if enabled else gc.disable)()
    seen: list[bool] = []
    measure_latency({"a": _make_engine(lambda _: seen.append(gc.isenabled()) or {})}, {"a": FEEDS}, runs=2, warmup=1)
    assert seen == [False] * 3
    assert gc.isenabled() == enabled


def test_measure_latency_restores_the_garbage_collector_after_an_exception() -> None:
    def fail(_: Feeds) -> dict[str, np.ndarray]:
        raise InputError("it broke")

    gc.enable()
    with pytest.raises(InputError, match="it broke"):
        measure_latency({"a": _make_engine(fail)}, {"a": FEEDS}, runs=1)
    assert gc.isenabled()


@pytest.mark.parametrize(("runs", "warmup"), [(0, 3), (-1, 0), (1, -1)])
def test_measure_latency_refuses_counts_that_cannot_be_timed(runs: int, warmup: int) -> None:
    calls: list[str] = []
    with pytest.raises(InputError, match=f"{runs} runs after {warmup} of warm-up cannot be timed; runs begin at 1"):
        measure_latency({"a": _record(calls, "a")}, {"a": FEEDS}, runs=runs, warmup=warmup)
    assert calls == []


def test_measure_latency_names_the_engines_without_feeds() -> None:
    engines = {name: _make_engine() for name in "abc"}
    with pytest.raises(InputError, match="no inputs were given for a, c; feed every engine"):
        measure_latency(engines, {"b": FEEDS}, runs=1)


@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 20])
def test_summarize_times_takes_percentiles_by_formula(count: int) -> None:
    """The times are 1 to `count` ms, so that the time of rank r is r ms."""
    shuffled = np.random.default_rng(0).permutation(np.arange(1, count + 1))
    timing = summarize_times([int(time_ms) * 10**6 for time_ms in shuffled], _make_engine(), 3, 1)
    assert timing.median_ms == (1 + count) / 2
    assert timing.p90_ms == ceil(0.9 * count)
    assert (timing.min_ms, timing.runs, timing.warmup) == (1, count, 3)


def test_summarize_times_is_little_moved_by_one_slow_run() -> None:
    timing = summarize_times([10**6] * 19 + [10**9], _make_engine(), 0, 1)
    assert (timing.median_ms, timing.p90_ms) == (1, 1)
    assert statistics.mean([1] * 19 + [1000]) > 50  # as a mean would be


def test_summarize_times_says_how_the_times_were_taken() -> None:
    timing = summarize_times([1], _make_engine(runtime="openvino", threads=7), 4, 5)
    assert (timing.runtime, timing.threads, timing.warmup, timing.batch) == ("openvino", 7, 4, 5)


@pytest.mark.parametrize(
    ("array", "batch"),
    [
        pytest.param(np.zeros((4, 3, 2, 2)), 4, id="the first axis is the batch"),
        pytest.param(np.zeros(()), 1, id="a scalar has a batch of one"),
    ],
)
def test_measure_latency_reads_the_batch_from_the_feeds(array: np.ndarray, batch: int) -> None:
    timing = measure_latency({"a": _make_engine()}, {"a": {"x": array}}, runs=1, warmup=0)["a"]
    assert timing.batch == batch


def test_slow_engines_get_fewer_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 1_000_000, 10))
    monkeypatch.setattr(latency.time, "monotonic", lambda: float(next(now)))
    engines = {"a": _make_engine()}
    timing = measure_latency(engines, {"a": FEEDS}, runs=20, warmup=3, max_seconds=35)["a"]
    assert (timing.warmup, timing.runs) == (1, 3)
    timing = measure_latency(engines, {"a": FEEDS}, runs=5, warmup=3, max_seconds=1e9)["a"]
    assert (timing.warmup, timing.runs) == (3, 5)

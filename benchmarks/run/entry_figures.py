"""What the times of a model come to: median, percentiles, loading, memory, and its speed as a ratio."""

from __future__ import annotations

import math
import statistics
from collections.abc import Container, Iterable, Sequence
from typing import Any

from ...optimize.errors import InputError
from ..engines.runtimes import GPU_RUNTIMES
from ..timing.intervals import Estimate, chain_ratios, estimate_median, estimate_ratio
from ..timing.sampling import Sample, take_off_waiting
from .results import Entry

__all__ = ["P99_RUNS", "estimate_speed", "make_figures", "take_rounds"]


P99_RUNS = 100
"""Of fewer runs the 99th percentile is the longest of all."""


def make_figures(entry: Entry, baseline: Entry | None, entries: Iterable[Entry] = ()) -> dict[str, Any]:
    """Return an entry's figures; those of speed are to the baseline, and absent without one.

    `entries` are those of the run, among which `estimate_speed` looks for one that links the two; figures of speed are
    absent where none does, too.

    - median_ms is the geometric mean of the processes' medians, median_low_ms and median_high_ms its interval of 95 %
      (see `estimate_median`); p90_ms, p99_ms and min_ms are of all runs, by nearest rank, p99_ms None of fewer than
      100, where it would be the longest. They are times on the clock, those of one thread without
      that in which the system gave its CPU to other processes (see `take_off_waiting`); `waiting` is the part of the
      clock's time that a thread waited for a CPU, on average;
    - load_ms, first_ms and memory_mib are medians over the processes; memory is the most that was resident less what
      Python, the runtime and the inputs take; None on a GPU, which has memory of its own;
    - speed is how many times faster than the baseline, speed_low and speed_high where 95 % of other such runs find
      it, and within_noise whether that interval holds 1.
    """
    if not entry.samples:
        return {}
    runs = sorted(time for sample in entry.samples for turn in _clean(sample, entry.threads) for time in turn)
    clock = sum(time for sample in entry.samples for turn in sample.rounds for time, _ in turn)
    waited = sum(waited for sample in entry.samples for turn in sample.rounds for _, waited in turn)
    interval = estimate_median(take_rounds(entry))
    figures = {
        "runs": len(runs),
        "waiting": waited / (clock * entry.threads),
        "median_ms": interval.value,
        "median_low_ms": interval.low,
        "median_high_ms": interval.high,
        "p90_ms": _pick_rank(runs, 0.9),
        "p99_ms": _pick_rank(runs, 0.99) if len(runs) >= P99_RUNS else None,
        "min_ms": runs[0],
        "load_ms": statistics.median(sample.load_ms for sample in entry.samples),
        "first_ms": statistics.median(sample.first_ms for sample in entry.samples),
        "memory_mib": statistics.median(sample.peak_mib - sample.imported_mib for sample in entry.samples)
        if entry.runtime not in GPU_RUNTIMES
        else None,
        "steady": all(sample.steady for sample in entry.samples),
    }
    if baseline is None:
        return figures
    if baseline.key == entry.key:
        return figures | {"speed": 1.0, "speed_low": 1.0, "speed_high": 1.0, "within_noise": None}
    try:
        speed = estimate_speed(entry, baseline, entries)
    except InputError:
        return figures
    return figures | {
        "speed": speed.value,
        "speed_low": speed.low,
        "speed_high": speed.high,
        "within_noise": speed.holds(1.0),
    }


def estimate_speed(entry: Entry, baseline: Entry, entries: Iterable[Entry] = ()) -> Estimate:
    """Return how many times faster an entry is than the baseline, from the blocks that both ran in.

    Entries of different lots share none; then it is the ratio of their ratios to the first of `entries`, those of the
    run, that shares blocks with both: as a rule the first engine, which is in every lot. Raises InputError where none
    does.
    """
    if _share_blocks(entry, baseline):
        return _estimate_shared(entry, baseline)
    alike = (each for each in entries if (each.threads, each.batch) == (entry.threads, entry.batch))
    link = next((each for each in alike if _share_blocks(entry, each) and _share_blocks(baseline, each)), None)
    if link is None:
        raise InputError(
            f"{entry.model} on {entry.runtime} never ran in turns with {baseline.model} on {baseline.runtime}, so that "
            "no speed is known; choose another --baseline"
        )
    return chain_ratios(_estimate_shared(entry, link), _estimate_shared(baseline, link))


def _estimate_shared(entry: Entry, baseline: Entry) -> Estimate:
    shared = _share_blocks(entry, baseline)
    return estimate_ratio(take_rounds(entry, shared), take_rounds(baseline, shared))


def _share_blocks(one: Entry, other: Entry) -> set[int]:
    return {sample.process for sample in one.samples} & {sample.process for sample in other.samples}


def take_rounds(entry: Entry, processes: Container[int] | None = None) -> list[list[float]]:
    """Return each process's rounds, a round as the median of its runs without waiting; default all processes."""
    samples = [sample for sample in entry.samples if processes is None or sample.process in processes]
    return [[statistics.median(turn) for turn in _clean(sample, entry.threads)] for sample in samples]


def _clean(sample: Sample, threads: int) -> list[list[float]]:
    return [[take_off_waiting(*run, threads) for run in turn] for turn in sample.rounds]


def _pick_rank(ordered: Sequence[float], share: float) -> float:
    return ordered[math.ceil(share * len(ordered)) - 1]

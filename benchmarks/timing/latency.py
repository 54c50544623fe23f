"""How long one run takes: engines measured in turns, so that a busy moment of the machine hits them all."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ...optimize.errors import InputError
from ...optimize.progress import track

if TYPE_CHECKING:
    from ..engines.engine import Engine

__all__ = ["PAUSE_SECONDS", "Latency", "count_rounds", "measure_latency", "pause_garbage_collection", "summarize_times"]

Name = TypeVar("Name", bound=Hashable)

LEAST_RUNS = 3
PAUSE_SECONDS = 0.01
"""Between two engines' runs: worker threads of the first that still spin would slow down the second."""


@dataclass
class Latency:
    """The times of one engine's runs in milliseconds, and how they were taken."""

    median_ms: float
    p90_ms: float
    """Nine runs in ten took at most this long (nearest rank)."""
    min_ms: float
    runs: int
    warmup: int
    threads: int
    runtime: str
    batch: int


def measure_latency(
    engines: Mapping[Name, Engine],
    feeds: Mapping[Name, Mapping[str, np.ndarray]],
    *,
    runs: int = 20,
    warmup: int = 3,
    max_seconds: float = math.inf,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Name, Latency]:
    """Time one run of each engine per round, for `warmup` rounds that do not count and `runs` that do.

    `feeds` has each engine's inputs under its name. The order turns by one from round to round, the
    garbage collector is off, and wall-clock time is read before and after each run, copies to and from
    numpy included. Slow engines get fewer rounds: warm-up ends after a quarter of `max_seconds`, and timing after all
    of them and `LEAST_RUNS` rounds. `progress` is called after each round with the rounds done and the rounds in all.

    Raises InputError for counts that cannot be measured, and for an engine without feeds.
    """
    if runs < 1 or warmup < 0:
        raise InputError(f"latency: {runs} runs after {warmup} of warm-up cannot be timed; runs begin at 1")
    unfed = [name for name in engines if name not in feeds]
    if unfed:
        raise InputError(f"latency: no inputs were given for {', '.join(map(str, unfed))}; feed every engine")
    names = list(engines)
    times: dict[Name, list[int]] = {name: [] for name in names}
    began, warmed = time.monotonic(), 0
    with pause_garbage_collection():
        for done in range(warmup + runs):
            elapsed = time.monotonic() - began
            if warmed == done < warmup and not (done and elapsed > max_seconds / 4):
                warmed += 1
            if done - warmed >= LEAST_RUNS and elapsed > max_seconds:
                break
            turn = done % len(names) if names else 0
            for name in names[turn:] + names[:turn]:
                time.sleep(PAUSE_SECONDS)
                begin = time.perf_counter_ns()
                engines[name].run(feeds[name])
                times[name].append(time.perf_counter_ns() - begin)
            if progress:
                progress(done + 1, warmup + runs)
    return {
        name: summarize_times(times[name][warmed:][:runs], engines[name], warmed, _find_batch(feeds[name]))
        for name in names
    }


def count_rounds(label: str, total: int) -> Callable[[int, int], None]:
    """Return what `measure_latency` calls after each round: it moves a progress bar."""
    rounds = track(range(total), label, total=total)
    next(rounds)

    def advance(done: int, of: int) -> None:
        next(rounds, None)

    return advance


def summarize_times(times_ns: list[int], engine: Engine, warmup: int, batch: int) -> Latency:
    """Return the figures of one engine's times, given in nanoseconds."""
    milliseconds = sorted(time_ns / 1e6 for time_ns in times_ns)
    return Latency(
        median_ms=statistics.median(milliseconds),
        p90_ms=milliseconds[math.ceil(0.9 * len(milliseconds)) - 1],
        min_ms=milliseconds[0],
        runs=len(milliseconds),
        warmup=warmup,
        threads=engine.threads,
        runtime=engine.runtime,
        batch=batch,
    )


def _find_batch(feeds: Mapping[str, np.ndarray]) -> int:
    return next((len(array) for array in feeds.values() if array.ndim), 1)


@contextmanager
def pause_garbage_collection() -> Iterator[None]:
    """Collect once, then keep the collector off; it comes back on if it was."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

"""How long n runs of the correlation layer take, plainly and as vtopt ships it: every run is made, none is inferred."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...optimize.errors import InputError, UsageError
from ...optimize.progress import track
from ..engines.engine import Engine
from ..timing.latency import PAUSE_SECONDS, pause_garbage_collection
from .correlation_forms import choose_threads
from .form_group import FormTask, open_forms
from .network_forms import Variant
from .rewrite_group import Group
from .single_correlation import DEFAULT_CASES, RUNTIMES, SHIPPED, SLICES, draw_feeds, parse_case, write_forms

__all__ = ["NOTE", "measure_counts"]

BLOCK = 10
"""Runs of one form before the other has its turn."""

NOTE = (
    f"Before: {SLICES}. After: {SHIPPED}. Made: the runs of each that were really made, and that the seconds are of. "
    "FPS: runs per second after."
)


@dataclass
class _Totals:
    """What was run so far of one form before and one after."""

    made: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {SLICES: 0.0, SHIPPED: 0.0})


def measure_counts(
    counts: Sequence[int],
    cases: Sequence[str] = DEFAULT_CASES,
    *,
    threads: Sequence[int] | None = None,
) -> Iterator[Group]:
    """Run the plain and the shipped form n times each, in turns block by block, and yield a group for each row.

    One row for each case, thread count, runtime and n of `counts`. An interruption ends the row with the runs made
    until then, yields it, and goes on as KeyboardInterrupt.

    Raises UsageError for a case that is none and a count below 1, and InputError when the plain form does not run.
    """
    if min(counts, default=1) < 1:
        raise UsageError(f"count: {min(counts)} runs are too few; give 1 or more")
    for case in [parse_case(text) for text in dict.fromkeys(cases)]:
        with tempfile.TemporaryDirectory(prefix="vtopt-correlation-") as folder:
            variants = write_forms(case, Path(folder), (SLICES, SHIPPED))
            for number in choose_threads(threads):
                task = FormTask({"case": str(case)}, draw_feeds(case), SLICES, {}, number, 0, 0)
                for runtime in RUNTIMES:
                    yield from _measure_runtime(task, [each for each in variants if each.runtime == runtime], counts)


def _measure_runtime(task: FormTask, variants: Sequence[Variant], counts: Sequence[int]) -> Iterator[Group]:
    notices: list[str] = []
    opened, _ = open_forms(task, variants, notices)
    engines = {variant.form: engine for variant, engine in opened.items()}
    if notices:
        yield Group((), (), tuple(notices))
    if len(engines) < len(variants):
        return
    for count in dict.fromkeys(counts):
        totals, label, stopped = _Totals(), f"{task.title} {variants[0].runtime}: {count:,} runs", None
        try:
            _run_blocks(engines, task.feeds, count, totals, label)
        except (KeyboardInterrupt, InputError) as error:  # a runtime may make another error of an interruption
            stopped = error
        if totals.made:
            told = (f"{label}: stopped after {totals.made:,}",) if stopped else ()
            yield Group((_make_row(task, variants[0].runtime, count, totals),), (), told)
        if stopped:
            raise stopped


def _run_blocks(
    engines: Mapping[str, Engine], feeds: Mapping[str, np.ndarray], count: int, totals: _Totals, label: str
) -> None:
    """Run both forms `count` times, the first to run of each round by turns; `totals` has whole rounds only."""
    sizes = [min(BLOCK, count - begin) for begin in range(0, count, BLOCK)]
    with pause_garbage_collection():
        for index, size in enumerate(track(sizes, f"{label}, in blocks of {BLOCK}", total=len(sizes))):
            order = (SLICES, SHIPPED) if index % 2 == 0 else (SHIPPED, SLICES)
            taken = {form: _time_block(engines[form], feeds, size) for form in order}
            for form, seconds in taken.items():
                totals.seconds[form] += seconds
            totals.made += size


def _time_block(engine: Engine, feeds: Mapping[str, np.ndarray], size: int) -> float:
    time.sleep(PAUSE_SECONDS)
    begin = time.perf_counter()
    for _ in range(size):
        engine.run(feeds)
    return time.perf_counter() - begin


def _make_row(task: FormTask, runtime: str, count: int, totals: _Totals) -> dict[str, object]:
    before, after = totals.seconds[SLICES], totals.seconds[SHIPPED]
    return {
        **task.case,
        "runtime": runtime,
        "threads": task.threads,
        "n": count,
        "made": totals.made,
        "before (s)": before,
        "after (s)": after,
        "FPS": totals.made / after,
        "acceleration": before / after,
    }

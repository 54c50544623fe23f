"""One correlation layer by itself, in every form it can be written: what the choice of `Correlation` rests on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..host import count_cpus
from .form_group import FormTask, measure_form_group
from .rewrite_group import Group
from .single_correlation import DEFAULT_CASES, RUNTIMES, SHIPPED, SLICES, draw_feeds, parse_case, write_forms

__all__ = ["NOTE", "choose_threads", "measure_correlation"]

DEFAULT_THREADS = (1, 2)

NOTE = f"Ratio: to {SLICES} on the same runtime. Difference: to {SLICES} on onnxruntime."


def measure_correlation(
    cases: Sequence[str] = DEFAULT_CASES,
    *,
    threads: Sequence[int] | None = None,
    runs: int = 20,
    warmup: int = 3,
) -> Iterator[Group]:
    """Measure the correlation layer in every form on every runtime, and yield a group for each case and thread count.

    A case is written CHANNELSxHEIGHTxWIDTH. A group's forms run in turns. `threads` defaults to 1 and 2 as far as
    there are cores. A form that a runtime does not load, or that makes something else than the plain form does, is
    left out with a notice.

    Raises UsageError for a case that is none, and InputError when no runtime runs the plain form.
    """
    for case in [parse_case(text) for text in dict.fromkeys(cases)]:
        with tempfile.TemporaryDirectory(prefix="vtopt-correlation-") as folder:
            variants, feeds = write_forms(case, Path(folder)), draw_feeds(case)
            chosen = dict.fromkeys(map(str, RUNTIMES), SHIPPED)
            for count in choose_threads(threads):
                columns = {"case": str(case)}
                yield measure_form_group(FormTask(columns, feeds, SLICES, chosen, count, runs, warmup), variants)


def choose_threads(threads: Sequence[int] | None) -> list[int]:
    """Return the thread counts asked for, each once, or the default ones that this machine has cores for."""
    return list(dict.fromkeys(threads or [count for count in DEFAULT_THREADS if count <= count_cpus()]))

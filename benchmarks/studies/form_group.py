"""The forms of one operation side by side: each makes what the plain one makes, and all are timed in turns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...optimize.errors import InputError, UsageError
from ..engines.engine import Engine, open_engine
from ..timing.latency import count_rounds, measure_latency
from .network_forms import Variant
from .rewrite_group import Group

__all__ = ["FormTask", "measure_form_group", "open_forms", "parse_sides"]

TOLERANCE = 1e-4
"""A form that differs by more from the plain one, as a share of its largest value, is another operation."""

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class FormTask:
    """One operation at one size, and how it is measured."""

    case: Mapping[str, object]
    """The first columns of every row; "case" names it in notices."""
    feeds: Arrays
    plain: str
    """The form that the others are compared with."""
    chosen: Mapping[str, str]
    """Runtime -> the form that vtopt takes there."""
    threads: int
    runs: int
    warmup: int

    @property
    def title(self) -> str:
        return f"{self.case['case']} threads {self.threads}"


def parse_sides(text: str, operation: str, example: str, least: int = 1) -> tuple[int, int, int]:
    """Read CHANNELSxHEIGHTxWIDTH, height and width `least` or more; raises UsageError for anything else."""
    sides = [int(side) if side.isdecimal() else 0 for side in text.lower().split("x")]
    if len(sides) != 3 or min(sides) < 1 or min(sides[1:]) < least:
        raise UsageError(f"case '{text}' is no {operation}; write CHANNELSxHEIGHTxWIDTH, for example {example}")
    channels, height, width = sides
    return channels, height, width


def measure_form_group(task: FormTask, variants: Sequence[Variant]) -> Group:
    """Run the forms that load, and make what the plain one makes, in turns; others are left out with a notice.

    Raises InputError when no runtime runs the plain form.
    """
    notices: list[str] = []
    engines, differences = open_forms(task, variants, notices)
    latency = measure_latency(
        engines,
        dict.fromkeys(engines, task.feeds),
        runs=task.runs,
        warmup=task.warmup,
        progress=count_rounds(task.title, task.runs + task.warmup),
    )
    plain = {variant.runtime: timing.median_ms for variant, timing in latency.items() if variant.form == task.plain}
    rows = [
        {
            **task.case,
            "form": variant.form,
            "runtime": variant.runtime,
            "threads": task.threads,
            "median ms": timing.median_ms,
            "p90 ms": timing.p90_ms,
            "min ms": timing.min_ms,
            "ratio": timing.median_ms / plain[variant.runtime] if variant.runtime in plain else None,
            "difference": differences[variant],
            "chosen": "yes" if task.chosen[variant.runtime] == variant.form else "no",
            "runs": timing.runs,
            "warmup": timing.warmup,
        }
        for variant, timing in latency.items()
    ]
    return Group(tuple(rows), (), tuple(notices))


def open_forms(
    task: FormTask, variants: Sequence[Variant], notices: list[str]
) -> tuple[dict[Variant, Engine], dict[Variant, float]]:
    """Return the engines of the forms that load and make what the plain one makes, and how far each is from it.

    `notices` says which were left out. Raises InputError when no runtime runs the plain form.
    """
    engines, made = {}, {}
    for variant in variants:
        try:
            engine = open_engine(variant.path, runtime=variant.runtime, threads=task.threads)
            (made[variant],) = engine.run(task.feeds).values()
        except InputError as error:
            notices.append(_leave_out(task, variant, str(error).removeprefix(f"{variant.path}: ").partition("; ")[0]))
            continue
        engines[variant] = engine
    differences = _check_forms(task, made, notices)
    return {variant: engines[variant] for variant in differences}, differences


def _check_forms(task: FormTask, made: Mapping[Variant, np.ndarray], notices: list[str]) -> dict[Variant, float]:
    """Return how far each form is from plain on the first runtime; one that is another operation is left out."""
    plain = next((array for variant, array in made.items() if variant.form == task.plain), None)
    if plain is None:
        raise InputError(f"{task.case['case']}: no runtime runs the plain form; there is nothing to compare with")
    differences = {}
    for variant, array in made.items():
        alike = array.shape == plain.shape
        difference = float(np.abs(array - plain).max() / np.abs(plain).max()) if alike else math.inf
        if difference <= TOLERANCE:
            differences[variant] = difference
        else:
            notices.append(_leave_out(task, variant, f"it differs from {task.plain} by {difference:.1e}"))
    return differences


def _leave_out(task: FormTask, variant: Variant, reason: str) -> str:
    return f"{task.case['case']}: {variant.form} on {variant.runtime} is left out: {reason}"

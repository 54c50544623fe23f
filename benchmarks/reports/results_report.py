"""The tables of a results file: a row for each model, runtime, threads and batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...optimize.errors import InputError
from ..host import HOST
from ..quality.comparison import UNCHANGED
from ..run.entry_figures import P99_RUNS, make_figures
from ..run.quality_figures import MEASURES, make_quality_figures
from ..run.results import Entry, Results, pick_baseline
from ..timing.sampling import BUSY
from .report import QUALITY_COLUMNS, TRUTH_COLUMNS, Report, show_quality, show_truth

__all__ = ["make_results_report"]

MIB = 2**20
FILE_COLUMNS = ("size MiB", "packed MiB", "weights MiB", "params M", "GMACs")
"""Bytes on disk, by zlib and as constants in memory; 1 MAC = 2 FLOPs."""
TIMES = {
    "median ms": "median_ms",
    "p90 ms": "p90_ms",
    "p99 ms": "p99_ms",
    "min ms": "min_ms",
    "waiting": "waiting",
    "load ms": "load_ms",
    "first ms": "first_ms",
    "memory MiB": "memory_mib",
    "speed x": "speed",
    "from": "speed_low",
    "to": "speed_high",
}
"""Column -> figure (see `make_figures`); from and to are the interval of the speed."""


def make_results_report(results: Results, baseline: str | None = None) -> Report:
    """Return the rows of a results file, speed as a ratio to `baseline`, by default the first model.

    What is not told from the baseline beyond the noise is noticed, and what is slower than it. Raises InputError for a
    baseline that the file has not.
    """
    names = [model.name for model in results.models]
    if baseline is not None and baseline not in names:
        raise InputError(f"baseline '{baseline}' is not among the models; choose one of {', '.join(names)}")
    baseline = baseline or names[0]
    rows: list[Mapping[str, Any]] = []
    notices = [] if results.complete else ["the run was interrupted: these are the rounds that it came to"]
    measured = [entry for entry in results.entries if entry.samples]
    for entry in sorted(measured, key=lambda entry: entry.model != baseline):
        compared = pick_baseline(measured, entry, baseline)
        figures = make_figures(entry, compared, measured)
        rows.append(_make_row(results, entry, figures))
        notices += _judge_speed(entry, figures, compared)
    notices += _judge_machine(rows)
    if results.unchanged:
        rows.insert(0, {"model": UNCHANGED, **show_truth(results.unchanged)})
    return Report(
        rows=tuple(rows),
        columns=_choose_columns(rows),
        conditions=_describe(results, baseline),
        notices=(*notices, *results.notices),
    )


def _make_row(results: Results, entry: Entry, figures: Mapping[str, Any]) -> dict[str, Any]:
    model = results.find_model(entry.model)
    found = results.find_quality(entry.model, entry.runtime)
    counted = model.macs is not None
    return {
        "model": entry.model,
        "runtime": entry.runtime,
        "threads": entry.threads,
        "batch": entry.batch,
        "size MiB": model.bytes / MIB,
        "packed MiB": model.compressed_bytes / MIB if counted else None,
        "weights MiB": model.weight_bytes / MIB if counted else None,
        "params M": model.parameters / 1e6 if counted else None,
        "GMACs": None if model.macs is None else model.macs / 1e9,
        **{column: figures.get(name) for column, name in TIMES.items()},
        **show_quality(found.to_first if found and found != results.quality[0] else None),
        **(show_truth(found.to_truth) if found and found.to_truth else {}),
        **make_quality_figures(results, entry.model, entry.runtime),
    }


def _judge_speed(entry: Entry, figures: Mapping[str, Any], compared: Entry | None) -> list[str]:
    """Say where an entry is not told from what it was to be compared with, or is slower."""
    if compared is None:
        return []
    baseline = f"{compared.model} on {compared.runtime}"
    where = f"{entry.model} on {entry.runtime}, threads {entry.threads}, batch {entry.batch}"
    if "speed" not in figures:
        return [f"{where}: has no speed, as it never ran in turns with {baseline}, nor with what did"]
    if figures["within_noise"] is None:
        return []
    span = f"{figures['speed']:.2f} times as fast, from {figures['speed_low']:.2f} to {figures['speed_high']:.2f}"
    if figures["within_noise"]:
        return [f"{where}: within the noise of {baseline} ({span})"]
    return [f"{where}: slower than {baseline} ({span})"] if figures["speed"] < 1 else []


def _judge_machine(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say when the machine had other work."""
    waiting = max((row["waiting"] for row in rows), default=0.0)
    if waiting < BUSY:
        return []
    return [
        f"the machine was busy: models waited for a CPU up to {waiting:.0%} of the time, which is taken off the times "
        "of one thread and not of several: measure those again when it is idle"
    ]


def _choose_columns(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the columns: threads and batch where they vary, truth and distances where something has them."""
    varied = [name for name in ("threads", "batch") if len({row[name] for row in rows if name in row}) > 1]
    known = ("model", "runtime", *varied, *FILE_COLUMNS, *TIMES, *QUALITY_COLUMNS)
    there = {name: None for row in rows for name in row}
    further = [name for name in there if name not in (*known, "threads", "batch", *TRUTH_COLUMNS)]
    further.sort(key=lambda name: name not in MEASURES)
    return (*known, *(name for name in TRUTH_COLUMNS if name in there), *further)


def _describe(results: Results, baseline: str) -> dict[str, Any]:
    settings, told = results.settings, results.conditions
    loads = [str(told[when]["load"]) for when in ("begin", "end") if when in told]
    return {
        "reference": f"{results.models[0].name} for pictures, {baseline} for speed",
        "pairs": told.get("pairs"),
        "pairs from": settings.pairs or "drawn pairs, seeds from 0",
        "size": told.get("size"),
        "batch": ", ".join(map(str, settings.batches)),
        "runs": f"at least {settings.runs} and {settings.seconds:g} s in {settings.processes} processes, in turns",
        "threads": ", ".join(map(str, settings.threads)),
        "times": "of one thread, less what it waited for a CPU; median: the geometric mean of the processes' medians; "
        f"p99: of {P99_RUNS} runs or more",
        "speed": "the ratio of the fastest rounds of each process",
        **({"flow": "px, mean over pairs"} if any(found.flow for found in results.quality) else {}),
        "load": " to ".join(loads),
        **{name: results.machine.get(name) for name in HOST},
    }

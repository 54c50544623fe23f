"""What changed between two results files, and what of it is a regression beyond the noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..optimize.errors import InputError
from .entry_figures import estimate_speed, take_rounds
from .intervals import Estimate, compare_estimates, estimate_median
from .results import Entry, Model, Results, pick_baseline
from .tables import Format, format_table

__all__ = ["COLUMNS", "Change", "Changes", "compare_results", "format_changes"]

COLUMNS = ("model", "runtime", "threads", "batch", "what", "old", "new", "new / old", "from", "to", "verdict")

SAME_SHARE = 0.01
"""Sizes and multiply-adds that differ by less are the same: what a file says of its making varies."""
SAME_DB = 0.1
"""As for PSNR."""
EQUAL_DB = 80.0
"""Pictures this close are equal; above it PSNR tells rounding."""

WORSE, BETTER, SAME = "worse", "better", "same"


@dataclass(frozen=True)
class Change:
    """One figure in both files; `runtime` is empty for figures of a file, `ratio` None for decibels."""

    model: str
    runtime: str
    threads: int | None
    batch: int | None
    what: str
    old: float
    new: float
    ratio: Estimate | None
    verdict: str


@dataclass(frozen=True)
class Changes:
    changes: tuple[Change, ...]
    notices: tuple[str, ...]

    @property
    def regressions(self) -> list[str]:
        """What got worse beyond the noise, as sentences."""
        return [
            f"{change.model}{f' on {change.runtime}' if change.runtime else ''}: {change.what} from {change.old:.4g} "
            f"to {change.new:.4g}"
            for change in self.changes
            if change.verdict == WORSE
        ]


def compare_results(old: Results, new: Results, *, baseline: str | None = None) -> Changes:
    """Compare models by name, runtime, threads and batch.

    Speed is compared as the ratio to the baseline, by default the first model that both files have, of the same
    file: the machine may be busier on another day. The baseline itself has no such ratio; where it is all there is,
    its time is compared. Between different machines speed is shown and not judged.

    Raises InputError where the files have no model in common, or not the baseline.
    """
    shared = [model.name for model in old.models if model.name in {other.name for other in new.models}]
    if not shared:
        raise InputError(
            f"bench compare: the files have no model in common (old: {_list_models(old)}; new: {_list_models(new)}); "
            "measure the same names in both"
        )
    if baseline is not None and baseline not in shared:
        raise InputError(f"baseline '{baseline}' is not in both files; choose one of {', '.join(shared)}")
    baseline = baseline or shared[0]
    differing = _list_differences(old.machine, new.machine)
    notices = [f"the machines differ ({'; '.join(differing)}): speed is shown, not judged"] if differing else []
    files = {"old": old, "new": new}
    notices += [f"the {name} file is of an interrupted run" for name, each in files.items() if not each.complete]
    missing = [model.name for each in (old, new) for model in each.models if model.name not in shared]
    if missing:
        notices.append(f"in one file only: {', '.join(missing)}")
    changes = [
        *(change for name in shared for change in _compare_files(old.find_model(name), new.find_model(name))),
        *_compare_speed(old, new, baseline, judged=not differing),
        *_compare_quality(old, new),
    ]
    return Changes(tuple(changes), tuple(notices))


def _list_models(results: Results) -> str:
    return ", ".join(model.name for model in results.models)


def _list_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say in what two machines differ; the version of vtopt does not count."""
    keys = [key for key in (*old, *(key for key in new if key not in old)) if key != "vtopt"]
    return [f"{key} {old.get(key)} and {new.get(key)}" for key in keys if old.get(key) != new.get(key)]


def _compare_files(old: Model, new: Model) -> Iterator[Change]:
    figures = (
        ("size MiB", old.bytes / 2**20, new.bytes / 2**20),
        ("GMACs", (old.macs or 0) / 1e9, (new.macs or 0) / 1e9),
        ("params M", old.parameters / 1e6, new.parameters / 1e6),
    )
    for what, before, after in figures:
        if before and after:
            ratio = after / before
            verdict = SAME if abs(ratio - 1) <= SAME_SHARE else WORSE if ratio > 1 else BETTER
            if what == "params M" and verdict == WORSE:
                verdict = "more"  # by itself no loss: size and multiply-adds tell
            yield Change(old.name, "", None, None, what, before, after, _sure(ratio), verdict)


def _sure(ratio: float) -> Estimate:
    return Estimate(ratio, ratio, ratio, 0.0, 1.0)


def _compare_speed(old: Results, new: Results, baseline: str, *, judged: bool) -> Iterator[Change]:
    measured = [[entry for entry in each.entries if entry.samples] for each in (old, new)]
    after = {entry.key: entry for entry in measured[1]}
    pairs = [(entry, after[entry.key]) for entry in measured[0] if entry.key in after]
    for before, now in pairs:
        there, here = (pick_baseline(*each, baseline) for each in zip(measured, (before, now), strict=True))
        if there is None or here is None or there.key != here.key:
            continue
        if before.key == there.key:
            times = [estimate_median(take_rounds(entry)) for entry in (before, now)]
            yield _judge_ratio(before, "median ms", *times, up_is_worse=True, judged=judged and len(pairs) == 1)
        else:
            speeds = estimate_speed(before, there), estimate_speed(now, here)
            yield _judge_ratio(before, f"speed x {baseline}", *speeds, up_is_worse=False, judged=judged)


def _judge_ratio(entry: Entry, what: str, old: Estimate, new: Estimate, *, up_is_worse: bool, judged: bool) -> Change:
    ratio = compare_estimates(old, new)
    if not judged:
        verdict = "not judged"
    elif ratio.holds(1.0):
        verdict = "within the noise"
    else:
        verdict = WORSE if (ratio.value > 1) == up_is_worse else BETTER
    return Change(*entry.key, what, old.value, new.value, ratio, verdict)


def _compare_quality(old: Results, new: Results) -> Iterator[Change]:
    """Compare PSNR to the first model, where that and the pairs are the same, and to the truth."""
    same = old.models[0].name == new.models[0].name and _tell_pairs(old) == _tell_pairs(new)
    for before in old.quality[1:] if same else ():
        now = new.find_quality(before.model, before.runtime)
        if now is None:
            continue
        scores = [("PSNR dB", before.to_first.psnr_median, now.to_first.psnr_median)]
        scores.append(("worst dB", before.to_first.psnr_worst, now.to_first.psnr_worst))
        if before.to_truth and now.to_truth:
            scores.append(("truth PSNR dB", before.to_truth.psnr_median, now.to_truth.psnr_median))
        for what, first, second in scores:
            gained = min(second, EQUAL_DB) - min(first, EQUAL_DB)
            verdict = SAME if abs(gained) <= SAME_DB else BETTER if gained > 0 else WORSE
            yield Change(before.model, before.runtime, None, None, what, first, second, None, verdict)


def _tell_pairs(results: Results) -> tuple[Any, ...]:
    return results.settings.pairs, results.settings.pair_count, results.conditions.get("size")


def format_changes(changes: Changes, fmt: Format = "md") -> str:
    """Return the changes as a table; in Markdown with what was noticed before it."""
    rows = [
        {
            "model": change.model,
            "runtime": change.runtime or None,
            "threads": change.threads,
            "batch": change.batch,
            "what": change.what,
            "old": change.old,
            "new": change.new,
            "new / old": change.ratio and change.ratio.value,
            "from": change.ratio and change.ratio.low,
            "to": change.ratio and change.ratio.high,
            "verdict": change.verdict,
        }
        for change in changes.changes
    ]
    table = format_table(rows, COLUMNS, fmt)
    if fmt != "md":
        return table
    notices = "".join(f"- **{notice}**\n" for notice in changes.notices)
    return f"{notices}{chr(10) if notices else ''}{table}"

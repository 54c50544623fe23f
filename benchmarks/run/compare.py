"""What changed between two results files, and what of it is a regression beyond the noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...optimize.errors import InputError
from ..reports.tables import Format, format_table
from ..timing.intervals import Estimate, compare_estimates, estimate_median, find_real
from .entry_figures import estimate_speed, take_rounds
from .results import Key, Model, Results

__all__ = ["COLUMNS", "Change", "Changes", "compare_results", "format_changes"]

COLUMNS = ("model", "runtime", "threads", "batch", "what", "old", "new", "new / old", "from", "to", "verdict")

SAME_SHARE = 0.01
"""Sizes and multiply-adds that differ by less are the same: what a file says of its making varies."""
SAME_DB = 0.1
"""As for PSNR."""
EQUAL_DB = 80.0
"""Pictures this close are equal; above it PSNR tells rounding."""

WORSE, BETTER, SAME = "worse", "better", "same"
UNJUDGED, NOISE = "not judged", "within the noise"


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
    file: the machine may be busier on another day. All such ratios are judged together (see `find_real`). The baseline
    itself has none: its time is shown and not judged. Between different machines no speed is judged. Pictures are
    compared where the pairs are the same, and with those of the first model where its file is. What only one file
    has is noticed.

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
    if missing := _list_missing(old, new, shared):
        notices.append(f"in one file only: {', '.join(missing)}")
    speeds = _judge_speeds(list(_compare_speed(old, new, baseline)), judged=not differing)
    changes = [
        *(change for name in shared for change in _compare_files(old.find_model(name), new.find_model(name))),
        *speeds,
        *_compare_quality(old, new),
    ]
    notices += [*_judge_baseline(speeds, baseline), *_judge_pictures(old, new)]
    return Changes(tuple(changes), tuple(notices))


def _list_missing(old: Results, new: Results, shared: Sequence[str]) -> list[str]:
    """Name the models that one file has alone, and of shared models the figures."""
    before, after = (dict(_name_figures(each)) for each in (old, new))
    alone = {name: model for name, model in (before | after).items() if (name in before) != (name in after)}
    models = [model.name for each in (old, new) for model in each.models if model.name not in shared]
    return models + [name for name, model in alone.items() if model in shared]


def _name_figures(results: Results) -> Iterator[tuple[str, str]]:
    """Yield a name for what was measured, and the model that it is of."""
    for model in results.models:
        if model.macs is not None:
            yield f"multiply-adds of {model.name}", model.name
    for entry in results.entries:
        if entry.samples:
            yield f"times of {_name_entry(entry.key)}", entry.model
    for found in results.quality:
        yield f"pictures of {found.model} on {found.runtime}", found.model
        if found.to_truth:
            yield f"truth of {found.model} on {found.runtime}", found.model


def _name_entry(key: Key) -> str:
    model, runtime, threads, batch = key
    return f"{model} on {runtime}, threads {threads}, batch {batch}"


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


def _compare_speed(old: Results, new: Results, baseline: str) -> Iterator[Change]:
    before, after = ({entry.key: entry for entry in each.entries if entry.samples} for each in (old, new))
    for key in (key for key in before if key in after):
        same = [other for other in before if other in after and (other[0], *other[2:]) == (baseline, *key[2:])]
        if not same:
            continue
        if key == same[0]:
            what = "median ms"
            old_value, new_value = (estimate_median(take_rounds(each[key])) for each in (before, after))
        else:
            what = f"speed x {baseline}"
            old_value, new_value = (estimate_speed(each[key], each[same[0]]) for each in (before, after))
        ratio = compare_estimates(old_value, new_value)
        yield Change(*key, what, old_value.value, new_value.value, ratio, UNJUDGED)


def _judge_speeds(changes: Sequence[Change], *, judged: bool) -> list[Change]:
    """Give the ratios to the baseline their verdicts, all together."""
    ratios = [change.ratio for change in changes if judged and change.ratio and change.what != "median ms"]
    real = iter(find_real(ratios))
    return [
        change
        if not judged or change.ratio is None or change.what == "median ms"
        else replace(change, verdict=(BETTER if change.ratio.value > 1 else WORSE) if next(real) else NOISE)
        for change in changes
    ]


def _judge_baseline(speeds: Sequence[Change], baseline: str) -> list[str]:
    """Say where no time is judged, and where all ratios moved alike, which the baseline alone explains."""
    if speeds and all(change.what == "median ms" for change in speeds):
        return [f"{baseline} has no other model to be compared with: its time is shown, not judged"]
    verdicts = [change.verdict for change in speeds if change.what != "median ms"]
    if len(verdicts) < 2 or len(set(verdicts)) > 1 or verdicts[0] not in (WORSE, BETTER):
        return []
    moved = "faster" if verdicts[0] == WORSE else "slower"
    return [f"all speeds moved alike: perhaps {baseline} itself became {moved}; compare with another --baseline"]


def _judge_pictures(old: Results, new: Results) -> list[str]:
    """Say why pictures are not compared, where they are not."""
    if not old.quality and not new.quality:
        return []
    if _tell_pairs(old) != _tell_pairs(new):
        return ["the pairs differ: pictures are not compared"]
    if not _has_same_first(old, new):
        return ["the first models differ: pictures are compared with the truth alone"]
    return []


def _has_same_first(old: Results, new: Results) -> bool:
    first, other = old.models[0], new.models[0]
    return (first.name, first.sha256) == (other.name, other.sha256)


def _compare_quality(old: Results, new: Results) -> Iterator[Change]:
    """Compare PSNR to the first model, where that and the pairs are the same, and to the truth."""
    same = _has_same_first(old, new)
    for number, before in enumerate(old.quality if _tell_pairs(old) == _tell_pairs(new) else ()):
        now = new.find_quality(before.model, before.runtime)
        if now is None:
            continue
        scores = []
        if same and number:
            scores.append(("PSNR dB", before.to_first.psnr_median, now.to_first.psnr_median))
            scores.append(("worst dB", before.to_first.psnr_worst, now.to_first.psnr_worst))
        if before.to_truth and now.to_truth:
            scores.append(("truth PSNR dB", before.to_truth.psnr_median, now.to_truth.psnr_median))
        for what, first, second in scores:
            gained = min(second, EQUAL_DB) - min(first, EQUAL_DB)
            verdict = SAME if abs(gained) <= SAME_DB else BETTER if gained > 0 else WORSE
            yield Change(before.model, before.runtime, None, None, what, first, second, None, verdict)


def _tell_pairs(results: Results) -> tuple[Any, ...]:
    """Return what tells pairs apart: the hash of what they are made of; in files without one, what was asked for."""
    told = results.conditions.get("pairs_sha256")
    size = results.conditions.get("size")
    return (told, size) if told else (results.settings.pairs, results.settings.pair_count, size)


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

"""What changed between two results files, and what of it is a regression beyond the noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...optimize.errors import InputError
from ..timing.intervals import Estimate, compare_estimates, estimate_median, find_real, find_smallest
from .entry_figures import estimate_speed, take_rounds
from .results import EntryKey, Model, Results

__all__ = ["Change", "Changes", "compare_results"]

SAME_SHARE = 0.01
"""Sizes and multiply-adds that differ by less are the same: what a file says of its making varies."""
SAME_DB = 0.1
"""As for PSNR."""
EQUAL_DB = 80.0
"""Pictures this close are equal; above it PSNR tells rounding."""

HARDWARE = ("cpu", "flags")
"""What makes another machine; the rest of it is named and compared all the same."""
MISSED = 0.05
"""How often a change that counts as surely seen may be overlooked."""

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

    @property
    def is_judged(self) -> bool:
        return self.verdict != UNJUDGED


@dataclass(frozen=True)
class Changes:
    changes: tuple[Change, ...]
    notices: tuple[str, ...]
    missing: tuple[str, ...]
    """What the old file has and the new one lacks."""

    @property
    def judged(self) -> list[Estimate]:
        """The ratios of speed that have a verdict, all together."""
        return [change.ratio for change in self.changes if change.runtime and change.ratio and change.is_judged]

    @property
    def seen(self) -> tuple[float, float] | None:
        """The smallest change of speed that is called one, and that is found 19 times of 20, in the least sure row.

        As ratios above 1; None where no speed was judged.
        """
        if not (judged := self.judged):
            return None
        return max(find_smallest(judged)), max(find_smallest(judged, MISSED))

    @property
    def regressions(self) -> list[str]:
        """What got worse beyond the noise, or is missing, as sentences."""
        return [f"{name} is missing" for name in self.missing] + [
            f"{change.model}{f' on {change.runtime}' if change.runtime else ''}: {change.what} from {change.old:.4g} "
            f"to {change.new:.4g}"
            for change in self.changes
            if change.verdict == WORSE
        ]


def compare_results(old: Results, new: Results, *, baseline: str | None = None) -> Changes:
    """Compare models by name, runtime, threads and batch.

    Speed is compared as the ratio to the baseline, by default the first model that both files have, of the same
    file: the machine may be busier on another day. All such ratios are judged together (see `find_real`). The baseline
    itself has none: its time is shown and not judged. Between different processors no speed is compared; other
    differences of the machine are noticed. Pictures are compared where the pairs are the same, and with those of the
    first model where its file is. What only the old file has is missing, what only the new one has is noticed.

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
    files = {"old": old, "new": new}
    notices = [f"the {name} file is of an interrupted run" for name, each in files.items() if not each.complete]
    other = _list_differences(old.machine, new.machine, HARDWARE)
    if other:
        notices.append(f"another machine ({'; '.join(other)}): speeds are not compared, sizes and pictures are")
    rest = [key for key in {**old.machine, **new.machine} if key not in (*HARDWARE, "vtopt")]
    if changed := _list_differences(old.machine, new.machine, rest):
        notices.append(f"compared all the same, though these differ: {'; '.join(changed)}")
    missing, added = _list_alone(old, new), _list_alone(new, old)
    if missing:
        notices.append(f"missing in the new file: {', '.join(missing)}")
    if added:
        notices.append(f"only in the new file: {', '.join(added)}")
    speeds = [] if other else _judge_speeds(list(_compare_speed(old, new, baseline)))
    changes = [
        *(change for name in shared for change in _compare_files(old.find_model(name), new.find_model(name))),
        *speeds,
        *_compare_quality(old, new),
    ]
    notices += [*_judge_baseline(speeds, baseline), *_judge_pictures(old, new)]
    return Changes(tuple(changes), tuple(notices), tuple(missing))


def _list_alone(one: Results, other: Results) -> list[str]:
    """Name the models that `one` has and `other` has not, and of models that both have the figures.

    Pictures of other pairs are left out, as they are not compared.
    """
    there, shared = {model.name for model in other.models}, _tell_pairs(one) == _tell_pairs(other)
    figures = dict(_name_figures(other, pictures=shared))
    return [model.name for model in one.models if model.name not in there] + [
        name for name, model in _name_figures(one, pictures=shared) if model in there and name not in figures
    ]


def _name_figures(results: Results, *, pictures: bool) -> Iterator[tuple[str, str]]:
    """Yield a name for what was measured, and the model that it is of."""
    for model in results.models:
        if model.macs is not None:
            yield f"multiply-adds of {model.name}", model.name
    for entry in results.entries:
        if entry.samples:
            yield f"times of {_name_entry(entry.key)}", entry.model
    for found in results.quality if pictures else ():
        yield f"pictures of {found.model} on {found.runtime}", found.model
        if found.to_truth:
            yield f"truth of {found.model} on {found.runtime}", found.model


def _name_entry(key: EntryKey) -> str:
    model, runtime, threads, batch = key
    return f"{model} on {runtime}, threads {threads}, batch {batch}"


def _list_models(results: Results) -> str:
    return ", ".join(model.name for model in results.models)


def _list_differences(old: Mapping[str, Any], new: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    """Say in which of these two machines differ; of lists, what only one has."""
    return [
        f"{key} {_show(old.get(key), new.get(key))} and {_show(new.get(key), old.get(key))}"
        for key in keys
        if old.get(key) != new.get(key)
    ]


def _show(value: Any, other: Any) -> str:
    if isinstance(value, list) and isinstance(other, list):
        return "with " + (", ".join(each for each in value if each not in other) or "no more")
    return str(value)


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


def _judge_speeds(changes: Sequence[Change]) -> list[Change]:
    """Give the ratios to the baseline their verdicts, all together."""
    real = iter(find_real([change.ratio for change in changes if change.ratio and change.what != "median ms"]))
    return [
        change
        if change.ratio is None or change.what == "median ms"
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

"""Compare two results files: what changed, what of it is worse beyond the noise, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...optimize.errors import InputError
from ..timing.intervals import Estimate
from .changes import WORSE, Change, Changes, judge_figure
from .picture_changes import compare_quality, have_same_pairs, list_picture_notices
from .results import Comparison, EntryKey, Model, Results
from .time_changes import compare_times, find_busy

__all__ = ["compare_results"]

SAME_SHARE = 0.01
"""Sizes and multiply-adds that differ by less are the same: what a file says of its making varies."""

HARDWARE = ("cpu", "flags")
"""What makes another machine; the rest of it is named and compared all the same."""


def compare_results(old: Results, new: Results, *, baseline: str | None = None) -> Changes:
    """Compare models by name, runtime, threads and batch.

    Speed is compared as the ratio to the baseline, by default the first model that both files have, of the same
    file: the machine may be busier on another day. The baseline's own time is judged where the machines agree, versions
    included, and neither was busy. Ratios and such times are judged together (see `find_real`). Between different
    processors no time is compared; other differences of the machine are noticed. Pictures are compared where the pairs
    are the same, and with those of the first model where its file is. Loading, the first run and memory are shown. What
    only the old file has is missing, what only the new one has is noticed.

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
        notices.append(f"another machine ({'; '.join(other)}): times are not compared, sizes and pictures are")
    rest = [key for key in {**old.machine, **new.machine} if key not in (*HARDWARE, "vtopt")]
    if changed := _list_differences(old.machine, new.machine, rest):
        notices.append(f"compared all the same, though these differ: {'; '.join(changed)}")
    missing, added = _list_alone(old, new), _list_alone(new, old)
    if missing:
        notices.append(f"missing in the new file: {', '.join(missing)}")
    if added:
        notices.append(f"only in the new file: {', '.join(added)}")
    unjudged = "the machines differ, as said above" if changed else ""
    for name, each in files.items():
        if busy := find_busy(each):
            unjudged = unjudged or f"the machine of the {name} file was busy ({busy})"
    times, told = ([], []) if other else compare_times(old, new, baseline, unjudged)
    changes = [
        *(change for name in shared for change in _compare_files(old.find_model(name), new.find_model(name))),
        *times,
        *compare_quality(old, new),
    ]
    notices += [*told, *list_picture_notices(old, new)]
    return Changes(tuple(changes), tuple(notices), tuple(missing))


def _list_alone(one: Results, other: Results) -> list[str]:
    """Name the models that `one` has and `other` has not, and of models that both have the figures.

    Pictures of other pairs are left out, as they are not compared.
    """
    there, shared = {model.name for model in other.models}, have_same_pairs(one, other)
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
        for what in _name_measures(found):
            yield f"{what} of {found.model} on {found.runtime}", found.model


def _name_measures(found: Comparison) -> Iterator[str]:
    yield "pictures"
    if found.to_truth:
        yield "truth"
    if found.to_first.lpips_median is not None:
        yield "LPIPS"
    if found.flow:
        yield "flow"
    for distance in found.distances:
        yield distance.title


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
            verdict = judge_figure(before, after, SAME_SHARE * before)
            if what == "params M" and verdict == WORSE:
                verdict = "more"  # by itself no loss: size and multiply-adds tell
            yield Change("file", old.name, "", None, None, what, before, after, _sure(after / before), verdict)


def _sure(ratio: float) -> Estimate:
    return Estimate(ratio, ratio, ratio, 0.0, 1.0)

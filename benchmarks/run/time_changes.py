"""What changed between two results files in speed, in the baseline's own time, and in what running a model costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from ...optimize.errors import InputError
from ..timing.intervals import Estimate, compare_estimates, estimate_fastest, find_real
from ..timing.sampling import BUSY
from .changes import BETTER, NOISE, UNJUDGED, WORSE, Change
from .entry_figures import estimate_speed, make_figures, take_rounds
from .results import Entry, EntryKey, Results

__all__ = ["compare_times", "find_busy"]

BY_BASELINE = "by the baseline"
"""The verdict on a ratio that changed as the baseline's own time did, while the model's own did not."""

COSTS = {"load ms": "load_ms", "first ms": "first_ms", "memory MiB": "memory_mib"}
"""One observation a process, of what the system does besides: shown, not judged."""

Pair = tuple[Entry, Entry]
"""Of the old file and of the new one."""


def compare_times(old: Results, new: Results, baseline: str, unjudged: str) -> tuple[list[Change], list[str]]:
    """Return the changes of what both files timed, and what is to be said of them.

    Speeds, and the baseline's own times, are judged together (see `find_real`); `unjudged` says why those times are
    not, and is empty where they are. Where such a time changed, a ratio to it that changed the other way is put down to
    it, unless the model's own time changed as well.
    """
    before, after = ({entry.key: entry for entry in each.entries if entry.samples} for each in (old, new))
    pairs = {key: (before[key], after[key]) for key in before if key in after}
    references = {key: found for key in pairs if (found := _find_reference(pairs, key, baseline))}
    compared: dict[EntryKey, Change] = {}
    notices = []
    for key, reference in references.items():
        try:
            change = _compare_time(*pairs[key]) if key == reference else _compare_speed(old, new, key, reference, pairs)
        except InputError as error:
            notices.append(str(error))
            continue
        compared[key] = change
    compared = _judge(compared, own_times=not unjudged)
    changes = dict(_put_down(compared, references, pairs))
    notices += _describe(changes, baseline, unjudged)
    return [*changes.values(), *_compare_costs(pairs)], notices


def find_busy(results: Results) -> str:
    """Say how busy the machine was in a run; empty where it was not: load within its CPUs, and little waiting."""
    told, allowed = results.conditions, max(results.machine.get("cpus", 1), *results.settings.threads)
    load = max((told[when]["load"] for when in ("begin", "end") if when in told), default=0.0)
    if load > allowed:
        return f"the load was {load:g}"
    waiting = max((make_figures(entry, None)["waiting"] for entry in results.entries if entry.samples), default=0.0)
    return f"models waited for a CPU {waiting:.0%} of the time" if waiting >= BUSY else ""


def _find_reference(pairs: Mapping[EntryKey, Pair], key: EntryKey, baseline: str) -> EntryKey | None:
    """Return the baseline's entry with the same threads and batch, on the first runtime that both files have."""
    return next((other for other in pairs if (other[0], *other[2:]) == (baseline, *key[2:])), None)


def _compare_time(old: Entry, new: Entry) -> Change:
    before, after = (estimate_fastest(take_rounds(entry)) for entry in (old, new))
    ratio = compare_estimates(before, after)
    return Change("time", *old.key, "fastest ms", before.value, after.value, ratio, UNJUDGED)


def _compare_speed(
    old: Results, new: Results, key: EntryKey, reference: EntryKey, pairs: Mapping[EntryKey, Pair]
) -> Change:
    before, after = (
        estimate_speed(entry, other, results.entries)
        for entry, other, results in zip(pairs[key], pairs[reference], (old, new), strict=True)
    )
    return Change(
        "speed", *key, f"speed x {reference[0]}", before.value, after.value, compare_estimates(before, after), UNJUDGED
    )


def _judge(changes: Mapping[EntryKey, Change], *, own_times: bool) -> dict[EntryKey, Change]:
    judged = {key: change for key, change in changes.items() if change.kind == "speed" or own_times}
    ratios = {key: change.ratio for key, change in judged.items() if change.ratio}
    real = dict(zip(ratios, find_real(list(ratios.values())), strict=True))
    return dict(changes) | {
        key: replace(changes[key], verdict=_tell(changes[key], ratio) if real[key] else NOISE)
        for key, ratio in ratios.items()
    }


def _tell(change: Change, ratio: Estimate) -> str:
    """Return what a change that is real is: more speed is better, more time is worse."""
    return BETTER if (ratio.value > 1) == (change.kind == "speed") else WORSE


def _put_down(
    changes: Mapping[EntryKey, Change], references: Mapping[EntryKey, EntryKey], pairs: Mapping[EntryKey, Pair]
) -> Iterator[tuple[EntryKey, Change]]:
    """Put a ratio's change down to the baseline where that changed and the model, by its own time, did not."""
    for key, change in changes.items():
        reference = changes.get(references[key])
        opposite = reference and {change.verdict, reference.verdict} == {WORSE, BETTER}
        if opposite and (own := _compare_time(*pairs[key]).ratio) and own.holds(1.0):
            change = replace(change, verdict=BY_BASELINE)
        yield key, change


def _describe(changes: Mapping[EntryKey, Change], baseline: str, unjudged: str) -> Iterator[str]:
    """Say why times are not judged, and where the baseline explains what happened to the ratios."""
    times = [change for change in changes.values() if change.kind == "time"]
    speeds = [change for change in changes.values() if change.kind == "speed"]
    if times and unjudged:
        yield f"the time of {baseline} itself is not judged: {unjudged}"
    if any(change.verdict == BY_BASELINE for change in speeds):
        yield (
            f"{baseline} itself changed: ratios to it that changed by that alone are called '{BY_BASELINE}'; compare "
            "with another --baseline"
        )
        return
    verdicts = {change.verdict for change in speeds}
    if len(verdicts) == 1 and (verdict := verdicts.pop()) in (WORSE, BETTER):
        moved = "faster" if verdict == WORSE else "slower"
        which = "all speeds moved alike" if len(speeds) > 1 else "the only speed changed"
        yield f"{which}: perhaps {baseline} itself became {moved}; compare with another --baseline"


def _compare_costs(pairs: Mapping[EntryKey, Pair]) -> Iterator[Change]:
    for key, (old, new) in pairs.items():
        before, after = (make_figures(entry, None) for entry in (old, new))
        for what, name in COSTS.items():
            if before[name] is not None and after[name] is not None:
                yield Change("cost", *key, what, before[name], after[name], None, UNJUDGED)

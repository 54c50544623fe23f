"""Rank units by what each, alone in int8, costs the picture; units side by side together where time is short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..progress import track
from .limits import NEVER, Deadline
from .mixtures import Mixtures, Score

__all__ = ["Group", "rank_units"]

PAIRS = 2
"""A ranking looks at so many pairs: a unit's rank hardly differs from pair to pair."""


@dataclass(frozen=True)
class Group:
    """Units measured together, mostly one, and what they cost alone in int8."""

    units: tuple[str, ...]
    score: Score


def rank_units(mixtures: Mixtures, deadline: Deadline = NEVER) -> list[Group]:
    """Return what each unit costs by itself, the worst first.

    Where the deadline is too near to measure every unit, so many neighbours are measured together that it is kept;
    units that it cut off all the same are left out.
    """
    units = [unit.name for unit in mixtures.units]
    groups = [Group((name,), mixtures.measure({name}, PAIRS)) for name in units[:1]]
    slowest = sum(group.score.seconds for group in groups)
    rest = _join(mixtures, units[1:], slowest, deadline)
    for names in track(rest, "each convolution alone in int8", total=len(rest)):
        if deadline.left() < slowest and not mixtures.is_known(names, PAIRS):
            break
        groups.append(Group(names, mixtures.measure(set(names), PAIRS)))
        slowest = max(slowest, groups[-1].score.seconds)
    return sorted(groups, key=lambda group: (-group.score.error, group.units))


def _join(mixtures: Mixtures, units: Sequence[str], seconds: float, deadline: Deadline) -> list[tuple[str, ...]]:
    """Return the units in groups of one size, the smallest for which there is time at `seconds` for each new one."""
    groups: list[tuple[str, ...]] = []
    for size in range(1, len(units) + 1):
        groups = [tuple(units[start : start + size]) for start in range(0, len(units), size)]
        if sum(not mixtures.is_known(group, PAIRS) for group in groups) * seconds <= deadline.left():
            break
    return groups

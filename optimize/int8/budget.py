"""Find the mixture that keeps a budget of quality with the least in float.

Greedy from a ranking: what costs the picture most per multiply-add is made float first. How many go is found by
bisection on measured mixtures, and then each is tried in int8 again, the dearest in multiply-adds first. Everything
is measured on the same pairs that the result is compared on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..progress import track
from .limits import NEVER, Budget, Deadline
from .mixtures import Mixtures, Score
from .ranking import Group, rank_units

__all__ = ["Choice", "Trial", "search_budget"]

RANKING_SHARE = 0.5
"""Of the time that is left, a ranking may take so much."""


@dataclass(frozen=True)
class Trial:
    """One mixture that was measured on the way."""

    stage: str
    """all int8, bisection or return."""
    float_units: tuple[str, ...]
    score: Score
    holds: bool


@dataclass
class Choice:
    """The best mixture so far, and the way to it."""

    float_units: tuple[str, ...]
    score: Score
    holds: bool
    trail: list[Trial] = field(default_factory=list)
    ranking: list[Group] = field(default_factory=list)
    finished: bool = True
    """False where the deadline ended the search."""


def search_budget(
    mixtures: Mixtures,
    macs: Mapping[str, int],
    budget: Budget,
    deadline: Deadline = NEVER,
    keep: Callable[[Choice], None] = lambda choice: None,
    before: Collection[str] | None = None,
) -> Choice:
    """Return the mixture that keeps the budget with the fewest multiply-adds in float, as far as there is time.

    `macs` are those of each unit; `before` is what an earlier search left float: what is made is not worse. `keep` is
    called with every mixture that is better than all before it, the first one too: within the budget before outside,
    then fewer multiply-adds in float, outside the nearest.
    """
    mixtures.measure(())  # the reference pictures are made here, so that no mixture is timed with them
    search = _Search(mixtures, macs, budget, deadline, keep)
    if before:
        search.earlier = search.measure("as before", before)
    whole = search.try_float("all int8", ())
    if not whole.holds and macs:
        groups = rank_units(mixtures, deadline.share(RANKING_SHARE))
        search.best.ranking = groups
        search.best.finished = len(groups) == len(mixtures.units)  # else a deadline joined some, or cut them off
        order = _order_groups(groups, macs, budget, mixtures)
        search.bisect(order, _predict(groups, order, budget, whole.score))
        if search.best.holds:
            search.return_units()
    if search.earlier and search.is_better(search.earlier, search.best):
        search.try_float(search.earlier.stage, search.earlier.float_units)
    return search.best


class _Search:
    """The mixtures measured so far, and the best of them."""

    def __init__(
        self,
        mixtures: Mixtures,
        macs: Mapping[str, int],
        budget: Budget,
        deadline: Deadline,
        keep: Callable[[Choice], None],
    ) -> None:
        self.mixtures, self.macs, self.budget, self.deadline, self.keep = mixtures, macs, budget, deadline, keep
        self.slowest = 0.0
        self.best = Choice((), Score(-math.inf, -math.inf, math.inf, None, None), holds=False)
        self.earlier: Trial | None = None
        """What an earlier search came to; nothing worse is kept."""

    def has_time(self) -> bool:
        """Tell whether one more mixture can be measured; the search is unfinished where it cannot."""
        if self.deadline.left() >= self.slowest:
            return True
        self.best.finished = False
        return False

    def measure(self, stage: str, float_units: Iterable[str]) -> Trial:
        """Measure a mixture."""
        chosen = set(float_units)
        names = [unit.name for unit in self.mixtures.units]
        score = self.mixtures.measure({name for name in names if name not in chosen})
        self.slowest = max(self.slowest, score.seconds)
        return Trial(stage, tuple(name for name in names if name in chosen), score, self.budget.holds(score))

    def try_float(self, stage: str, float_units: Iterable[str]) -> Trial:
        """Measure a mixture, and keep it where it is the best."""
        trial = self.measure(stage, float_units)
        first = not self.best.trail
        self.best.trail.append(trial)
        if first or self.is_better(trial, self.best):
            self.best.float_units, self.best.score, self.best.holds = trial.float_units, trial.score, trial.holds
            if not self.earlier or not self.is_better(self.earlier, trial):
                self.keep(self.best)
        return trial

    def is_better(self, one: Trial | Choice, other: Trial | Choice) -> bool:
        """Tell whether one mixture is to be preferred to another."""
        if one.holds != other.holds:
            return one.holds
        if one.holds:
            return self._count(one.float_units) < self._count(other.float_units)
        return self.budget.excess(one.score) < self.budget.excess(other.score)

    def _count(self, units: Iterable[str]) -> int:
        return sum(self.macs[name] for name in units)

    def bisect(self, order: Sequence[Sequence[str]], guess: int) -> None:
        """Find how many groups of `order` have to be float: none are too few, all are enough."""
        few, enough, place = 0, len(order), guess
        while enough - few > 1 and self.has_time():
            place = min(max(place, few + 1), enough - 1)
            if self.try_float("bisection", (name for group in order[:place] for name in group)).holds:
                enough = place
            else:
                few = place
            place = (few + enough) // 2
        if not self.best.holds and enough == len(order) and self.has_time():
            self.try_float("bisection", (name for group in order for name in group))

    def return_units(self) -> None:
        """Try each float unit in int8 again, the one of most multiply-adds first."""
        back = sorted(self.best.float_units, key=lambda name: -self.macs[name])
        for name in track(back, "which float convolutions can return to int8", total=len(back)):
            if not self.has_time():
                return
            self.try_float("return", (unit for unit in self.best.float_units if unit != name))


def _order_groups(
    groups: Sequence[Group], macs: Mapping[str, int], budget: Budget, mixtures: Mixtures
) -> list[tuple[str, ...]]:
    """Return the groups by what they spend of the budget per multiply-add, units that were not measured last."""
    ordered = sorted(groups, key=lambda group: (-budget.excess(group.score) / _count(group, macs), group.units))
    measured = {name for group in groups for name in group.units}
    rest = [(unit.name,) for unit in mixtures.units if unit.name not in measured]
    return [group.units for group in ordered] + rest


def _count(group: Group, macs: Mapping[str, int]) -> int:
    return sum(macs[name] for name in group.units) or 1


def _predict(groups: Sequence[Group], order: Sequence[Sequence[str]], budget: Budget, whole: Score) -> int:
    """Return how many groups have to be float if what they spend adds up, scaled to what all of them do spend."""
    spent = {group.units: budget.excess(group.score) for group in groups}
    total = sum(spent.values())
    if not total:
        return len(order) // 2
    left = budget.excess(whole)
    for count, group in enumerate(order, 1):
        left -= budget.excess(whole) * spent.get(tuple(group), 0.0) / total
        if left <= 1:
            return count
    return len(order)

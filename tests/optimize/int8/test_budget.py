"""Search and ranking, on units whose errors are made up and add up."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vtopt.optimize.int8 import limits, mixtures
from vtopt.optimize.int8.budget import Choice, search_budget
from vtopt.optimize.int8.limits import NEVER, Budget, Deadline
from vtopt.optimize.int8.measurements import Measurements
from vtopt.optimize.int8.mixtures import Mixtures
from vtopt.optimize.int8.ranking import rank_units
from vtopt.optimize.int8.units import Unit


class Clock:
    """A clock that only measuring moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float = 1.0) -> None:
        self.now, self.seconds, self.measured = 100.0, seconds, 0
        for module in (mixtures, limits):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))

    def tick(self) -> None:
        self.now += self.seconds
        self.measured += 1

    def give(self, seconds: float) -> Deadline:
        return Deadline(self.now + seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def _make(errors: Mapping[str, float], clock: Clock, floor: float = 0.0, flows: Mapping[str, float] = {}) -> Mixtures:
    def compare(_: int, int8: Collection[str]) -> tuple[float, float | None]:
        clock.tick()
        return floor + sum(errors[name] for name in int8), sum(flows[name] for name in int8) if flows else None

    units = [Unit(name, "x", "w", "", name) for name in errors]
    one_pair: Any = [None]
    return Mixtures(units, one_pair, Measurements(None), compare)


def _psnr(error: float) -> float:
    return 10 * math.log10(4 / error)


def _draw(seed: int, count: int = 24) -> tuple[dict[str, float], dict[str, int]]:
    rng = np.random.default_rng(seed)
    names = [f"u{index:02d}" for index in range(count)]
    errors = dict(zip(names, (10 ** rng.uniform(-6, -2, count)).tolist(), strict=True))
    return errors, dict(zip(names, (10 ** rng.uniform(3, 7, count)).astype(int).tolist(), strict=True))


def _choose_top(errors: Mapping[str, float], macs: Mapping[str, int], limit: float) -> int:
    """Return the multiply-adds that stay float where the worst by error go first, until the rest fits."""
    left, spent = sum(errors.values()), 0
    for name in sorted(errors, key=lambda name: -errors[name]):
        if left <= limit:
            break
        left, spent = left - errors[name], spent + macs[name]
    return spent


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.5, 0.05, 0.002])
def test_it_meets_the_budget_with_no_more_in_float_than_the_worst_first(seed: int, share: float, clock: Clock) -> None:
    errors, macs = _draw(seed)
    limit = sum(errors.values()) * share
    choice = search_budget(_make(errors, clock), macs, Budget(min_psnr=_psnr(limit)))
    assert choice.holds
    assert choice.finished
    assert sum(error for name, error in errors.items() if name not in choice.float_units) <= limit * (1 + 1e-9)
    # None of the float ones fits in int8 beside the others.
    for name in choice.float_units:
        left = [other for other in errors if other not in choice.float_units or other == name]
        assert sum(errors[other] for other in left) > limit
    spent = sum(macs[name] for name in choice.float_units)
    assert spent <= 1.2 * _choose_top(errors, macs, limit)


def test_over_many_it_leaves_less_in_float_than_the_worst_first(clock: Clock) -> None:
    shares = []
    for seed in range(20):
        errors, macs = _draw(seed)
        limit = sum(errors.values()) * 0.05
        choice = search_budget(_make(errors, clock), macs, Budget(min_psnr=_psnr(limit)))
        shares.append(sum(macs[name] for name in choice.float_units) / _choose_top(errors, macs, limit))
    assert np.mean(shares) < 0.9


def test_a_budget_of_flow(clock: Clock) -> None:
    errors, macs = _draw(0, 10)
    flows = dict.fromkeys(errors, 0.01) | {"u03": 1.0, "u07": 0.5}
    choice = search_budget(_make(errors, clock, flows=flows), macs, Budget(max_flow_px=0.2))
    assert (choice.holds, set(choice.float_units)) == (True, {"u03", "u07"})


def test_where_all_int8_fits_one_trial_is_enough(clock: Clock) -> None:
    """Beside it only the float model is measured, for the reference pictures."""
    errors, macs = _draw(0)
    kept = []
    mixtures = _make(errors, clock)
    choice = search_budget(mixtures, macs, Budget(min_psnr=1.0), keep=lambda best: kept.append(best.float_units))
    assert (choice.holds, choice.float_units, len(choice.trail), clock.measured) == (True, (), 1, 2)
    assert kept == [()]


@pytest.mark.parametrize("share", [0.3, 0.01])
def test_only_improvements_are_kept(share: float, clock: Clock) -> None:
    errors, macs = _draw(1)
    budget = Budget(min_psnr=_psnr(sum(errors.values()) * share))
    kept: list[tuple[bool, float, int]] = []

    def keep(best: Choice) -> None:
        kept.append((best.holds, budget.excess(best.score), sum(macs[name] for name in best.float_units)))

    choice = search_budget(_make(errors, clock), macs, budget, keep=keep)
    assert not kept[0][0]
    for before, after in itertools.pairwise(kept):
        assert after[0] >= before[0]
        if after[0] == before[0]:
            assert after[2] < before[2] if after[0] else after[1] < before[1]
    assert kept[-1][2] == sum(macs[name] for name in choice.float_units)


def test_without_time_the_first_trial_is_the_result(clock: Clock) -> None:
    errors, macs = _draw(0)
    kept = []
    choice = search_budget(
        _make(errors, clock), macs, Budget(min_psnr=90.0), clock.give(0), lambda best: kept.append(best.float_units)
    )
    assert (choice.holds, choice.finished, choice.float_units) == (False, False, ())
    assert [trial.stage for trial in choice.trail] == ["all int8"]
    assert choice.score == choice.trail[0].score
    assert kept == [()]


@pytest.mark.parametrize("seconds", [3, 10, 20, 40])
def test_a_deadline_is_kept(seconds: float, clock: Clock) -> None:
    errors, macs = _draw(0, 60)
    limit = sum(errors.values()) * 0.05
    began = clock.now
    choice = search_budget(_make(errors, clock), macs, Budget(min_psnr=_psnr(limit)), clock.give(seconds))
    assert clock.now - began <= seconds + 2
    assert not choice.finished
    assert choice.score.psnr_db == max(trial.score.psnr_db for trial in choice.trail) or choice.holds


@pytest.mark.parametrize("seconds", [6, 12, 30])
def test_the_same_search_again_goes_on_and_makes_nothing_worse(seconds: float, clock: Clock) -> None:
    errors, macs = _draw(0, 60)
    limit = Budget(min_psnr=_psnr(sum(errors.values()) * 0.05))
    mixed = _make(errors, clock)
    found = [search_budget(mixed, macs, limit, clock.give(seconds))]
    for deadline in (clock.give(seconds), clock.give(2 * seconds), NEVER):
        found.append(search_budget(mixed, macs, limit, deadline, before=found[-1].float_units))
    for before, after in itertools.pairwise(found):
        assert after.holds >= before.holds
        if before.holds:
            assert _count(after.float_units, macs) <= _count(before.float_units, macs)
    assert found[-1].holds
    assert found[-1].finished


def _count(units: Iterable[str], macs: Mapping[str, int]) -> int:
    return sum(macs[name] for name in units)


def test_a_ranking_that_goes_on_is_as_fine_as_time_allows(clock: Clock) -> None:
    mixed = _make(_draw(0, 60)[0], clock)
    assert len(rank_units(mixed, clock.give(31))) < 60
    for name in [unit.name for unit in mixed.units][:40]:
        mixed.measure({name})
    assert len(rank_units(mixed, clock.give(25))) == 60


def test_where_nothing_fits_the_nearest_is_kept(clock: Clock) -> None:
    errors, macs = _draw(0)
    choice = search_budget(_make(errors, clock, floor=1e-3), macs, Budget(min_psnr=80.0))
    assert (choice.holds, choice.finished) == (False, True)
    assert len(choice.float_units) == len(errors)
    assert choice.score.error == min(trial.score.error for trial in choice.trail)


def test_errors_that_are_infinite(clock: Clock) -> None:
    errors, macs = _draw(0)
    errors["u05"] = math.inf
    choice = search_budget(_make(errors, clock), macs, Budget(min_psnr=10.0))
    assert (choice.holds, choice.float_units) == (True, ("u05",))


def test_a_model_of_one_unit(clock: Clock) -> None:
    choice = search_budget(_make({"a": 1.0}, clock), {"a": 5}, Budget(min_psnr=50.0))
    assert (choice.holds, choice.float_units) == (True, ("a",))


@pytest.mark.parametrize("decibels", [150.0, 5000.0])
def test_a_budget_that_only_the_float_model_keeps(decibels: float, clock: Clock) -> None:
    errors, macs = _draw(0, 4)
    choice = search_budget(_make(errors, clock), macs, Budget(min_psnr=decibels))
    assert (choice.holds, len(choice.float_units)) == (True, 4)


def test_a_ranking_has_the_worst_first(clock: Clock) -> None:
    errors, _ = _draw(0)
    groups = rank_units(_make(errors, clock))
    assert [group.units for group in groups] == [(name,) for name in sorted(errors, key=lambda name: -errors[name])]
    assert [group.score.error for group in groups] == [errors[group.units[0]] for group in groups]


@pytest.mark.parametrize(("seconds", "size"), [(100, 1), (20, 2), (10, 3), (6, 4)])
def test_neighbours_are_ranked_together_where_time_is_short(seconds: float, size: int, clock: Clock) -> None:
    errors, _ = _draw(0, 21)
    began = clock.now
    groups = rank_units(_make(errors, clock), clock.give(seconds))
    assert clock.now - began <= seconds + 1
    assert max(len(group.units) for group in groups) == size
    names = list(errors)
    for group in groups:
        place = names.index(group.units[0])
        assert list(group.units) == names[place : place + len(group.units)]
    measured = [name for group in groups for name in group.units]
    assert len(measured) == len(set(measured)) == len(names)


def test_units_that_the_deadline_cut_off_are_left_out(clock: Clock) -> None:
    errors, _ = _draw(0, 20)
    assert [group.units for group in rank_units(_make(errors, clock), clock.give(0.5))] == [("u00",)]
    assert rank_units(_make({}, clock), NEVER) == []

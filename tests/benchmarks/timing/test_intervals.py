"""Intervals: known values, and how often they hold what they promise, on drawn times with a process's own luck."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
import pytest

from vtopt.benchmarks.timing.intervals import (
    RUN_SPREAD,
    TIME_SPREAD,
    Estimate,
    chain_ratios,
    compare_estimates,
    estimate_fastest,
    estimate_median,
    estimate_ratio,
    find_real,
    find_smallest,
)

T_OF_TWO = 4.303  # Student's t for 95 % and 2 degrees of freedom


def test_the_median_of_processes_is_their_geometric_mean_with_students_interval() -> None:
    found = estimate_median([[9.0, 10.0, 99.0], [20.0], [40.0, 40.0]])
    logs = [math.log(time) for time in (10, 20, 40)]
    margin = T_OF_TWO * statistics.stdev(logs) / math.sqrt(3)
    assert found.value == pytest.approx(20)
    assert found.low == pytest.approx(20 / math.exp(margin))
    assert found.high == pytest.approx(20 * math.exp(margin))
    assert found.freedom == 2


def test_a_ratio_is_that_of_the_fastest_rounds_and_above_1_where_faster() -> None:
    """Rounds in which the machine is busy do not move it, be they most of a process's."""
    reference = [[10.0, 80.0, 12.0], [20.0, 10.0, 30.0]]
    found = estimate_ratio([[9.0, 9.0, 5.0], [5.0, 70.0, 5.0]], reference)
    assert found.value == pytest.approx(2.0)
    assert found.error == RUN_SPREAD


def test_the_interval_of_a_ratio_leaves_room_for_the_error_of_another_run() -> None:
    reference, times = [[10.0], [10.0], [10.0]], [[5.0], [4.0], [6.0]]
    found = estimate_ratio(times, reference)
    error = math.hypot(statistics.stdev(math.log(10 / time) for (time,) in times) / math.sqrt(3), RUN_SPREAD)
    assert math.log(found.high / found.value) == pytest.approx(T_OF_TWO * math.hypot(error, error))


def test_one_process_is_cut_into_blocks_of_its_rounds() -> None:
    rounds = [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 5.0, 5.0]
    assert estimate_median([rounds]) == estimate_median([[1.0], [2.0], [3.0], [4.0], [5.0]])


def test_one_round_alone_says_nothing_of_its_interval() -> None:
    found = estimate_median([[7.0]])
    assert (found.value, found.low, found.high) == (pytest.approx(7.0), 0, math.inf)
    assert found.holds(1.0)


DAY = 0.015
"""What a ratio was seen to move by from run to run (standard deviation), whatever intervals assume."""


def _draw_run(generator: np.random.Generator, ratio: float, processes: int = 8, rounds: int = 6, day: float = DAY):
    """Draw the times of a run, in which the day, each process and each round have luck of their own.

    Rounds drift together, as a machine that gets busier slows down all models.
    """
    reference, times = [], []
    ratio *= np.exp(generator.normal(0, day))
    for _ in range(processes):
        drift = np.exp(np.cumsum(generator.normal(0, 0.1, rounds)))
        for kept, middle in ((reference, 10.0), (times, 10.0 / ratio)):
            luck = np.exp(generator.normal(0, 0.03))
            kept.append((middle * luck * drift * np.exp(generator.normal(0, 0.01, rounds))).tolist())
    return estimate_ratio(times, reference)


def _count_met(runs: Sequence[Estimate]) -> float:
    """Return the part of the runs that find the ratio within the interval of the run before."""
    return statistics.fmean(first.holds(second.value) for first, second in zip(runs[::2], runs[1::2], strict=True))


def test_another_run_finds_the_ratio_within_the_interval_19_times_of_20() -> None:
    generator = np.random.default_rng(0)
    assert 0.93 <= _count_met([_draw_run(generator, 1.3) for _ in range(1200)]) <= 0.985


def test_it_does_not_where_days_differ_more_than_is_assumed() -> None:
    generator = np.random.default_rng(0)
    assert _count_met([_draw_run(generator, 1.3, day=0.05) for _ in range(400)]) < 0.85


def _draw_noisy(generator: np.random.Generator, busy: bool) -> tuple[list[list[float]], list[list[float]]]:
    """Draw the rounds of a model that takes 10 ms, and of its reference of 13 ms, in 8 processes.

    On a busy day other work adds to most rounds, to those of the model more.
    """
    day = np.exp(generator.normal(0, DAY))
    drawn = []
    for middle, cost in ((10.0 * day, 4.0), (13.0, 1.0)):
        luck = middle * np.exp(generator.normal(0, 0.01, (8, 1)))
        added = busy * (generator.random((8, 10)) < 0.7) * generator.exponential(cost, (8, 10))
        drawn.append((luck * np.exp(generator.normal(0, 0.005, (8, 10))) + added).tolist())
    return drawn[0], drawn[1]


def test_a_busy_day_finds_the_ratio_of_fastest_rounds_again_and_not_that_of_medians() -> None:
    generator = np.random.default_rng(0)
    days = [_draw_noisy(generator, busy) for _ in range(300) for busy in (False, True)]
    fastest = [estimate_ratio(times, reference) for times, reference in days]
    medians = [estimate_ratio(*([[statistics.median(each)] for each in rounds] for rounds in day)) for day in days]
    assert _count_met(fastest) >= 0.93
    assert _count_met(medians) < 0.5


def test_the_fastest_time_of_processes_has_the_spread_of_times_in_its_error() -> None:
    found = estimate_fastest([[10.0, 99.0], [20.0], [50.0, 40.0]])
    drawn = statistics.stdev(math.log(time) for time in (10, 20, 40)) / math.sqrt(3)
    error = math.hypot(drawn, TIME_SPREAD)
    assert (found.value, found.error) == (pytest.approx(20), pytest.approx(error))
    assert found.freedom == pytest.approx(2 * (error / drawn) ** 4)
    assert estimate_fastest([[10.0], [10.0]]).freedom == 30
    assert estimate_fastest([[10.0]]).high == math.inf


def test_the_interval_is_no_wider_than_it_must_be() -> None:
    generator = np.random.default_rng(0)
    widths = [math.log(found.high / found.low) for found in (_draw_run(generator, 1.3) for _ in range(200))]
    spread = math.hypot(math.hypot(0.03, 0.03) / math.sqrt(8), RUN_SPREAD)
    assert statistics.median(widths) < 2 * 2.6 * math.sqrt(2) * spread


def test_equal_runs_differ_beyond_the_noise_once_in_20() -> None:
    generator = np.random.default_rng(1)
    runs = [_draw_run(generator, 1.3) for _ in range(1200)]
    alarms = [not compare_estimates(*pair).holds(1.0) for pair in zip(runs[::2], runs[1::2], strict=True)]
    assert 0.01 <= statistics.fmean(alarms) <= 0.07


def test_a_tenth_slower_is_beyond_the_noise() -> None:
    generator = np.random.default_rng(2)
    pairs = [(_draw_run(generator, 1.3), _draw_run(generator, 1.3 / 1.1)) for _ in range(100)]
    assert statistics.fmean(compare_estimates(*pair).high < 1 for pair in pairs) > 0.6


@pytest.mark.parametrize(("freedom", "t"), [(1, 12.706), (2, 4.303), (7, 2.365), (30, 2.042)])
def test_the_chance_is_that_of_students_t(freedom: int, t: float) -> None:
    assert Estimate(math.exp(t * 0.1), 0.0, 9.0, 0.1, freedom).chance == pytest.approx(0.05, rel=1e-3)
    assert Estimate(math.exp(-t * 0.1), 0.0, 9.0, 0.1, freedom).chance == pytest.approx(0.05, rel=1e-3)


def test_many_changes_are_judged_together() -> None:
    change = Estimate(math.exp(2.6 * 0.1), 0.0, 9.0, 0.1, 14)
    same = Estimate(1.0, 0.9, 1.1, 0.1, 14)
    assert find_real([change]) == [True]
    assert find_real([same, change, same]) == [False, False, False]
    assert find_real([change, change]) == [True, True]


@pytest.mark.parametrize(("count", "level"), [(1, 0.05), (4, 0.0125)])
def test_the_smallest_change_is_where_verdicts_turn(count: int, level: float) -> None:
    same = Estimate(1.0, 0.9, 1.1, 0.03, 14)
    smallest = find_smallest([same] * count)[0]
    at = [Estimate(math.exp(math.log(smallest) * share), 0.0, 9.0, 0.03, 14) for share in (0.999, 1.001)]
    assert [find_real([each, *[same] * (count - 1)])[0] for each in at] == [False, True]
    assert at[0].chance == pytest.approx(level, rel=0.02)


def test_a_change_that_is_seldom_missed_is_larger_and_that_of_an_unknown_error_has_no_size() -> None:
    same = Estimate(1.0, 0.9, 1.1, 0.03, 14)
    (smallest,), (sure,) = find_smallest([same]), find_smallest([same], 0.05)
    assert math.log(smallest) == pytest.approx(2.145 * 0.03, rel=1e-3)
    assert math.log(sure) == pytest.approx((2.145 + 1.761) * 0.03, rel=1e-3)
    assert find_smallest([Estimate(1.0, 0.0, math.inf, math.inf, 1)]) == [math.inf]


def test_intervals_and_chances_agree_for_many_processes() -> None:
    """Beyond 30 degrees of freedom both take the row of 30."""
    for factor in (0.999, 1.001):
        change = compare_estimates(
            Estimate(1.0, 1.0, 1.0, 0.02, 40), Estimate(math.exp(2.042 * 0.02 * factor), 0, 9, 0, 40)
        )
        assert change.holds(1.0) == (not find_real([change])[0]) == (factor < 1)


def test_estimates_without_an_error_are_compared_exactly() -> None:
    sure = estimate_median([[5.0], [5.0]])
    found = compare_estimates(sure, sure)
    assert (found.low, found.value, found.high) == pytest.approx((1, 1, 1))


def test_an_estimate_of_one_round_is_compared_with_nothing() -> None:
    assert compare_estimates(estimate_median([[7.0]]), estimate_median([[1.0], [1.0]])).holds(100.0)


def test_chained_ratios_have_the_errors_of_both() -> None:
    ratio, reference = Estimate(6.0, 5.0, 7.0, 0.03, 4.0), Estimate(2.0, 1.9, 2.1, 0.04, 4.0)
    found = chain_ratios(ratio, reference)
    assert (found.value, found.error) == (pytest.approx(3.0), pytest.approx(0.05))
    plain = compare_estimates(reference, ratio)
    assert math.log(found.high / found.value) == pytest.approx(math.sqrt(2) * math.log(plain.high / plain.value))
    assert found.freedom == plain.freedom == pytest.approx(0.05**4 / (0.03**4 / 4 + 0.04**4 / 4))

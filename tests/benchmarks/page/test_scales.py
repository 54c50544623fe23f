"""Axes: where values lie and which are written."""

from __future__ import annotations

import pytest

from vtopt.benchmarks.page.scales import find_ticks, fit_scale


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        pytest.param(0, 72, (0, 20, 40, 60), id="steps of 20"),
        pytest.param(30, 60, (30, 40, 50, 60), id="from 30"),
        pytest.param(0, 0.5, (0, 0.2, 0.4), id="below 1"),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: tuple[float, ...]) -> None:
    assert find_ticks(low, high, 4) == pytest.approx(ticks)


def test_alike_values_have_an_axis_from_0() -> None:
    scale = fit_scale(50, 65, 40, 340)
    assert not scale.logarithmic
    assert (scale.place(0), scale.place(scale.high)) == (40, 340)
    assert scale.place(50) == pytest.approx(40 + 300 * 50 / scale.high)


def test_values_far_apart_share_a_logarithmic_axis() -> None:
    scale = fit_scale(5, 500, 0, 100)
    assert scale.logarithmic
    assert scale.ticks == (5, 10, 20, 50, 100, 200, 500)
    assert scale.place(50) == pytest.approx(50)


def test_values_beyond_lie_at_the_end() -> None:
    assert fit_scale(50, 65, 40, 340).place(float("-inf")) == 40

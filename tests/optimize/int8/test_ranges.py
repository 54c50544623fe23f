"""Ranges: what each method keeps of what was seen."""

from __future__ import annotations

import numpy as np
import pytest

from vtopt.optimize.int8.calibration import Histogram, start_histogram
from vtopt.optimize.int8.ranges import RANGE_METHODS, Range, choose_ranges
from vtopt.optimize.int8.settings import RangeMethod


def _find(values: np.ndarray, method: RangeMethod) -> Range:
    histogram: Histogram = start_histogram(values.astype(np.float32))
    return choose_ranges({"x": histogram}, method)["x"]


def _draw(size: int = 200_000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def _draw_outliers(seed: int = 0) -> np.ndarray:
    values = _draw(seed=seed)
    values[:8] = np.linspace(12, 25, 8)
    values[8:12] = -15
    return values


def _round(values: np.ndarray, low: float, high: float) -> float:
    """Return the mean squared error of the numbers in 8 bits over a range."""
    step = (high - low) / 255
    zero = np.rint(-low / step)
    made = (np.clip(np.rint(values / step) + zero, 0, 255) - zero) * step
    return float(np.mean((made - values.astype(np.float64)) ** 2))


def test_minmax_is_exact() -> None:
    values = _draw_outliers()
    assert _find(values, "minmax") == (values.min(), values.max())


def test_percentile_leaves_one_in_ten_thousand_outside() -> None:
    values = _draw(1_000_000)[: 1 << 18]
    low, high = _find(values, "percentile")
    share = np.mean((values < low) | (values > high))
    assert 0.5e-4 < share < 1.1e-4
    assert abs((values < low).sum() - (values > high).sum()) <= 10


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("relu", "most"), [(False, 1.02), (True, 1.07)])
def test_mse_is_near_the_best_of_all_ranges(seed: int, relu: bool, most: float) -> None:
    """Behind a Relu less so: zeros cost nothing in rounding, and are counted as if they did."""
    values = _draw_outliers(seed)
    values = np.maximum(values, 0) if relu else values
    low, high = _find(values, "mse")
    lows = [0.0] if relu else np.linspace(float(values.min()), -1, 40)
    best = min(_round(values, left, right) for left in lows for right in np.linspace(1, float(values.max()), 60))
    assert _round(values, low, high) <= most * best
    widest = _find(values, "minmax")
    assert high - low < 0.9 * (widest.high - widest.low)


def test_mse_of_even_numbers_cuts_nothing() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, 100_000)
    low, high = _find(values, "mse")
    assert (low, high) == pytest.approx((-1, 1), abs=0.02)


def test_entropy_keeps_a_normal_distribution_and_cuts_a_far_outlier() -> None:
    values = _draw()
    low, high = _find(values, "entropy")
    assert np.mean((values < low) | (values > high)) < 0.005
    values[0] = 40
    assert _find(values, "entropy").high < 20
    assert np.mean(values > _find(values, "entropy").high) < 0.005


@pytest.mark.parametrize("method", RANGE_METHODS)
@pytest.mark.parametrize("values", [_draw() + 9, _draw() - 9, np.abs(_draw()), -np.abs(_draw())])
def test_zero_is_always_in_the_range(method: RangeMethod, values: np.ndarray) -> None:
    low, high = _find(values, method)
    assert low <= 0 <= high
    assert low == 0 or values.min() < 0
    assert high == 0 or values.max() > 0


@pytest.mark.parametrize("method", RANGE_METHODS)
@pytest.mark.parametrize("value", [0.0, 3.0, -0.7, 1e-20, 1e20])
def test_constant_tensors(method: RangeMethod, value: float) -> None:
    low, high = _find(np.full(1000, value), method)
    assert (low, high) == pytest.approx((min(value, 0), max(value, 0)), rel=0.02, abs=1e-30)


@pytest.mark.parametrize("method", RANGE_METHODS)
def test_no_range_is_wider_than_what_was_seen(method: RangeMethod) -> None:
    values = _draw_outliers()
    low, high = _find(values, method)
    assert values.min() <= low < high <= values.max()

"""Distances of features: by formula, and against the straightforward root of a product of matrices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from vtopt.benchmarks.fid.distance import measure_frechet_distance, measure_kernel_distance
from vtopt.benchmarks.fid.moments import measure_moments

Array = np.ndarray


def _draw(count: int, features: int, seed: int = 0, scale: float = 1.0) -> Array:
    """Correlated features, as those of a network are."""
    draws = np.random.default_rng(seed)
    mixing = draws.normal(size=(features, features)) / features**0.5
    return scale * draws.normal(size=(count, features)) @ mixing + draws.normal(size=features)


def _measure(one: Array, other: Array) -> float:
    return measure_frechet_distance(measure_moments(one), measure_moments(other))


@pytest.mark.parametrize(
    ("count", "features"),
    [pytest.param(300, 32, id="more pictures than features"), pytest.param(40, 96, id="fewer pictures than features")],
)
def test_frechet_distance_is_that_of_scipys_root(count: int, features: int) -> None:
    one, other = _draw(count, features), _draw(count + 7, features, 1, 1.3)
    c1, c2 = (np.cov(x, rowvar=False) for x in (one, other))
    shift = one.mean(axis=0) - other.mean(axis=0)
    expected = shift @ shift + np.trace(c1 + c2 - 2 * linalg.sqrtm(c1 @ c2).real)
    assert _measure(one, other) == pytest.approx(expected, abs=1e-3)


def test_frechet_distance_of_one_feature_is_its_formula() -> None:
    one, other = _draw(50, 1), _draw(60, 1, 1)
    expected = (one.mean() - other.mean()) ** 2 + (one.std(ddof=1) - other.std(ddof=1)) ** 2
    assert _measure(one, other) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_shifted_features_is_the_shift_squared() -> None:
    features, shift = _draw(200, 16), np.linspace(-1, 1, 16)
    assert _measure(features, features + shift) == pytest.approx(shift @ shift, rel=1e-9)


@pytest.mark.parametrize("count", [2, 40, 500])
def test_frechet_distance_to_itself_is_0(count: int) -> None:
    features = _draw(count, 128)
    assert _measure(features, features) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_equal_pictures_is_of_their_means() -> None:
    one, other = np.ones((3, 4)), np.zeros((3, 4))
    assert _measure(one, other) == pytest.approx(4)


def test_kernel_distance_is_its_definition() -> None:
    one, other = _draw(7, 5), _draw(7, 5, 1)

    def kernel(x: Array, y: Array) -> float:
        return (x @ y / 5 + 1) ** 3

    within = sum(kernel(x[i], x[j]) for x in (one, other) for i in range(7) for j in range(7) if i != j) / (7 * 6)
    between = sum(kernel(x, y) for x in one for y in other) / 7**2
    measured = measure_kernel_distance(one, other)
    assert measured.mean == pytest.approx(within - 2 * between)
    assert (measured.spread, measured.subsets, measured.size) == (None, 1, 7)


def test_kernel_distance_of_one_distribution_is_0_within_its_spread() -> None:
    features = np.random.default_rng(0).normal(size=(600, 8))
    same = measure_kernel_distance(features[:300], features[300:], size=100)
    other = measure_kernel_distance(features[:300], features[300:] + 0.5, size=100)
    assert same.spread is not None
    assert abs(same.mean) < same.spread < other.mean
    assert (same.subsets, same.size) == (100, 100)


def test_kernel_distance_is_the_same_of_the_same_seed() -> None:
    one, other = _draw(50, 6), _draw(40, 6, 1)
    first, again, another = (measure_kernel_distance(one, other, size=20, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first.mean != another.mean

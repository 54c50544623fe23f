"""Moments of features that pass by: those of all at once, whatever the batches."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest

from vtopt.benchmarks.fid.moments import FeatureMoments, measure_moments, merge_moments


def _draw(count: int = 37, features: int = 6) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, features)).astype(np.float32)


def _collect(batches: list[np.ndarray]) -> FeatureMoments:
    return reduce(merge_moments, map(measure_moments, batches))


@pytest.mark.parametrize("sizes", [(37,), (16, 16, 5), (1,) * 37], ids=str)
def test_moments_are_those_of_all_at_once(sizes: tuple[int, ...]) -> None:
    features = _draw()
    moments = _collect(np.split(features, np.cumsum(sizes)[:-1]))
    assert moments.count == 37
    np.testing.assert_allclose(moments.mean, features.astype(np.float64).mean(axis=0), atol=1e-14)
    np.testing.assert_allclose(moments.covariance, np.cov(features.astype(np.float64), rowvar=False), atol=1e-13)


def test_a_large_mean_does_not_cancel_the_covariance() -> None:
    """Sums of squares would lose it: 1e7 squared has fourteen digits before those of the covariance."""
    features = _draw(1000).astype(np.float64) + 1e7
    moments = _collect(np.array_split(features, 60))
    np.testing.assert_allclose(moments.covariance, np.cov(_draw(1000).astype(np.float64), rowvar=False), atol=1e-6)

"""Mean and covariance of features that pass by in batches: memory does not grow with their number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FeatureMoments", "measure_moments", "merge_moments"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FeatureMoments:
    """The first two moments of `count` features of D numbers."""

    count: int
    mean: Array
    """(D,)"""
    scatter: Array
    """(D, D), the sum of the outer products of what lies off the mean."""

    @property
    def covariance(self) -> Array:
        """The unbiased one, (D, D); of two features or more."""
        return self.scatter / (self.count - 1)


def measure_moments(features: NDArray[np.floating]) -> FeatureMoments:
    """Return the moments of features (N, D), in float64."""
    wide = features.astype(np.float64)
    mean = wide.mean(axis=0)
    centred = wide - mean
    return FeatureMoments(len(wide), mean, centred.T @ centred)


def merge_moments(one: FeatureMoments, other: FeatureMoments) -> FeatureMoments:
    """Return the moments of both together, without the cancellation of summed squares.

    Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979.
    """
    count = one.count + other.count
    shift = other.mean - one.mean
    return FeatureMoments(
        count,
        one.mean + shift * (other.count / count),
        one.scatter + other.scatter + np.outer(shift, shift * (one.count * other.count / count)),
    )

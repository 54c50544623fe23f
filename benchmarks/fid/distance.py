"""How far apart two sets of features lie: the Frechet distance of their moments, and the kernel distance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .moments import FeatureMoments

__all__ = ["KernelDistance", "measure_frechet_distance", "measure_kernel_distance"]

SUBSETS = 100
SUBSET_SIZE = 1000
"""Of each set at most, for a kernel distance."""
DEGREE = 3

Array = NDArray[np.float64]


class KernelDistance(NamedTuple):
    """An unbiased estimate, below 0 where two sets differ less than by chance."""

    mean: float
    """Over the subsets."""
    spread: float | None
    """Standard deviation over the subsets; None of a single one."""
    subsets: int
    size: int


def measure_frechet_distance(one: FeatureMoments, other: FeatureMoments) -> float:
    """Return |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2)), of means m and covariances C.

    Dowson and Landau, "The Frechet distance between multivariate normal distributions", 1982. With C = L L^T the last
    trace is the sum of the singular values of L1^T L2: no root of a product that is not symmetric is taken, and fewer
    pictures than features make L narrow, not the result unstable.
    """
    shift = one.mean - other.mean
    overlap = np.linalg.svd(_factor(one.covariance).T @ _factor(other.covariance), compute_uv=False).sum()
    traces = np.trace(one.covariance) + np.trace(other.covariance)
    return float(shift @ shift + traces - 2 * overlap)


def _factor(covariance: Array) -> Array:
    """Return L (D, rank) with L L^T = covariance, symmetric and not negative but for rounding."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
    return vectors[:, kept] * np.sqrt(values[kept])


def measure_kernel_distance(
    one: NDArray[np.floating],
    other: NDArray[np.floating],
    *,
    subsets: int = SUBSETS,
    size: int = SUBSET_SIZE,
    seed: int = 0,
) -> KernelDistance:
    """Return the squared maximum mean discrepancy of features (N, D) and (M, D), with kernel (x y / D + 1)^3.

    Binkowski et al., "Demystifying MMD GANs", ICLR 2018 (https://arxiv.org/abs/1801.01401). The mean over subsets
    that a seed draws, without replacement, of `size` features, or as many as the smaller set has; two sets of that
    many are compared once, whole. Needs two features of each.
    """
    size = min(size, len(one), len(other))
    draws = np.random.default_rng(seed)
    if size == len(one) == len(other):
        subsets = 1
    estimates = [
        _estimate_discrepancy(
            one[np.sort(draws.choice(len(one), size, replace=False))],
            other[np.sort(draws.choice(len(other), size, replace=False))],
        )
        for _ in range(subsets)
    ]
    spread = float(np.std(estimates)) if subsets > 1 else None
    return KernelDistance(float(np.mean(estimates)), spread, subsets, size)


def _estimate_discrepancy(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    x, y = one.astype(np.float64), other.astype(np.float64)
    count = len(x)
    within = sum(_apply_kernel(z, z) - _trace_kernel(z) for z in (x, y)) / (count * (count - 1))
    return within - 2 * _apply_kernel(x, y) / count**2


def _apply_kernel(x: Array, y: Array) -> float:
    return float(((x @ y.T / x.shape[1] + 1) ** DEGREE).sum())


def _trace_kernel(x: Array) -> float:
    return float((((x * x).sum(axis=1) / x.shape[1] + 1) ** DEGREE).sum())

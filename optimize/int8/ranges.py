"""From a histogram to a range: minimum and maximum, percentile, entropy, or least squared error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .calibration import BINS, Histogram
from .settings import RangeMethod

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RANGE_METHODS", "Range", "choose_ranges"]

LEVELS = 255
"""Steps of an 8-bit range."""
OUTSIDE = 1e-4
"""The share of numbers that percentile leaves outside a range, at both ends together."""
SHRINKS = np.linspace(1.0, 0.2, 81)
"""How far the squared error is followed: from the extremes down to a fifth of them."""
ENTROPY_LEVELS = 128
ENTROPY_BINS = 1024


class Range(NamedTuple):
    """What an 8-bit tensor can hold; zero is always in it."""

    low: float
    high: float


def choose_ranges(histograms: Mapping[str, Histogram], method: RangeMethod) -> dict[str, Range]:
    """Return each tensor's range by one method."""
    find = RANGE_METHODS[method]
    return {name: _cover_zero(*find(histogram)) for name, histogram in histograms.items()}


def _cover_zero(low: float, high: float) -> Range:
    return Range(min(low, 0.0), max(high, 0.0))


def find_extremes(histogram: Histogram) -> tuple[float, float]:
    """Return the least and the largest number seen: nothing is cut off."""
    return histogram.low, histogram.high


def find_percentile(histogram: Histogram) -> tuple[float, float]:
    """Return the range that leaves one number in 10,000 outside."""
    below = np.cumsum(histogram.counts) / histogram.counts.sum()
    width = 2 * histogram.limit / BINS
    low = np.searchsorted(below, OUTSIDE / 2, side="right") * width - histogram.limit
    high = (np.searchsorted(below, 1 - OUTSIDE / 2) + 1) * width - histogram.limit
    return max(float(low), histogram.low), min(float(high), histogram.high)


def find_least_error(histogram: Histogram) -> tuple[float, float]:
    """Return the range of the least expected squared error: what is cut off against how coarse the rest becomes.

    The ends are shrunk in turn, each while the other is held. Rounding costs step^2 / 12.
    """
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    ends = np.array([low, high])
    best = ends.copy()
    for end in (0, 1, 0, 1):
        if not ends[end]:
            continue
        tried = np.repeat(best[None], len(SHRINKS), 0)
        tried[:, end] = ends[end] * SHRINKS
        best = tried[np.argmin([_expect_error(histogram, *each) for each in tried])]
    return float(best[0]), float(best[1])


def _expect_error(histogram: Histogram, low: float, high: float) -> float:
    centres, counts = histogram.centres, histogram.counts
    outside = np.maximum(low - centres, 0) + np.maximum(centres - high, 0)
    step = (high - low) / LEVELS
    return float((counts * outside**2).sum() / counts.sum() + step**2 / 12)


def find_least_divergence(histogram: Histogram) -> tuple[float, float]:
    """Return the range whose 8-bit distribution is nearest to what was seen, by Kullback-Leibler divergence.

    Migacz, "8-bit inference with TensorRT", GTC 2017: on magnitudes, of 128 levels.
    """
    signed = histogram.counts.reshape(2, -1)
    magnitudes = (signed[0, ::-1] + signed[1]).reshape(ENTROPY_BINS, -1).sum(1).astype(np.float64)
    ends = range(ENTROPY_LEVELS, ENTROPY_BINS + 1, 2)
    end = min(ends, key=lambda end: _diverge(magnitudes, end))
    threshold = histogram.limit * end / ENTROPY_BINS
    return max(histogram.low, -threshold), min(histogram.high, threshold)


def _diverge(magnitudes: NDArray[np.float64], end: int) -> float:
    """Return the divergence of the first `end` bins, what lies beyond put into the last, from their quantised form."""
    seen = magnitudes[:end].copy()
    occupied = seen > 0
    starts = np.arange(ENTROPY_LEVELS) * end // ENTROPY_LEVELS
    level = np.searchsorted(starts, np.arange(end), side="right") - 1
    sums, filled = np.add.reduceat(seen, starts), np.add.reduceat(occupied.astype(np.float64), starts)
    made = np.where(occupied, (sums / np.maximum(filled, 1))[level], 0.0)
    seen[-1] += magnitudes[end:].sum()
    total, made_total = seen.sum(), made.sum()
    if not made_total:
        return np.inf
    p, q = seen / total, made / made_total
    missing = (p > 0) & (q == 0)
    if missing.any():
        q = np.where(missing, 1e-9, q)
    known = p > 0
    return float((p[known] * np.log(p[known] / q[known])).sum())


RANGE_METHODS: Mapping[RangeMethod, Callable[[Histogram], tuple[float, float]]] = {
    "minmax": find_extremes,
    "percentile": find_percentile,
    "entropy": find_least_divergence,
    "mse": find_least_error,
}

"""One network's outputs under noise: what a chaotic network's output from elsewhere can be compared with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ensemble"]

CUT = 10.0
"""A number's distance counts up to so many standard deviations."""

LEAST_SPREAD = 1e-4
"""Standard deviations are taken for at least this share of the largest value."""


class Ensemble(NamedTuple):
    """Outputs of one network, each of a run with its own noise on the inputs, and how far others are from them."""

    members: NDArray[np.float64]

    def measure(self, made: NDArray[np.float64], without: int | None = None) -> float:
        """Mean distance to the mean of the members, number by number, in standard deviations of that number."""
        others = self.members if without is None else np.delete(self.members, without, 0)
        mean, spread = others.mean(0), others.std(0, ddof=1)
        distance = np.abs(made - mean) / np.maximum(spread, LEAST_SPREAD * np.abs(mean).max())
        return float(np.minimum(distance, CUT).mean())

    def measure_fairly(self, made: NDArray[np.float64]) -> float:
        """The same against as many others as a member is measured against."""
        return float(np.mean([self.measure(made, left_out) for left_out in range(len(self.members))]))

    def find_range(self) -> tuple[float, float]:
        """The least and the largest value of a member measured against the others."""
        values = [self.measure(member, index) for index, member in enumerate(self.members)]
        return min(values), max(values)

    @property
    def limit(self) -> float:
        """What a member of the same distribution hardly exceeds: the range and its width once more."""
        low, high = self.find_range()
        return high + (high - low)

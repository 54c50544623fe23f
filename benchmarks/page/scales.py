"""Where a value lies on an axis, and which round values are written at it."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Scale", "fit_scale"]

LOGARITHMIC_FROM = 6.0
"""Values that differ by more than this share a logarithmic axis."""


@dataclass(frozen=True)
class Scale:
    """A straight axis from value `low` at `start` to `high` at `end`, in pixels."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Return the pixel of a value; values beyond the axis lie at its ends."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.logarithmic:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return self.start + (self.end - self.start) * (at - low) / (high - low)


def fit_scale(low: float, high: float, start: float, end: float, *, count: int = 6) -> Scale:
    """Return an axis for values above 0: from 0, or logarithmic where they differ by more than `LOGARITHMIC_FROM`."""
    if high > LOGARITHMIC_FROM * low:
        first, last = low / 1.3, high * 1.3
        steps = (mantissa * 10.0**power for power in range(-6, 9) for mantissa in (1, 2, 5))
        return Scale(first, last, start, end, tuple(step for step in steps if first <= step <= last), True)
    last = high * 1.12
    return Scale(0.0, last, start, end, find_ticks(0.0, last, count))


def find_ticks(low: float, high: float, count: int) -> tuple[float, ...]:
    """Return about `count` round values from `low` to `high`, steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * mantissa for mantissa in (1, 2, 5, 10) if power * mantissa >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(round(index * step, 9) for index in range(first, last + 1))

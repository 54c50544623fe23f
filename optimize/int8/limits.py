"""What a search has to keep, and when it has to end."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .mixtures import Score

__all__ = ["NEVER", "Budget", "Deadline"]


LARGEST_DB = 3000.0


@dataclass(frozen=True)
class Budget:
    """What a mixture has to keep; None is not asked for."""

    min_psnr: float | None = None
    """dB, median over the pairs."""
    max_flow_px: float | None = None
    """Pixels of the picture, median over the pairs."""

    def holds(self, score: Score) -> bool:
        """Tell whether a score keeps the budget."""
        return self.excess(score) <= 1

    def excess(self, score: Score) -> float:
        """Return how many times over the budget a score is, in squared error or squared flow, whichever is more."""
        parts = [0.0]
        if self.min_psnr is not None:
            parts.append(_to_ratio(self.min_psnr - score.psnr_db))
        if self.max_flow_px is not None and score.flow_px is not None:
            parts.append((score.flow_px / self.max_flow_px) ** 2 if self.max_flow_px else math.inf * score.flow_px)
        return max(parts)


@dataclass(frozen=True)
class Deadline:
    """When work has to end, by the monotonic clock."""

    at: float

    def left(self) -> float:
        """Return the seconds that are left, 0 when there are none."""
        return max(0.0, self.at - time.monotonic())

    def share(self, part: float) -> Deadline:
        """Return the deadline of a part, from 0 to 1, of the time that is left."""
        return self if self.at == math.inf else Deadline(time.monotonic() + part * self.left())


NEVER = Deadline(math.inf)


def _to_ratio(decibels: float) -> float:
    """Return the ratio of squared errors, infinite where a float cannot hold it."""
    return math.inf if decibels > LARGEST_DB else 10 ** (decibels / 10)

"""Which model to use, by a rule that the page states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..engines.sets import Key
from .content import SAME_SPEED_RATIO, Point

__all__ = ["CLOSE_DB", "RULE", "Recommendation", "recommend"]

CLOSE_DB = 35.0

RULE = (
    f"Of the models whose worst pair is at least {CLOSE_DB:g} dB from the reference, and of the reference itself: the "
    "fastest, each on its best runtime. Of those that are not told from it in speed (the intervals of their speeds "
    f"overlap; without intervals, speeds within {SAME_SPEED_RATIO - 1:.0%}), the smallest. Where no model is that "
    "close, the reference."
)


@dataclass(frozen=True)
class Recommendation:
    """What the rule chose."""

    chosen: Point
    as_fast: tuple[Point, ...]
    """Others that were not told from the fastest, and are not smaller."""
    closest: Point | None
    """Of the other models the one whose worst pair is closest to the reference; None where all are broken."""

    @property
    def is_close(self) -> bool:
        """Whether any model but the reference keeps its worst pair at `CLOSE_DB`."""
        return self.closest is not None and self.closest.closeness >= CLOSE_DB


def recommend(points: Sequence[Point], reference: Key) -> Recommendation | None:
    """Return what `RULE` chooses; None where no pictures were compared, or nothing that was timed is close."""
    others = [point for point in points if point.model != reference[0] and point.worst_db is not None]
    best = _pick_best_runtimes([point for point in points if point.closeness >= CLOSE_DB])
    if not others or not best:
        return None
    fastest = max(best, key=lambda point: point.speed)
    alike = [point for point in best if _is_as_fast(point, fastest)]
    chosen = min(alike, key=lambda point: (point.size_mib, -point.speed))
    whole = [point for point in others if point.closeness > -math.inf]
    closest = max(whole, key=lambda point: point.closeness, default=None)
    return Recommendation(chosen, tuple(point for point in alike if point is not chosen), closest)


def _pick_best_runtimes(points: Sequence[Point]) -> list[Point]:
    best: dict[str, Point] = {}
    for point in points:
        if point.model not in best or point.speed > best[point.model].speed:
            best[point.model] = point
    return list(best.values())


def _is_as_fast(point: Point, fastest: Point) -> bool:
    if point.speed_interval and fastest.speed_interval:
        return point.speed_interval[1] >= fastest.speed_interval[0]
    return point.speed * SAME_SPEED_RATIO >= fastest.speed

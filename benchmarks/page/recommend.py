"""Which model to use, by a rule that the page states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..engines.sets import Key
from .content import Point

__all__ = ["CLOSE_DB", "NOISE", "RULE", "Recommendation", "recommend"]

CLOSE_DB = 35.0
NOISE = 1.03
"""Without intervals, medians that differ by less are not told apart."""

RULE = (
    f"Of the models whose worst pair is at least {CLOSE_DB:g} dB from the reference, or of the closest one where none "
    "is, and of the reference itself: the fastest, each on its best runtime. Of those that are not told from it in "
    f"speed (their intervals overlap; without intervals, medians within {NOISE - 1:.0%}), the smallest."
)


@dataclass(frozen=True)
class Recommendation:
    """What the rule chose."""

    chosen: Point
    as_fast: tuple[Point, ...]
    """Others that were not told from the fastest, and are not smaller."""
    is_close: bool
    """False where no model but the reference keeps its worst pair at `CLOSE_DB`."""


def recommend(points: Sequence[Point], reference: Key) -> Recommendation | None:
    """Return what `RULE` chooses; None where no pictures were compared."""
    judged = [point for point in points if point.worst_db is not None]
    others = [point for point in judged if point.model != reference[0]]
    if not others:
        return None
    close = [point for point in others if _worst(point) >= CLOSE_DB]
    allowed = [point for point in judged if point.model == reference[0] and _worst(point) >= CLOSE_DB]
    best = _pick_best_runtimes([*allowed, *(close or [max(others, key=_worst)])])
    fastest = min(best, key=lambda point: point.median_ms)
    alike = [point for point in best if _is_as_fast(point, fastest)]
    chosen = min(alike, key=lambda point: (point.size_mib, point.median_ms))
    return Recommendation(chosen, tuple(point for point in alike if point is not chosen), bool(close))


def _worst(point: Point) -> float:
    return point.worst_db if point.worst_db is not None else float("-inf")


def _pick_best_runtimes(points: Sequence[Point]) -> list[Point]:
    best: dict[str, Point] = {}
    for point in points:
        if point.model not in best or point.median_ms < best[point.model].median_ms:
            best[point.model] = point
    return list(best.values())


def _is_as_fast(point: Point, fastest: Point) -> bool:
    if point.interval and fastest.interval:
        return point.interval[0] <= fastest.interval[1]
    return point.median_ms <= fastest.median_ms * NOISE

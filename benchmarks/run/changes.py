"""What two results files come to side by side: each figure that both have, and what of it is a regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..timing.intervals import Estimate, find_smallest

__all__ = ["BETTER", "NOISE", "SAME", "UNJUDGED", "WORSE", "Change", "Changes", "Kind", "judge_figure"]

Kind = Literal["file", "speed", "time", "cost", "picture"]
"""A ratio to the baseline is a speed, a model's milliseconds are its time, and what runs it at all is a cost."""

WORSE, BETTER, SAME = "worse", "better", "same"
UNJUDGED, NOISE = "not judged", "within the noise"

MISSED = 0.05
"""How often a change that counts as surely seen may be overlooked."""


@dataclass(frozen=True)
class Change:
    """One figure in both files; `runtime` is empty for figures of a file, `ratio` None for those of pictures."""

    kind: Kind
    model: str
    runtime: str
    threads: int | None
    batch: int | None
    what: str
    old: float
    new: float
    ratio: Estimate | None
    verdict: str


@dataclass(frozen=True)
class Changes:
    changes: tuple[Change, ...]
    notices: tuple[str, ...]
    missing: tuple[str, ...]
    """What the old file has and the new one lacks."""

    @property
    def judged(self) -> list[tuple[Kind, Estimate]]:
        """The speeds and times that have a verdict, which they got all together."""
        return [
            (change.kind, change.ratio)
            for change in self.changes
            if change.kind in ("speed", "time") and change.ratio and change.verdict != UNJUDGED
        ]

    def find_seen(self, kind: Kind) -> tuple[float, float] | None:
        """Return the smallest change that is called one, and that is found 19 times of 20, in the least sure row.

        As ratios above 1; None where none of the kind was judged.
        """
        kinds, ratios = [each for each, _ in self.judged], [ratio for _, ratio in self.judged]
        if kind not in kinds:
            return None
        called, sure = (
            max(smallest for each, smallest in zip(kinds, find_smallest(ratios, missed), strict=True) if each == kind)
            for missed in (0.5, MISSED)
        )
        return called, sure

    @property
    def regressions(self) -> list[str]:
        """What got worse beyond the noise, or is missing, as sentences."""
        return [f"{name} is missing" for name in self.missing] + [
            f"{change.model}{f' on {change.runtime}' if change.runtime else ''}: {change.what} from {change.old:.4g} "
            f"to {change.new:.4g}"
            for change in self.changes
            if change.verdict == WORSE
        ]


def judge_figure(old: float, new: float, tolerance: float, *, higher_is_better: bool = False) -> str:
    """Return the verdict on a figure that has no noise; what differs by no more than `tolerance` is the same."""
    if old == new or abs(new - old) <= tolerance:
        return SAME
    return BETTER if (new > old) == higher_is_better else WORSE

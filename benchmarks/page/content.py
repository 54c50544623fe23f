"""What the page shows, whether a run or a results file was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..engines.sets import Key
from ..reports.report import Report
from ..run.results import EntryKey

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "INVISIBLE_DB",
    "SAME_SPEED_RATIO",
    "Artifact",
    "Interval",
    "Page",
    "Point",
    "Profile",
    "View",
    "choose_views",
    "make_points",
]

INVISIBLE_DB = 60.0
"""Rounding to 8 bits alone costs a picture about as much (58.9 dB); above it nobody sees a difference."""

SAME_SPEED_RATIO = 1.03
"""Without intervals, speeds that differ by less are not told apart."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Point:
    """A model on a runtime, as the summary and the scatter see it."""

    model: str
    runtime: str
    size_mib: float
    median_ms: float
    interval: Interval | None
    """The 95 % interval of the median; None where it is not known."""
    speed: float
    """How many times as fast as the baseline."""
    speed_interval: Interval | None
    """Where 95 % of other such runs find the speed, 1 alone for the baseline; None where it is not known."""
    within_noise: bool | None
    """Whether it is not told from the baseline in speed; None for the baseline itself."""
    worst_db: float | None
    """PSNR of the worst pair to the reference: inf for the reference itself, None where pictures were not compared."""
    median_db: float | None

    @property
    def key(self) -> Key:
        return self.model, self.runtime

    @property
    def closeness(self) -> float:
        """The PSNR of the worst pair, minus infinity where pictures are broken or were not compared."""
        return -math.inf if self.worst_db is None or math.isnan(self.worst_db) else self.worst_db


@dataclass(frozen=True)
class Profile:
    """Milliseconds per run by operation type of a model on a runtime."""

    model: str
    runtime: str
    threads: int
    by_op: Mapping[str, float]


@dataclass(frozen=True)
class View:
    """A pair as a model and as the reference show it, RGB pictures of one size."""

    model: str
    runtime: str
    role: str
    pair: str
    psnr: float
    picture: Image.Image
    reference: Image.Image


@dataclass(frozen=True)
class Artifact:
    """A measured file and the steps that made it, oldest first."""

    name: str
    file: str
    sha256: str
    bytes: int
    history: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Page:
    """All that the page shows, from top to bottom."""

    title: str
    table: Report
    points: tuple[Point, ...]
    reference: Key
    """What pictures are compared with."""
    baseline: Key
    """What speed is a ratio to."""
    profiles: tuple[Profile, ...]
    views: tuple[View, ...]
    artifacts: tuple[Artifact, ...]
    conditions: Mapping[str, Any]
    notices: tuple[str, ...]
    noise: str
    """How a difference in speed is told from noise, in a sentence."""


def make_points(
    report: Report, reference: Key, figures: Mapping[EntryKey, Mapping[str, Any]] | None = None
) -> tuple[Point, ...]:
    """Return a point for each row that was timed, of the first count of threads and the first batch among them.

    `figures` are those of `make_figures` for each timed row of results of bench run, where rows without a speed are
    left out; without them speeds within `SAME_SPEED_RATIO` of the first row's are noise.
    """
    timed = [row for row in report.rows if row.get("median ms") is not None]
    alike = [row for row in timed if all(row.get(name) == timed[0].get(name) for name in ("threads", "batch"))]
    if figures is None:
        return tuple(_make_point(row, reference, _take_ratio(row, is_first=row is timed[0])) for row in alike)
    found = [(row, figures[row["model"], row["runtime"], row["threads"], row["batch"]]) for row in alike]
    return tuple(_make_point(row, reference, _take_intervals(each)) for row, each in found if "speed" in each)


def _take_ratio(row: Mapping[str, Any], *, is_first: bool) -> dict[str, Any]:
    """Return the speed of a row that has no intervals, by the fields of a point."""
    speed = row["speed x"]
    noise = None if is_first else max(speed, 1 / speed) <= SAME_SPEED_RATIO
    return {"interval": None, "speed": speed, "speed_interval": None, "within_noise": noise}


def _take_intervals(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the speed and the intervals of an entry's figures, by the fields of a point."""
    low, high = found["median_low_ms"], found["median_high_ms"]
    return {
        "interval": (low, high) if low > 0 and math.isfinite(high) else None,
        "speed": found["speed"],
        "speed_interval": (found["speed_low"], found["speed_high"]),
        "within_noise": found["within_noise"],
    }


def _make_point(row: Mapping[str, Any], reference: Key, pace: Mapping[str, Any]) -> Point:
    key = row["model"], row["runtime"]
    is_reference = key == reference
    return Point(
        *key,
        size_mib=row["size MiB"],
        median_ms=row["median ms"],
        **pace,
        worst_db=math.inf if is_reference else row.get("worst dB"),
        median_db=math.inf if is_reference else row.get("PSNR dB"),
    )


def choose_views(views: Sequence[View], reference: Key) -> tuple[View, ...]:
    """Return each model's views on the runtime where it is worst; those of the reference where a difference shows."""
    worst: dict[str, View] = {}
    for view in views:
        if view.model not in worst or view.psnr < worst[view.model].psnr:
            worst[view.model] = view
    kept = {(name, view.runtime) for name, view in worst.items() if name != reference[0] or view.psnr < INVISIBLE_DB}
    return tuple(view for view in views if (view.model, view.runtime) in kept)

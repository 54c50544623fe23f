"""What the page shows, whether a run or a results file was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..engines.sets import Key
from ..reports.report import Report

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["SAME_DB", "Artifact", "Interval", "Page", "Point", "Profile", "View", "choose_views", "make_points"]

SAME_DB = 60.0
"""Rounding to 8 bits alone costs a picture about as much (58.9 dB); above it nobody sees a difference."""

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
    worst_db: float | None
    """PSNR of the worst pair to the reference: inf for the reference itself, None where pictures were not compared."""
    median_db: float | None

    @property
    def key(self) -> Key:
        return self.model, self.runtime


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


def make_points(report: Report, reference: Key, intervals: Mapping[Key, Interval] | None = None) -> tuple[Point, ...]:
    """Return a point for each row that was timed, of the first count of threads and the first batch among them."""
    timed = [row for row in report.rows if row.get("median ms") is not None]
    alike = [row for row in timed if all(row.get(name) == timed[0].get(name) for name in ("threads", "batch"))]
    return tuple(_make_point(row, reference, intervals or {}) for row in alike)


def _make_point(row: Mapping[str, Any], reference: Key, intervals: Mapping[Key, Interval]) -> Point:
    key = row["model"], row["runtime"]
    is_reference = key == reference
    return Point(
        *key,
        size_mib=row["size MiB"],
        median_ms=row["median ms"],
        interval=intervals.get(key),
        speed=row["speed x"],
        worst_db=math.inf if is_reference else row.get("worst dB"),
        median_db=math.inf if is_reference else row.get("PSNR dB"),
    )


def choose_views(views: Sequence[View], reference: Key) -> tuple[View, ...]:
    """Return each model's views on the runtime where it is worst; those of the reference where a difference shows."""
    worst: dict[str, View] = {}
    for view in views:
        if view.model not in worst or view.psnr < worst[view.model].psnr:
            worst[view.model] = view
    kept = {(name, view.runtime) for name, view in worst.items() if name != reference[0] or view.psnr < SAME_DB}
    return tuple(view for view in views if (view.model, view.runtime) in kept)

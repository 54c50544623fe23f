"""Find places for labels beside points so that they cover each other as little as may be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["Box", "Spot", "place_labels"]

GAP = 6.0


class Box(NamedTuple):
    """A rectangle in pixels, from its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    def overlap(self, other: Box) -> float:
        """Return the area that both cover."""
        wide = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        high = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return max(wide, 0.0) * max(high, 0.0)


class Spot(NamedTuple):
    """A round point in pixels, with a bar through it from `left` to `right`."""

    x: float
    y: float
    radius: float
    left: float
    right: float

    def frame(self) -> Box:
        return Box(self.left, self.y - self.radius, self.right - self.left, 2 * self.radius)


def place_labels(
    spots: Sequence[Spot], sizes: Sequence[tuple[float, float]], area: Box, taken: Sequence[Box] = ()
) -> list[Box]:
    """Return a box of each size beside its spot.

    One after another they take the place that covers least of the points, of what is `taken`, of the labels before
    and of what lies outside the area; of equal places the first of right, left, above and below.
    """
    frames = [*taken, *(spot.frame() for spot in spots)]
    placed: list[Box] = []
    for spot, (width, height) in zip(spots, sizes, strict=True):
        places = _list_places(spot, width, height)
        placed.append(min(places, key=lambda box: _cost(box, (*frames, *placed), area)))
    return placed


def _list_places(spot: Spot, width: float, height: float) -> list[Box]:
    out = spot.radius + GAP / 2
    right, left, middle = spot.right + GAP, spot.left - GAP - width, spot.x - width / 2
    above, level, below = spot.y - out - height, spot.y - height / 2, spot.y + out
    corners = [(right, above), (left, above), (right, below), (left, below)]
    farther = [(middle, above - height), (middle, below + height), (right, above - height), (right, below + height)]
    sides = [(right, level), (left, level), (middle, above), (middle, below)]
    return [Box(x, y, width, height) for x, y in (*sides, *corners, *farther)]


def _cost(box: Box, others: Iterable[Box], area: Box) -> float:
    outside = box.width * box.height - box.overlap(area)
    return round(4 * outside + sum(box.overlap(other) for other in others), 3)

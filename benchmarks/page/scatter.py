"""The chart of latency against quality, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..engines.sets import Key
from .content import INVISIBLE_DB, Point
from .labels import Box, Spot, place_labels
from .markup import Markup, join, tag
from .number_text import write_db, write_mib, write_ms
from .recommend import CLOSE_DB
from .scales import Scale, find_ticks, fit_scale

__all__ = ["draw_scatter", "find_front", "list_shown"]

BAND = f"equal, or {INVISIBLE_DB:g} dB and more"

LETTER = 7.4
RING = 3.0
"""What a ring is wider than its dot."""
LINE = 17.0


@dataclass(frozen=True)
class _Layout:
    width: float
    height: float
    left: float
    band: float
    """Height of the band of equal pictures."""
    largest: float
    """Radius of the largest model."""
    ticks: int


WIDE = _Layout(width=1000, height=470, left=44, band=84, largest=20, ticks=8)
NARROW = _Layout(width=350, height=400, left=30, band=64, largest=13, ticks=4)
TOP, BOTTOM, RIGHT = 24.0, 48.0, 8.0


def list_shown(points: Sequence[Point]) -> list[Point]:
    """Return the points that the chart shows, fastest first."""
    return sorted((point for point in points if point.worst_db is not None), key=lambda point: point.median_ms)


def find_front(points: Sequence[Point], *, with_size: bool = True) -> list[Point]:
    """Return the points that no other beats in latency, quality and size (or the first two alone), fastest first.

    From `INVISIBLE_DB` on pictures count as equal; broken ones have no place on the front.
    """
    whole = [point for point in points if math.isfinite(_cap(point))]
    costs = {point.key: (point.median_ms, -_cap(point), *([point.size_mib] if with_size else ())) for point in whole}
    front = [point for point in whole if not any(_beats(other, costs[point.key]) for other in costs.values())]
    return sorted(front, key=lambda point: point.median_ms)


def _beats(costs: tuple[float, ...], others: tuple[float, ...]) -> bool:
    return costs != others and all(one <= other for one, other in zip(costs, others, strict=True))


def draw_scatter(points: Sequence[Point], chosen: Key | None, *, narrow: bool = False) -> Markup:
    """Draw latency to the right and the worst pair's PSNR upward; a dot's area is the size on disk.

    Points of `find_front` are ringed; a line joins those of latency and quality alone. The narrow chart has
    the points' numbers in place of their names, as `list_shown` counts them. Points without a quality are left out.
    """
    layout = NARROW if narrow else WIDE
    shown = list_shown(points)
    ends = [time for point in shown for time in (point.median_ms, *(point.interval or ()))]
    x = fit_scale(min(ends), max(ends), layout.left, layout.width - RIGHT, count=layout.ticks)
    y = _fit_quality(shown, layout)
    largest = max(point.size_mib for point in shown)
    spots = [_find_spot(point, x, y, layout, point.size_mib / largest) for point in shown]
    several = len({point.runtime for point in shown}) > 1
    names = [str(number) if narrow else _name(point, several) for number, point in enumerate(shown, 1)]
    area = Box(layout.left, TOP, layout.width - layout.left - RIGHT, layout.height - TOP - BOTTOM)
    where = dict(zip((point.key for point in shown), spots, strict=True))
    steps = [where[point.key] for point in find_front(shown, with_size=False)]
    ringed = {point.key for point in find_front(shown)}
    taken = [Box(layout.left, TOP, LETTER * len(BAND), LINE), *_frame_steps(steps)]
    boxes = place_labels(spots, [(LETTER * len(name) + 4, LINE) for name in names], area, taken)
    drawn = sorted(zip(shown, spots, strict=True), key=lambda entry: (entry[0].key == chosen, -entry[1].radius))
    parts = [
        *_draw_axes(x, y, layout),
        _draw_steps(steps),
        *(_draw_point(point, spot, x, point.key == chosen, point.key in ringed) for point, spot in drawn),
        *(
            tag("text", name, x=box.x + box.width / 2, y=box.y + 12.5, text_anchor="middle", class_="name")
            for name, box in zip(names, boxes, strict=True)
        ),
    ]
    told = f"Latency in milliseconds against the PSNR of the worst pair in dB, of {len(shown)} models and runtimes."
    return tag(
        "svg",
        *parts,
        viewBox=f"0 0 {layout.width:g} {layout.height:g}",
        role="img",
        aria_label=told,
        class_="narrow" if narrow else "wide",
    )


def _cap(point: Point) -> float:
    return min(point.closeness, INVISIBLE_DB)


def _name(point: Point, several: bool) -> str:
    name = point.model if len(point.model) <= 22 else f"{point.model[:21]}…"
    return f"{name} · {point.runtime}" if several else name


def _fit_quality(points: Sequence[Point], layout: _Layout) -> Scale:
    lowest = min((_cap(point) for point in points if math.isfinite(_cap(point))), default=INVISIBLE_DB)
    low = min(CLOSE_DB - 5, 5 * math.floor((lowest - 2) / 5))
    return Scale(low, INVISIBLE_DB, layout.height - BOTTOM, TOP + layout.band, find_ticks(low, INVISIBLE_DB, 6))


def _find_spot(point: Point, x: Scale, y: Scale, layout: _Layout, share: float) -> Spot:
    """Return where a point lies whose size is this share of the largest."""
    at, radius = x.place(point.median_ms), max(4.0, layout.largest * math.sqrt(share))
    height = TOP + layout.band / 2 if _cap(point) == INVISIBLE_DB else y.place(_cap(point))
    low, high = map(x.place, point.interval or (point.median_ms, point.median_ms))
    return Spot(at, height, radius, min(low, at - radius), max(high, at + radius))


def _draw_axes(x: Scale, y: Scale, layout: _Layout) -> list[Markup]:
    foot, right = layout.height - BOTTOM, layout.width - RIGHT
    close = y.place(CLOSE_DB)
    return [
        tag("rect", x=layout.left, y=TOP, width=right - layout.left, height=layout.band, class_="band"),
        tag("text", BAND, x=layout.left + 8, y=TOP + 17, class_="note"),
        *(
            join(
                (
                    tag("line", x1=layout.left, x2=right, y1=y.place(value), y2=y.place(value), class_="grid"),
                    tag("text", f"{value:g}", x=layout.left - 8, y=y.place(value) + 4, text_anchor="end"),
                )
            )
            for value in y.ticks
        ),
        *(
            join(
                (
                    tag("line", x1=x.place(value), x2=x.place(value), y1=foot, y2=foot + 5, class_="axis"),
                    tag("text", f"{value:g}", x=x.place(value), y=foot + 19, text_anchor="middle"),
                )
            )
            for value in x.ticks
        ),
        tag("line", x1=layout.left, x2=right, y1=foot, y2=foot, class_="axis"),
        tag("line", x1=layout.left, x2=right, y1=close, y2=close, class_="limit"),
        tag("text", f"{CLOSE_DB:g} dB", x=right - 4, y=close - 6, text_anchor="end", class_="note"),
        tag(
            "text",
            "median latency, ms" + (", logarithmic" if x.logarithmic else "") + " →",
            x=right,
            y=layout.height - 8,
            text_anchor="end",
            class_="unit",
        ),
        tag("text", "↑ worst pair, dB", x=0, y=12, class_="unit"),
    ]


def _draw_steps(spots: Sequence[Spot]) -> Markup | None:
    """Draw the front of latency and quality; None where nothing is on it."""
    if not spots:
        return None
    steps = [f"M{spots[0].x:.1f} {spots[0].y:.1f}", *(f"H{spot.x:.1f}V{spot.y:.1f}" for spot in spots[1:])]
    return tag("path", d="".join(steps), class_="front")


def _frame_steps(spots: Sequence[Spot]) -> list[Box]:
    """Return what the front's steps take, as thin boxes."""
    steps = [(Box(a.x, a.y - 3, b.x - a.x, 6), Box(b.x - 3, b.y, 6, a.y - b.y)) for a, b in pairwise(spots)]
    return [box for step in steps for box in step]


def _draw_point(point: Point, spot: Spot, x: Scale, is_chosen: bool, is_ringed: bool) -> Markup:
    bars = None
    if point.interval:
        low, high = map(x.place, point.interval)
        ends = (tag("line", x1=at, x2=at, y1=spot.y - 4, y2=spot.y + 4) for at in (low, high))
        bars = tag("g", tag("line", x1=low, x2=high, y1=spot.y, y2=spot.y), *ends, class_="interval")
    figures = write_ms(point.median_ms), write_db(point.closeness), write_mib(point.size_mib)
    told = f"{point.model} on {point.runtime}: {', '.join(figures)}"
    dot = tag("circle", tag("title", told), cx=spot.x, cy=spot.y, r=spot.radius)
    ring = tag("circle", cx=spot.x, cy=spot.y, r=spot.radius + RING, class_="ring") if is_ringed else None
    return tag("g", dot, ring, bars, class_="point chosen" if is_chosen else "point")

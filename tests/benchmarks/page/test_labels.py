"""Labels: beside their points, off each other, inside the area."""

from __future__ import annotations

from itertools import combinations

from vtopt.benchmarks.page.labels import Box, Spot, place_labels

AREA = Box(0, 0, 400, 200)


def _make_spot(x: float, y: float, radius: float = 5, reach: float = 0) -> Spot:
    return Spot(x, y, radius, x - radius - reach, x + radius + reach)


def test_a_label_stands_right_of_its_point() -> None:
    (box,) = place_labels([_make_spot(100, 100)], [(50, 16)], AREA)
    assert (box.x > 105, box.y) == (True, 92)


def test_a_label_stays_inside_the_area() -> None:
    (box,) = place_labels([_make_spot(390, 100)], [(50, 16)], AREA)
    assert box.x + box.width < 385


def test_labels_of_points_close_by_do_not_cover_each_other_nor_the_points() -> None:
    spots = [_make_spot(200 + shift, 100) for shift in (0, 12, 24)]
    boxes = place_labels(spots, [(80, 16)] * 3, AREA)
    frames = [spot.frame() for spot in spots]
    assert all(a.overlap(b) == 0 for a, b in combinations([*boxes, *frames], 2) if not (a in frames and b in frames))


def test_a_label_keeps_off_a_bar_and_off_what_is_taken() -> None:
    spot, line = _make_spot(200, 100, reach=30), Box(230, 98, 100, 4)
    (beside,) = place_labels([spot], [(50, 16)], AREA)
    assert beside.x > 235
    (box,) = place_labels([spot], [(50, 16)], AREA, [line])
    assert box.x + box.width < 165

"""The scatter: points where their figures say, the front, the band of equal pictures."""

from __future__ import annotations

import math
import re

import pytest
from bench_pages import make_point

from vtopt.benchmarks.page.content import Point
from vtopt.benchmarks.page.scatter import draw_scatter, find_front, list_shown

FP32, INT8 = make_point("fp32", 20.0, math.inf, 8.0), make_point("int8", 10.0, 38.0, 2.0)


def _read_circles(*points: Point) -> list[tuple[float, float, float]]:
    """Return x, y and radius of each point, as they are given."""
    circle = r'<circle cx="([\d.]+)" cy="([\d.]+)" r="([\d.]+)"><title>(.+?) on'
    found = {name: (float(x), float(y), float(r)) for x, y, r, name in re.findall(circle, draw_scatter(points, None))}
    return [found[point.model] for point in points]


def test_the_front_is_what_nothing_beats_in_all() -> None:
    beaten = make_point("slow", 15.0, 37.0)
    assert find_front([FP32, beaten, INT8]) == [INT8, FP32]


def test_the_smallest_is_on_the_front_though_slower_and_further_off() -> None:
    small = make_point("small", 15.0, 37.0, size_mib=1.0)
    assert find_front([FP32, small, INT8]) == [INT8, small, FP32]
    assert find_front([FP32, small, INT8], with_size=False) == [INT8, FP32]


def test_what_is_equal_in_all_is_on_the_front_together() -> None:
    twin = make_point("twin", 10.0, 38.0, 2.0)
    assert find_front([INT8, twin]) == [INT8, twin]


@pytest.mark.parametrize("broken", [-math.inf, math.nan])
def test_broken_pictures_are_never_on_the_front(broken: float) -> None:
    fast = make_point("broken", 1.0, broken, 0.5)
    assert find_front([fast, INT8]) == [INT8]
    assert "ring" not in draw_scatter((fast,), None)


def test_the_front_is_ringed() -> None:
    beaten = make_point("slow", 15.0, 37.0)
    drawn = draw_scatter((FP32, INT8, beaten), None)
    groups = re.findall(r'<g class="point"><circle [^>]*><title>(\w+) on.*?</circle>(<circle)?', drawn)
    assert {model: bool(ring) for model, ring in groups} == {"fp32": True, "int8": True, "slow": False}


def test_of_equal_pictures_the_fastest_is_on_the_front() -> None:
    same = make_point("fp32", 12.0, 110.0, runtime="openvino")
    assert find_front([FP32, same, INT8]) == [INT8, same]


def test_slower_lies_right_and_closer_lies_higher() -> None:
    close, far = make_point("close", 12.0, 50.0), make_point("far", 10.0, 36.0)
    (x, y, _), (other_x, other_y, _) = _read_circles(close, far)
    assert (x > other_x, y < other_y) == (True, True)


def test_the_area_of_a_dot_is_the_size() -> None:
    (*_, radius), (*_, small) = _read_circles(FP32, INT8)
    assert math.isclose((radius / small) ** 2, 8.0 / 2.0, rel_tol=0.01)


def test_equal_pictures_lie_in_the_band() -> None:
    drawn = draw_scatter((FP32, INT8), None)
    found = re.search(r'y="([\d.]+)" width="[\d.]+" height="([\d.]+)" class="band"', drawn)
    assert found
    top, height = map(float, found.groups())
    (_, y, _), (_, other, _) = _read_circles(FP32, INT8)
    assert top < y < top + height < other


def test_intervals_are_bars_where_they_were_measured() -> None:
    assert "interval" not in draw_scatter((FP32, INT8), None)
    assert draw_scatter((FP32, make_point("int8", 10.0, interval=(9.0, 11.0))), None).count('class="interval"') == 1


@pytest.mark.parametrize("broken", [-math.inf, math.nan])
def test_broken_pictures_and_names_of_tags_can_be_drawn(broken: float) -> None:
    drawn = draw_scatter((FP32, make_point("<script>", 10.0, broken)), None)
    assert "<script>" not in drawn
    assert "&lt;script&gt;" in drawn
    assert "nan" not in drawn


def test_the_narrow_chart_has_numbers_for_names() -> None:
    drawn = draw_scatter((FP32, INT8), None, narrow=True)
    assert re.findall(r'class="name">([^<]+)<', drawn) == ["1", "2"]
    assert [point.model for point in list_shown((FP32, INT8))] == ["int8", "fp32"]

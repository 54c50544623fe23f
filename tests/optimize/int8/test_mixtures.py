"""Scores of mixtures, and what is not measured twice."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import pytest

from vtopt.optimize.int8.measurements import Measurements, open_measurements
from vtopt.optimize.int8.mixtures import Mixtures
from vtopt.optimize.int8.units import Unit

UNITS = [Unit(name, "x", "w", "", name) for name in "abc"]


def _make(found: list[tuple[float, float | None]], known: Measurements, calls: list[int]) -> Mixtures:
    def compare(place: int, _: Collection[str]) -> tuple[float, float | None]:
        calls.append(place)
        return found[place]

    pairs: Any = [None] * len(found)
    return Mixtures(UNITS, pairs, known, compare)


def test_a_score() -> None:
    score = _make([(4e-3, 1.0), (4e-5, 3.0), (4e-4, 2.0), (4e-2, 0.5)], Measurements(None), []).measure({"a"})
    assert (score.psnr_db, score.psnr_worst_db) == pytest.approx((30, 20))
    assert score.error == pytest.approx((4e-3 + 4e-5 + 4e-4 + 4e-2) / 4)
    assert (score.flow_px, score.flow_worst_px) == (1.0, 3.0)


@pytest.mark.parametrize(("error", "psnr"), [(0.0, math.inf), (math.inf, -math.inf), (math.nan, -math.inf)])
def test_equal_and_broken_pictures(error: float, psnr: float) -> None:
    score = _make([(error, None)], Measurements(None), []).measure(())
    assert (score.psnr_db, score.psnr_worst_db, score.flow_px, score.flow_worst_px) == (psnr, psnr, None, None)


def test_flow_that_one_pair_lacks_is_not_known() -> None:
    assert _make([(0.1, 1.0), (0.1, None)], Measurements(None), []).measure({"a"}).flow_px is None


def test_what_was_measured_is_not_measured_again() -> None:
    question, found = {"model": 1}, [(1 / 3, None), (0.1, 0.7)]
    calls: list[int] = []
    first = _make(found, open_measurements(question), calls)
    score = first.measure({"a", "c"}, 1)
    assert calls == [0]
    whole = first.measure(["c", "a"])
    assert calls == [0, 1]
    again = _make(found, open_measurements(question), calls)
    assert (again.measure({"a", "c"}, 1), again.measure(("a", "c"), 9)) == (score, whole)
    assert calls == [0, 1]
    again.measure({"a", "b"})
    assert calls == [0, 1, 0, 1]

"""The recommendation: the fastest of the close models, the smallest of those as fast."""

from __future__ import annotations

import math

import pytest
from bench_pages import REFERENCE, make_point

from vtopt.benchmarks.page.content import Point
from vtopt.benchmarks.page.recommend import CLOSE_DB, NOISE, Recommendation, recommend

FP32 = make_point("fp32", 20.0, math.inf, 8.0)


def _recommend(*points: Point) -> Recommendation:
    found = recommend((FP32, *points), REFERENCE)
    assert found
    return found


def test_the_fastest_of_the_close_models_is_recommended() -> None:
    found = _recommend(make_point("fp16", 15.0), make_point("int8", 10.0), make_point("broken", 5.0, CLOSE_DB - 0.1))
    assert (found.chosen.key, found.is_close, found.as_fast) == (("int8", "onnxruntime"), True, ())


def test_a_model_counts_at_its_best_runtime() -> None:
    found = _recommend(make_point("fp16", 12.0), make_point("int8", 15.0), make_point("int8", 10.0, runtime="openvino"))
    assert found.chosen.key == ("int8", "openvino")


def test_a_runtime_that_shows_other_pictures_is_not_a_models_best() -> None:
    found = _recommend(make_point("int8", 15.0), make_point("int8", 10.0, CLOSE_DB - 5, runtime="openvino"))
    assert found.chosen.key == ("int8", "onnxruntime")


def test_of_models_as_fast_the_smallest_is_recommended() -> None:
    fast, small = make_point("fast", 10.0, size_mib=4.0), make_point("small", 10.0 * NOISE - 0.01, size_mib=2.0)
    found = _recommend(fast, small)
    assert (found.chosen, found.as_fast) == (small, (fast,))


def test_a_smaller_model_beyond_the_noise_is_slower() -> None:
    slower = make_point("small", 10.0 * NOISE + 0.01, size_mib=2.0)
    assert _recommend(make_point("fast", 10.0, size_mib=4.0), slower).chosen.model == "fast"


@pytest.mark.parametrize(("low", "chosen"), [(10.9, "small"), (11.1, "fast")], ids=["overlap", "apart"])
def test_intervals_tell_what_is_as_fast(low: float, chosen: str) -> None:
    fast = make_point("fast", 10.0, size_mib=4.0, interval=(9.0, 11.0))
    assert _recommend(fast, make_point("small", 12.0, size_mib=2.0, interval=(low, 13.0))).chosen.model == chosen


def test_the_reference_stays_where_nothing_is_better() -> None:
    assert _recommend(make_point("int8", 30.0, size_mib=2.0)).chosen == FP32


def test_without_a_close_model_the_closest_competes() -> None:
    found = _recommend(make_point("int8", 10.0, 25.0), make_point("int4", 5.0, 20.0))
    assert (found.chosen.model, found.is_close) == ("int8", False)


def test_nothing_is_recommended_where_pictures_were_not_compared() -> None:
    assert recommend((FP32, make_point("int8", 10.0, None)), REFERENCE) is None
    assert recommend((FP32,), REFERENCE) is None

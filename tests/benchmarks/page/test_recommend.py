"""The recommendation: the fastest of the close models, the smallest of those as fast."""

from __future__ import annotations

import math

import pytest
from bench_pages import REFERENCE, make_point

from vtopt.benchmarks.page.content import SAME_SPEED_RATIO, Point
from vtopt.benchmarks.page.recommend import CLOSE_DB, Recommendation, recommend

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
    fast = make_point("fast", 10.0, size_mib=4.0)
    small = make_point("small", 10.0 * SAME_SPEED_RATIO - 0.01, size_mib=2.0)
    found = _recommend(fast, small)
    assert (found.chosen, found.as_fast) == (small, (fast,))


def test_a_smaller_model_beyond_the_noise_is_slower() -> None:
    slower = make_point("small", 10.0 * SAME_SPEED_RATIO + 0.01, size_mib=2.0)
    assert _recommend(make_point("fast", 10.0, size_mib=4.0), slower).chosen.model == "fast"


@pytest.mark.parametrize(("high", "chosen"), [(1.81, "small"), (1.79, "fast")], ids=["overlap", "apart"])
def test_intervals_of_speed_tell_what_is_as_fast(high: float, chosen: str) -> None:
    """Those of the medians, which are the other way round, tell nothing."""
    fast = make_point("fast", 10.0, size_mib=4.0, interval=(9.0, 11.0), speed_interval=(1.8, 2.2))
    times = (10.9, 13.0) if chosen == "fast" else (11.1, 13.0)
    small = make_point("small", 12.0, size_mib=2.0, interval=times, speed_interval=(1.6, high))
    assert _recommend(fast, small).chosen.model == chosen


@pytest.mark.parametrize(("low", "chosen"), [(0.99, "fp32"), (1.01, "int8")], ids=["holds 1", "above 1"])
def test_a_model_that_is_not_told_from_the_baseline_is_as_fast_as_it(low: float, chosen: str) -> None:
    """The smallest is the baseline here, whose speed is 1 alone."""
    baseline = make_point("fp32", 20.0, math.inf, 2.0, speed_interval=(1.0, 1.0))
    found = recommend((baseline, make_point("int8", 18.0, size_mib=4.0, speed_interval=(low, 1.2))), REFERENCE)
    assert found
    assert found.chosen.model == chosen


def test_the_reference_stays_where_nothing_is_better() -> None:
    assert _recommend(make_point("int8", 30.0, size_mib=2.0)).chosen == FP32


def test_without_a_close_model_the_reference_stays_and_the_closest_is_named() -> None:
    closest = make_point("int8", 10.0, 25.0)
    found = _recommend(closest, make_point("int4", 5.0, 20.0))
    assert (found.chosen, found.closest, found.is_close) == (FP32, closest, False)


@pytest.mark.parametrize("broken", [-math.inf, math.nan])
def test_a_broken_model_never_competes(broken: float) -> None:
    fast = make_point("broken", 1.0, broken)
    found = _recommend(fast)
    assert (found.chosen, found.closest, found.is_close) == (FP32, None, False)
    assert _recommend(fast, make_point("int8", 10.0)).chosen.model == "int8"


def test_the_reference_stays_on_a_runtime_where_its_pictures_do() -> None:
    faster = make_point("fp32", 15.0, 100.0, 8.0, runtime="openvino")
    found = _recommend(faster, make_point("fp32", 5.0, 20.0, 8.0, runtime="torch"), make_point("int8", 10.0, 20.0))
    assert found.chosen == faster


def test_nothing_is_recommended_where_pictures_were_not_compared() -> None:
    assert recommend((FP32, make_point("int8", 10.0, None)), REFERENCE) is None
    assert recommend((FP32,), REFERENCE) is None


def test_nothing_is_recommended_where_the_reference_was_not_timed_and_none_is_close() -> None:
    assert recommend((make_point("int8", 10.0, 20.0),), REFERENCE) is None

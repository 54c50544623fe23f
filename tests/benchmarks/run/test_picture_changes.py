"""Two results files: how far pictures and sets of pictures moved, by every measure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from bench_results import TIMES, find_change, make_distance, make_model, make_quality, make_results

from vtopt.benchmarks.quality.pictures import FlowShift, Quality
from vtopt.benchmarks.run.compare import compare_results
from vtopt.benchmarks.run.results import Comparison, Results


def test_pictures_that_the_new_file_lacks_are_a_regression_where_the_pairs_are_the_same() -> None:
    old = make_results(TIMES)
    without = replace(old, quality=old.quality[:1])
    assert compare_results(old, without).regressions == ["pictures of int8 on onnxruntime is missing"]
    others = replace(without, settings=replace(old.settings, pairs="others"))
    assert compare_results(old, others).regressions == []


def test_pictures_are_not_compared_with_another_first_model() -> None:
    old = make_results(TIMES)
    truth = tuple(replace(found, to_truth=make_quality(22.0)) for found in old.quality)
    worse = tuple(replace(found, to_first=make_quality(9.0), to_truth=make_quality(20.0)) for found in old.quality)
    new = replace(old, models=(make_model("fp32", sha256="1" * 64), old.models[1]), quality=worse)
    changes = compare_results(replace(old, quality=truth), new)
    assert changes.notices[-1] == "the first models differ: pictures are compared with the truth alone"
    assert [(change.model, change.what, change.verdict) for change in changes.changes if change.kind == "picture"] == [
        (model, what, verdict)
        for model in ("fp32", "int8")
        for what, verdict in (("truth PSNR dB", "worse"), ("truth worst dB", "worse"), ("truth SSIM", "same"))
    ]


def test_pairs_are_the_same_by_what_they_are_made_of() -> None:
    old = make_results(TIMES, conditions={"size": "64x48", "pairs_sha256": "a"})
    moved = replace(old, settings=replace(old.settings, pairs="elsewhere/pairs"))
    assert find_change(old, moved, "int8", "PSNR dB").verdict == "same"
    changed = compare_results(old, replace(old, conditions={"size": "64x48", "pairs_sha256": "b"}))
    assert changed.notices[-1] == "the pairs differ: pictures are not compared"


@pytest.mark.parametrize(
    ("psnr", "verdict"),
    [
        pytest.param(38.0, "worse", id="farther from the first"),
        pytest.param(40.05, "same", id="as far"),
        pytest.param(float("inf"), "better", id="equal to it"),
    ],
)
def test_pictures_are_compared(psnr: float, verdict: str) -> None:
    old = make_results(TIMES)
    new = replace(old, quality=(old.quality[0], Comparison("int8", "onnxruntime", make_quality(psnr))))
    assert find_change(old, new, "int8", "PSNR dB").verdict == verdict


def _measure_all(quality: Quality) -> Quality:
    return replace(quality, ms_ssim_median=0.98, lpips_median=0.05)


def _change_second(old: Results, **changed: Any) -> Results:
    return replace(old, quality=(old.quality[0], replace(old.quality[1], **changed)))


QUALITY = _measure_all(make_quality(40.0))


@pytest.mark.parametrize(
    ("change", "what", "verdict"),
    [
        pytest.param({"psnr_worst": 37.0}, "worst dB", "worse", id="the worst pair is farther"),
        pytest.param({"ssim_median": 0.97}, "SSIM", "worse", id="less alike in structure"),
        pytest.param({"ms_ssim_median": 0.985}, "MS-SSIM", "better", id="more alike at several scales"),
        pytest.param({"lpips_median": 0.06}, "LPIPS", "worse", id="farther to the eye"),
        pytest.param({"lpips_median": 0.051}, "LPIPS", "same", id="as far to the eye"),
        pytest.param({"psnr_median": float("-inf")}, "PSNR dB", "worse", id="broken"),
    ],
)
@pytest.mark.parametrize("truth", [False, True])
def test_every_measure_of_pictures_is_judged(change: dict[str, float], what: str, verdict: str, truth: bool) -> None:
    name = "to_truth" if truth else "to_first"
    old = _change_second(make_results(TIMES), **{name: QUALITY})
    new = _change_second(old, **{name: replace(QUALITY, **change)})
    assert find_change(old, new, "int8", f"truth {what}" if truth else what).verdict == verdict


def test_pictures_that_stay_broken_are_the_same() -> None:
    old = _change_second(make_results(TIMES), to_first=make_quality(float("-inf")))
    assert compare_results(old, old).regressions == []


@pytest.mark.parametrize(
    ("mean_px", "verdict"),
    [
        pytest.param(1.0, "worse", id="farther"),
        pytest.param(0.51, "same", id="as far"),
        pytest.param(0.1, "better", id="closer"),
    ],
)
def test_flow_is_judged(mean_px: float, verdict: str) -> None:
    old = _change_second(make_results(TIMES), flow=FlowShift(0.5, 2.0, "a", 2))
    new = _change_second(old, flow=FlowShift(mean_px, 2.0, "a", 2))
    assert find_change(old, new, "int8", "flow px").verdict == verdict


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        pytest.param(60.0, "worse", id="farther"),
        pytest.param(12.2, "same", id="as far"),
        pytest.param(9.0, "better", id="closer"),
    ],
)
def test_distances_of_sets_are_judged(value: float, verdict: str) -> None:
    old = _change_second(make_results(TIMES), distances=(make_distance("fid", 12.0),))
    new = _change_second(old, distances=(make_distance("fid", value),))
    assert find_change(old, new, "int8", "FID").verdict == verdict
    assert compare_results(old, new).regressions == ["int8 on onnxruntime: FID from 12 to 60"] * (verdict == "worse")


def test_a_kernel_distance_near_0_may_differ_by_two_standard_errors() -> None:
    kid = replace(make_distance("kid", -0.001), spread=0.01, subsets=100)
    old = _change_second(make_results(TIMES), distances=(kid,))
    verdicts = [
        find_change(old, _change_second(old, distances=(replace(kid, value=value),)), "int8", "KID").verdict
        for value in (0.0009, 0.0011)
    ]
    assert verdicts == ["same", "worse"]


def test_what_was_measured_in_another_way_is_not_judged() -> None:
    distance = make_distance("fid", 12.0)
    old = _change_second(make_results(TIMES), to_first=QUALITY, distances=(distance,))
    other = replace(distance, value=60.0, resize="legacy")
    new = _change_second(old, to_first=replace(QUALITY, lpips_median=0.5), distances=(other,))
    new = replace(new, settings=replace(new.settings, lpips=("vgg16.pth", "vgg.pth")))
    changes = compare_results(old, new)
    assert [change.what for change in changes.changes if change.verdict == "not judged"][-2:] == ["LPIPS", "FID"]
    assert changes.regressions == []
    assert changes.notices[-1] == "LPIPS, FID: measured with other weights, sets or resizing, not judged"


def test_distances_that_the_new_file_lacks_are_a_regression() -> None:
    old = _change_second(make_results(TIMES), distances=(make_distance("fid", 12.0),))
    assert compare_results(old, _change_second(old, distances=())).regressions == [
        "FID of int8 on onnxruntime is missing"
    ]


def test_pictures_of_other_pairs_are_not_compared() -> None:
    old = make_results(TIMES)
    new = replace(old, settings=replace(old.settings, pairs="others"))
    assert not [change for change in compare_results(old, new).changes if change.what == "PSNR dB"]

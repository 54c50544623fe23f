"""Two results files: what got worse beyond the noise, and what is not judged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from bench_results import make_distance, make_entry, make_model, make_quality, make_results

from vtopt.benchmarks.quality.pictures import FlowShift, Quality
from vtopt.benchmarks.run.changes import Change
from vtopt.benchmarks.run.compare import compare_results
from vtopt.benchmarks.run.results import Comparison, Entry, Results
from vtopt.benchmarks.timing.intervals import LEVEL
from vtopt.optimize.errors import InputError

TIMES = {"fp32": 20.0, "int8": 10.0}


def _find(old: Results, new: Results, model: str, what: str) -> Change:
    return next(change for change in compare_results(old, new).changes if (change.model, change.what) == (model, what))


def _make_quiet(times_ms: Mapping[str, float], **changed: Any) -> Results:
    """Return results whose models never waited for a CPU."""
    return make_results(
        times_ms, entries=tuple(make_entry(name, time, waited=0) for name, time in times_ms.items()), **changed
    )


def test_a_busy_machine_that_is_slower_throughout_is_no_regression() -> None:
    old, new = make_results(TIMES), make_results({name: 3 * time for name, time in TIMES.items()})
    changes = compare_results(old, new)
    assert changes.regressions == []
    speed = _find(old, new, "int8", "speed x fp32")
    assert speed.ratio is not None
    assert (speed.old, speed.new, speed.ratio.value) == pytest.approx((2, 2, 1))
    assert speed.verdict == "within the noise"
    assert _find(old, new, "fp32", "fastest ms").verdict == "not judged"
    busy = "the machine of the old file was busy (models waited for a CPU 9% of the time)"
    assert changes.notices == (f"the time of fp32 itself is not judged: {busy}",)


@pytest.mark.parametrize(
    ("time_ms", "verdict"),
    [pytest.param(14.0, "worse", id="slower"), pytest.param(7.0, "better", id="faster")],
)
def test_a_ratio_that_changed_is_judged(time_ms: float, verdict: str) -> None:
    old, new = make_results(TIMES), make_results(TIMES | {"int8": time_ms})
    speed = _find(old, new, "int8", "speed x fp32")
    assert (speed.old, speed.new) == pytest.approx((2, 20 / time_ms))
    assert speed.verdict == verdict
    assert len(compare_results(old, new).regressions) == (verdict == "worse")


def test_a_change_within_the_noise_is_called_so() -> None:
    """The three processes do not agree by more than the ratio changed."""
    noisy = [make_entry("fp32", 20.0, luck=(1.0, 1.0, 1.0)), make_entry("int8", 10.0, luck=(1.0, 1.3, 0.8))]
    old = make_results(TIMES, entries=tuple(noisy))
    new = make_results(TIMES, entries=(noisy[0], make_entry("int8", 11.0, luck=(1.2, 0.9, 1.0))))
    assert _find(old, new, "int8", "speed x fp32").verdict == "within the noise"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param({"cpu": "Other CPU"}, "cpu Some CPU and Other CPU", id="another processor"),
        pytest.param({"flags": ["avx2", "fma"]}, "flags with avx512f and with fma", id="other instructions"),
        pytest.param({"flags": ["avx2"]}, "flags with avx512f and with no more", id="fewer instructions"),
    ],
)
def test_on_another_machine_sizes_and_pictures_are_compared_and_speeds_are_not(
    changed: dict[str, object], said: str
) -> None:
    old = make_results(TIMES, machine={"cpu": "Some CPU", "flags": ["avx2", "avx512f"]})
    new = make_results(TIMES | {"int8": 40.0}, machine={**old.machine, **changed})
    changes = compare_results(old, new)
    assert changes.regressions == []
    assert changes.notices == (f"another machine ({said}): times are not compared, sizes and pictures are",)
    pictures = {"PSNR dB", "worst dB", "SSIM"}
    assert {change.what for change in changes.changes} == {"size MiB", "GMACs", "params M", *pictures}
    assert changes.find_seen("speed") is changes.find_seen("time") is None


def test_other_versions_are_named_and_compared_all_the_same() -> None:
    old = make_results(TIMES)
    new = make_results(TIMES | {"int8": 14.0}, machine={**old.machine, "onnxruntime": "9.9", "governor": "powersave"})
    changes = compare_results(old, new)
    assert changes.notices[0].startswith("compared all the same, though these differ: ")
    assert "and 9.9" in changes.notices[0]
    assert "governor None and powersave" in changes.notices[0]
    assert len(changes.regressions) == 1


def test_another_version_of_vtopt_is_the_same_machine() -> None:
    old = _make_quiet(TIMES)
    assert compare_results(old, replace(old, machine=dict(old.machine) | {"vtopt": "9"})).notices == ()


@pytest.mark.parametrize(
    ("time_ms", "verdict"),
    [
        pytest.param(60.0, "worse", id="three times slower"),
        pytest.param(26.0, "within the noise", id="slower by what runs differ"),
        pytest.param(7.0, "better", id="three times faster"),
    ],
)
def test_the_time_of_one_model_alone_is_judged_between_quiet_runs(time_ms: float, verdict: str) -> None:
    old, new = _make_quiet({"fp32": 20.0}), _make_quiet({"fp32": time_ms})
    assert _find(old, new, "fp32", "fastest ms").verdict == verdict
    assert len(compare_results(old, new).regressions) == (verdict == "worse")
    assert compare_results(old, new).notices == ()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        pytest.param({"machine": {"cpu": "Some CPU", "onnxruntime": "9.9"}}, "the machines differ", id="a version"),
        pytest.param({"conditions": {"end": {"load": 9.0}}}, r"the new file was busy \(the load was 9\)", id="load"),
    ],
)
def test_the_time_of_the_baseline_is_not_judged_otherwise(changed: dict[str, Any], reason: str) -> None:
    old = _make_quiet({"fp32": 20.0}, conditions={})
    changes = compare_results(old, _make_quiet({"fp32": 60.0}, **({"conditions": {}} | changed)))
    assert changes.regressions == []
    (notice,) = (each for each in changes.notices if "itself" in each)
    assert re.search(f"the time of fp32 itself is not judged: .*{reason}", notice)


def test_a_load_within_the_cpus_is_not_busy() -> None:
    machine, conditions = {"cpu": "Some CPU", "cpus": 16}, {"begin": {"load": 9.0}}
    old, new = (_make_quiet({"fp32": time}, machine=machine, conditions=conditions) for time in (20.0, 60.0))
    assert compare_results(old, new).regressions == ["fp32 on onnxruntime: fastest ms from 20.07 to 60.2"]


@pytest.mark.parametrize(
    ("time_ms", "regressions"),
    [
        pytest.param(60.0, ["fp32 on onnxruntime: fastest ms from 20.07 to 60.2"], id="slower"),
        pytest.param(20 / 3, [], id="faster"),
    ],
)
def test_a_ratio_that_changed_by_the_baseline_alone_is_put_down_to_it(time_ms: float, regressions: list[str]) -> None:
    old, new = _make_quiet(TIMES), _make_quiet(TIMES | {"fp32": time_ms})
    changes = compare_results(old, new)
    assert _find(old, new, "int8", "speed x fp32").verdict == "by the baseline"
    assert changes.regressions == regressions
    assert changes.notices[0].startswith("fp32 itself changed: ratios to it that changed by that alone")


def test_a_ratio_is_not_put_down_to_the_baseline_where_the_model_changed_too() -> None:
    old, new = _make_quiet(TIMES), _make_quiet({"fp32": 20 / 3, "int8": 30.0})
    assert _find(old, new, "int8", "speed x fp32").verdict == "worse"


def test_what_loading_costs_is_shown_and_not_judged() -> None:
    old = make_results(TIMES)
    slow = tuple(replace(sample, load_ms=900.0, peak_mib=900.0) for sample in old.entries[1].samples)
    new = replace(old, entries=(old.entries[0], replace(old.entries[1], samples=slow)))
    shown = [_find(old, new, "int8", what) for what in ("load ms", "first ms", "memory MiB")]
    assert [(each.old, each.new) for each in shown] == [(100.0, 900.0), (50.0, 50.0), (20.0, 860.0)]
    assert {each.verdict for each in shown} == {"not judged"}
    assert compare_results(old, new).regressions == []


def test_entries_that_nothing_links_are_told_and_not_compared() -> None:
    old = make_results(TIMES)
    moved = tuple(replace(sample, process=sample.process + 3) for sample in old.entries[1].samples)
    new = replace(old, entries=(old.entries[0], replace(old.entries[1], samples=moved)))
    changes = compare_results(old, new)
    assert not [change for change in changes.changes if change.kind == "speed"]
    assert any("int8 on onnxruntime never ran in turns with fp32 on onnxruntime" in each for each in changes.notices)


def test_a_runtime_that_is_missing_in_the_new_file_is_a_regression_and_a_new_one_is_noticed() -> None:
    old = make_results(TIMES)
    more = replace(old, entries=(*old.entries, make_entry("int8", 9.0, "openvino")))
    lost, gained = compare_results(more, old), compare_results(old, more)
    name = "times of int8 on openvino, threads 1, batch 1"
    assert (lost.notices[0], lost.regressions) == (f"missing in the new file: {name}", [f"{name} is missing"])
    assert (gained.notices[0], gained.regressions) == (f"only in the new file: {name}", [])


def test_multiply_adds_that_the_new_file_lacks_are_a_regression() -> None:
    old = make_results(TIMES)
    new = replace(old, models=(old.models[0], make_model("int8", macs=None)))
    assert compare_results(old, new).regressions == ["multiply-adds of int8 is missing"]


def test_pictures_that_the_new_file_lacks_are_a_regression_where_the_pairs_are_the_same() -> None:
    old = make_results(TIMES)
    without = replace(old, quality=old.quality[:1])
    assert compare_results(old, without).regressions == ["pictures of int8 on onnxruntime is missing"]
    others = replace(without, settings=replace(old.settings, pairs="others"))
    assert compare_results(old, others).regressions == []


def test_the_baseline_is_taken_on_a_runtime_that_both_files_have() -> None:
    old = make_results(TIMES)
    new = replace(old, entries=(make_entry("fp32", 15.0, "openvino"), old.entries[0], make_entry("int8", 14.0)))
    assert _find(old, new, "int8", "speed x fp32").verdict == "worse"


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
    assert _find(old, moved, "int8", "PSNR dB").verdict == "same"
    changed = compare_results(old, replace(old, conditions={"size": "64x48", "pairs_sha256": "b"}))
    assert changed.notices[-1] == "the pairs differ: pictures are not compared"


def test_speeds_that_all_moved_alike_are_noticed() -> None:
    times = TIMES | {"fp16": 12.0}
    changes = compare_results(make_results(times), make_results(times | {"fp32": 10.0}))
    assert changes.notices[-1] == (
        "all speeds moved alike: perhaps fp32 itself became faster; compare with another --baseline"
    )


def test_the_only_speed_that_changed_is_noticed() -> None:
    changes = compare_results(make_results(TIMES), make_results(TIMES | {"fp32": 60.0}))
    assert changes.notices[-1] == (
        "the only speed changed: perhaps fp32 itself became slower; compare with another --baseline"
    )


def test_many_rows_are_judged_together() -> None:
    """What is a change by itself is none as the largest of many that did not change."""
    few, many = ({"fp32": 20.0} | {f"m{number}": 10.0 for number in range(count)} for count in (1, 40))
    verdicts = [
        _find(make_results(times), make_results(times | {"m0": 12.0}), "m0", "speed x fp32").verdict
        for times in (few, many)
    ]
    assert verdicts == ["worse", "within the noise"]


@pytest.mark.parametrize(
    ("change", "what", "verdict"),
    [
        pytest.param({"bytes": 9 * 2**20}, "size MiB", "worse", id="larger"),
        pytest.param({"bytes": 8 * 2**20 + 900}, "size MiB", "same", id="as large, but for what it says of itself"),
        pytest.param({"macs": 2 * 10**9}, "GMACs", "better", id="fewer multiply-adds"),
        pytest.param({"parameters": 3_000_000}, "params M", "more", id="more parameters are no loss by themselves"),
    ],
)
def test_files_are_compared(change: dict[str, int], what: str, verdict: str) -> None:
    old = make_results(TIMES)
    new = replace(old, models=(old.models[0], make_model("int8", **change)))
    assert _find(old, new, "int8", what).verdict == verdict


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
    assert _find(old, new, "int8", "PSNR dB").verdict == verdict


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
    assert _find(old, new, "int8", f"truth {what}" if truth else what).verdict == verdict


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
    assert _find(old, new, "int8", "flow px").verdict == verdict


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
    assert _find(old, new, "int8", "FID").verdict == verdict
    assert compare_results(old, new).regressions == ["int8 on onnxruntime: FID from 12 to 60"] * (verdict == "worse")


def test_a_kernel_distance_near_0_may_differ_by_two_standard_errors() -> None:
    kid = replace(make_distance("kid", -0.001), spread=0.01, subsets=100)
    old = _change_second(make_results(TIMES), distances=(kid,))
    verdicts = [
        _find(old, _change_second(old, distances=(replace(kid, value=value),)), "int8", "KID").verdict
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


def test_models_in_one_file_only_are_named() -> None:
    changes = compare_results(make_results(TIMES), make_results({"fp32": 20.0, "fp16": 9.0}, complete=False))
    assert changes.notices[:3] == (
        "the new file is of an interrupted run",
        "missing in the new file: int8",
        "only in the new file: fp16",
    )
    assert changes.regressions == ["int8 is missing"]


def test_files_without_a_common_model_are_refused() -> None:
    with pytest.raises(InputError, match=r"no model in common \(old: a; new: b\); measure the same names in both"):
        compare_results(make_results({"a": 1.0}), make_results({"b": 1.0}))


def test_a_baseline_must_be_in_both() -> None:
    with pytest.raises(InputError, match="baseline 'int8' is not in both files; choose one of fp32"):
        compare_results(make_results(TIMES), make_results({"fp32": 20.0}), baseline="int8")


NETWORKS = ("a", "b", "c", "d")
DAY = 0.015
"""What a ratio was seen to move by from run to run, and MACHINE what times by themselves may (standard deviations)."""
MACHINE = 0.2


def _draw(
    generator: np.random.Generator,
    slower: float = 1.0,
    *,
    day: float = DAY,
    machine: float = MACHINE,
    luck: float = 0.02,
) -> Results:
    """Draw a quiet run of four models beside the first; the machine, each model and each of 8 processes have luck."""

    def draw_entry(name: str, time_ms: float) -> Entry:
        return make_entry(name, time_ms, luck=np.exp(generator.normal(0, luck, 8)).tolist(), waited=0)

    pace = float(np.exp(generator.normal(0, machine)))
    made = [draw_entry("fp32", 20.0 * pace)]
    for name in NETWORKS:
        time_ms = 10.0 * pace * float(np.exp(generator.normal(0, day))) * (slower if name == NETWORKS[0] else 1.0)
        made.append(draw_entry(name, time_ms))
    return make_results(dict.fromkeys(("fp32", *NETWORKS), 10.0), entries=tuple(made))


def _count_calls(generator: np.random.Generator, runs: int = 200, **luck: float) -> int:
    """Return in how many comparisons of equal models a speed or a time is called changed."""
    called = 0
    for _ in range(runs):
        changes = compare_results(_draw(generator, **luck), _draw(generator, **luck)).changes
        called += any(change.verdict in ("worse", "better") for change in changes if change.kind in ("speed", "time"))
    return called


def test_equal_models_are_called_changed_no_oftener_than_stated() -> None:
    assert _count_calls(np.random.default_rng(0)) <= 200 * LEVEL


@pytest.mark.parametrize(
    "luck", [pytest.param({"day": 0.05}, id="of models"), pytest.param({"machine": 0.5}, id="all")]
)
def test_they_are_where_runs_differ_more_than_is_assumed(luck: dict[str, float]) -> None:
    assert _count_calls(np.random.default_rng(0), 100, **luck) > 2 * 100 * LEVEL


def test_a_tenth_slower_is_always_found_where_the_machine_is_quiet() -> None:
    generator = np.random.default_rng(1)
    for _ in range(200):
        old, new = (_draw(generator, slower, day=0.0, machine=0.05, luck=0.01) for slower in (1.0, 1.1))
        (found,) = compare_results(old, new).regressions
        assert found.startswith("a on onnxruntime: speed x fp32 from ")


def test_what_is_said_to_be_found_19_times_of_20_is() -> None:
    generator = np.random.default_rng(2)
    found = 0
    for _ in range(200):
        old = _draw(generator)
        seen = compare_results(old, old).find_seen("speed")
        assert seen is not None
        found += "a on onnxruntime: speed" in "; ".join(compare_results(old, _draw(generator, seen[1])).regressions)
    assert found >= 190


@pytest.mark.parametrize(("model", "kind", "what"), [("int8", "speed", "speed x fp32"), ("fp32", "time", "fastest ms")])
def test_a_change_is_called_one_from_what_is_said_on(model: str, kind: Any, what: str) -> None:
    times = TIMES if kind == "speed" else {"fp32": 20.0}
    old = _make_quiet(times)
    seen = compare_results(old, old).find_seen(kind)
    assert seen is not None
    verdicts = [
        _find(old, _make_quiet(times | {model: times[model] * seen[0] * share}), model, what).verdict
        for share in (0.999, 1.001)
    ]
    assert verdicts == ["within the noise", "worse"]


def test_what_is_called_changed_has_1_outside_its_interval() -> None:
    generator = np.random.default_rng(3)
    for _ in range(40):
        for change in compare_results(_draw(generator), _draw(generator, 1.08)).changes:
            if change.ratio and change.kind == "speed":
                assert change.verdict == "within the noise" or not change.ratio.holds(1.0)

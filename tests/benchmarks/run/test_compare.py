"""Two results files: what got worse beyond the noise, and what is not judged."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from bench_results import TIMES, find_change, make_entry, make_model, make_quiet_results, make_results

from vtopt.benchmarks.run.compare import compare_results
from vtopt.optimize.errors import InputError


def test_a_busy_machine_that_is_slower_throughout_is_no_regression() -> None:
    old, new = make_results(TIMES), make_results({name: 3 * time for name, time in TIMES.items()})
    changes = compare_results(old, new)
    assert changes.regressions == []
    speed = find_change(old, new, "int8", "speed x fp32")
    assert speed.ratio is not None
    assert (speed.old, speed.new, speed.ratio.value) == pytest.approx((2, 2, 1))
    assert speed.verdict == "within the noise"
    assert find_change(old, new, "fp32", "fastest ms").verdict == "not judged"
    busy = "the machine of the old file was busy (models waited for a CPU 9% of the time)"
    assert changes.notices == (f"the time of fp32 itself is not judged: {busy}",)


@pytest.mark.parametrize(
    ("time_ms", "verdict"),
    [pytest.param(14.0, "worse", id="slower"), pytest.param(7.0, "better", id="faster")],
)
def test_a_ratio_that_changed_is_judged(time_ms: float, verdict: str) -> None:
    old, new = make_results(TIMES), make_results(TIMES | {"int8": time_ms})
    speed = find_change(old, new, "int8", "speed x fp32")
    assert (speed.old, speed.new) == pytest.approx((2, 20 / time_ms))
    assert speed.verdict == verdict
    assert len(compare_results(old, new).regressions) == (verdict == "worse")


def test_a_change_within_the_noise_is_called_so() -> None:
    """The three processes do not agree by more than the ratio changed."""
    noisy = [make_entry("fp32", 20.0, luck=(1.0, 1.0, 1.0)), make_entry("int8", 10.0, luck=(1.0, 1.3, 0.8))]
    old = make_results(TIMES, entries=tuple(noisy))
    new = make_results(TIMES, entries=(noisy[0], make_entry("int8", 11.0, luck=(1.2, 0.9, 1.0))))
    assert find_change(old, new, "int8", "speed x fp32").verdict == "within the noise"


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
    old = make_quiet_results(TIMES)
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
    old, new = make_quiet_results({"fp32": 20.0}), make_quiet_results({"fp32": time_ms})
    assert find_change(old, new, "fp32", "fastest ms").verdict == verdict
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
    old = make_quiet_results({"fp32": 20.0}, conditions={})
    changes = compare_results(old, make_quiet_results({"fp32": 60.0}, **({"conditions": {}} | changed)))
    assert changes.regressions == []
    (notice,) = (each for each in changes.notices if "itself" in each)
    assert re.search(f"the time of fp32 itself is not judged: .*{reason}", notice)


def test_a_load_within_the_cpus_is_not_busy() -> None:
    machine, conditions = {"cpu": "Some CPU", "cpus": 16}, {"begin": {"load": 9.0}}
    old, new = (make_quiet_results({"fp32": time}, machine=machine, conditions=conditions) for time in (20.0, 60.0))
    assert compare_results(old, new).regressions == ["fp32 on onnxruntime: fastest ms from 20.07 to 60.2"]


@pytest.mark.parametrize(
    ("time_ms", "regressions"),
    [
        pytest.param(60.0, ["fp32 on onnxruntime: fastest ms from 20.07 to 60.2"], id="slower"),
        pytest.param(20 / 3, [], id="faster"),
    ],
)
def test_a_ratio_that_changed_by_the_baseline_alone_is_put_down_to_it(time_ms: float, regressions: list[str]) -> None:
    old, new = make_quiet_results(TIMES), make_quiet_results(TIMES | {"fp32": time_ms})
    changes = compare_results(old, new)
    assert find_change(old, new, "int8", "speed x fp32").verdict == "by the baseline"
    assert changes.regressions == regressions
    assert changes.notices[0].startswith("fp32 itself changed: ratios to it that changed by that alone")


def test_a_ratio_is_not_put_down_to_the_baseline_where_the_model_changed_too() -> None:
    old, new = make_quiet_results(TIMES), make_quiet_results({"fp32": 20 / 3, "int8": 30.0})
    assert find_change(old, new, "int8", "speed x fp32").verdict == "worse"


def test_what_loading_costs_is_shown_and_not_judged() -> None:
    old = make_results(TIMES)
    slow = tuple(replace(sample, load_ms=900.0, peak_mib=900.0) for sample in old.entries[1].samples)
    new = replace(old, entries=(old.entries[0], replace(old.entries[1], samples=slow)))
    shown = [find_change(old, new, "int8", what) for what in ("load ms", "first ms", "memory MiB")]
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


def test_the_baseline_is_taken_on_a_runtime_that_both_files_have() -> None:
    old = make_results(TIMES)
    new = replace(old, entries=(make_entry("fp32", 15.0, "openvino"), old.entries[0], make_entry("int8", 14.0)))
    assert find_change(old, new, "int8", "speed x fp32").verdict == "worse"


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
        find_change(make_results(times), make_results(times | {"m0": 12.0}), "m0", "speed x fp32").verdict
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
    assert find_change(old, new, "int8", what).verdict == verdict


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

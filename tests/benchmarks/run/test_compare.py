"""Two results files: what got worse beyond the noise, and what is not judged."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench_results import make_entry, make_model, make_quality, make_results

from vtopt.benchmarks.run.compare import Change, compare_results, format_changes
from vtopt.benchmarks.run.results import Comparison, Results
from vtopt.optimize.errors import InputError

TIMES = {"fp32": 20.0, "int8": 10.0}


def _find(old: Results, new: Results, model: str, what: str) -> Change:
    return next(change for change in compare_results(old, new).changes if (change.model, change.what) == (model, what))


def test_a_machine_that_is_slower_throughout_is_no_regression() -> None:
    old, new = make_results(TIMES), make_results({name: 3 * time for name, time in TIMES.items()})
    changes = compare_results(old, new)
    assert changes.regressions == []
    speed = _find(old, new, "int8", "speed x fp32")
    assert speed.ratio is not None
    assert (speed.old, speed.new, speed.ratio.value) == pytest.approx((2, 2, 1))
    assert speed.verdict == "within the noise"
    assert _find(old, new, "fp32", "median ms").verdict == "not judged"


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


def test_speed_on_another_machine_is_shown_and_not_judged() -> None:
    old = make_results(TIMES)
    new = make_results(TIMES | {"int8": 40.0}, machine=dict(old.machine) | {"cpu": "Other CPU"})
    changes = compare_results(old, new)
    assert changes.regressions == []
    assert changes.notices == ("the machines differ (cpu Some CPU and Other CPU): speed is shown, not judged",)
    assert _find(old, new, "int8", "speed x fp32").verdict == "not judged"


def test_another_version_of_vtopt_is_the_same_machine() -> None:
    old = make_results(TIMES)
    assert compare_results(old, replace(old, machine=dict(old.machine) | {"vtopt": "9"})).notices == ()


def test_one_model_alone_is_shown_and_not_judged() -> None:
    changes = compare_results(make_results({"fp32": 20.0}), make_results({"fp32": 30.0}))
    assert changes.regressions == []
    assert changes.notices == ("fp32 has no other model to be compared with: its time is shown, not judged",)
    assert [change.verdict for change in changes.changes if change.what == "median ms"] == ["not judged"]


def test_a_model_that_lacks_a_runtime_is_named() -> None:
    old = make_results(TIMES)
    more = replace(old, entries=(*old.entries, make_entry("int8", 9.0, "openvino")))
    for files in ((old, more), (more, old)):
        assert compare_results(*files).notices == ("in one file only: times of int8 on openvino, threads 1, batch 1",)


def test_multiply_adds_that_one_file_lacks_are_named() -> None:
    old = make_results(TIMES)
    new = replace(old, models=(old.models[0], make_model("int8", macs=None)))
    assert compare_results(old, new).notices == ("in one file only: multiply-adds of int8",)


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
    assert changes.notices == ("the first models differ: pictures are compared with the truth alone",)
    assert [(change.model, change.what, change.verdict) for change in changes.changes if "dB" in change.what] == [
        ("fp32", "truth PSNR dB", "worse"),
        ("int8", "truth PSNR dB", "worse"),
    ]


def test_pairs_are_the_same_by_what_they_are_made_of() -> None:
    old = make_results(TIMES, conditions={"size": "64x48", "pairs_sha256": "a"})
    moved = replace(old, settings=replace(old.settings, pairs="elsewhere/pairs"))
    assert _find(old, moved, "int8", "PSNR dB").verdict == "same"
    changed = compare_results(old, replace(old, conditions={"size": "64x48", "pairs_sha256": "b"}))
    assert changed.notices == ("the pairs differ: pictures are not compared",)


def test_speeds_that_all_moved_alike_are_noticed() -> None:
    times = TIMES | {"fp16": 12.0}
    changes = compare_results(make_results(times), make_results(times | {"fp32": 10.0}))
    assert changes.notices == (
        "all speeds moved alike: perhaps fp32 itself became faster; compare with another --baseline",
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


def test_pictures_of_other_pairs_are_not_compared() -> None:
    old = make_results(TIMES)
    new = replace(old, settings=replace(old.settings, pairs="others"))
    assert not [change for change in compare_results(old, new).changes if change.what == "PSNR dB"]


def test_models_in_one_file_only_are_named() -> None:
    changes = compare_results(make_results(TIMES), make_results({"fp32": 20.0, "fp16": 9.0}, complete=False))
    assert changes.notices[:2] == ("the new file is of an interrupted run", "in one file only: int8, fp16")


def test_files_without_a_common_model_are_refused() -> None:
    with pytest.raises(InputError, match=r"no model in common \(old: a; new: b\); measure the same names in both"):
        compare_results(make_results({"a": 1.0}), make_results({"b": 1.0}))


def test_a_baseline_must_be_in_both() -> None:
    with pytest.raises(InputError, match="baseline 'int8' is not in both files; choose one of fp32"):
        compare_results(make_results(TIMES), make_results({"fp32": 20.0}), baseline="int8")


def test_changes_are_a_table_with_what_was_noticed() -> None:
    more = make_results(TIMES | {"fp16": 12.0})
    text = format_changes(compare_results(make_results(TIMES), more))
    assert text.startswith("- **in one file only: fp16**\n\n| model ")
    assert format_changes(compare_results(make_results(TIMES), make_results(TIMES)), "csv").startswith("model,runtime,")

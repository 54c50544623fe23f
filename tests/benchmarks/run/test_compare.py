"""Two results files: what got worse beyond the noise, and what is not judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bench_results import make_entry, make_model, make_quality, make_results

from vtopt.benchmarks.run.compare import Change, compare_results
from vtopt.benchmarks.run.results import Comparison, Results
from vtopt.benchmarks.timing.intervals import LEVEL, RUN_SPREAD
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
    assert changes.notices == (f"another machine ({said}): speeds are not compared, sizes and pictures are",)
    assert {change.what for change in changes.changes} == {"size MiB", "GMACs", "params M", "PSNR dB", "worst dB"}
    assert changes.seen is None


def test_other_versions_are_named_and_compared_all_the_same() -> None:
    old = make_results(TIMES)
    new = make_results(TIMES | {"int8": 14.0}, machine={**old.machine, "onnxruntime": "9.9", "governor": "powersave"})
    changes = compare_results(old, new)
    assert changes.notices[0].startswith("compared all the same, though these differ: ")
    assert "and 9.9" in changes.notices[0]
    assert "governor None and powersave" in changes.notices[0]
    assert len(changes.regressions) == 1


def test_another_version_of_vtopt_is_the_same_machine() -> None:
    old = make_results(TIMES)
    assert compare_results(old, replace(old, machine=dict(old.machine) | {"vtopt": "9"})).notices == ()


def test_one_model_alone_is_shown_and_not_judged() -> None:
    changes = compare_results(make_results({"fp32": 20.0}), make_results({"fp32": 30.0}))
    assert changes.regressions == []
    assert changes.notices == ("fp32 has no other model to be compared with: its time is shown, not judged",)
    assert [change.verdict for change in changes.changes if change.what == "median ms"] == ["not judged"]


def test_a_runtime_that_is_missing_in_the_new_file_is_a_regression_and_a_new_one_is_noticed() -> None:
    old = make_results(TIMES)
    more = replace(old, entries=(*old.entries, make_entry("int8", 9.0, "openvino")))
    lost, gained = compare_results(more, old), compare_results(old, more)
    name = "times of int8 on openvino, threads 1, batch 1"
    assert (lost.notices, lost.regressions) == ((f"missing in the new file: {name}",), [f"{name} is missing"])
    assert (gained.notices, gained.regressions) == ((f"only in the new file: {name}",), [])


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


def _draw(
    generator: np.random.Generator, slower: float = 1.0, *, spread: float = RUN_SPREAD, luck: float = 0.02
) -> Results:
    """Draw a run of four models beside the first: the day, and each of 8 processes, have luck of their own."""
    made = [make_entry("fp32", 20.0, luck=np.exp(generator.normal(0, luck, 8)).tolist())]
    for name in NETWORKS:
        time_ms = 10.0 * np.exp(generator.normal(0, spread)) * (slower if name == NETWORKS[0] else 1.0)
        made.append(make_entry(name, float(time_ms), luck=np.exp(generator.normal(0, luck, 8)).tolist()))
    return make_results(dict.fromkeys(("fp32", *NETWORKS), 10.0), entries=tuple(made))


def _count_speeds(changes: list[str]) -> int:
    return sum("speed x fp32" in change for change in changes)


def test_equal_models_are_called_changed_no_oftener_than_stated() -> None:
    generator = np.random.default_rng(0)
    called = 0
    for _ in range(200):
        changes = compare_results(_draw(generator), _draw(generator)).changes
        called += any(change.verdict in ("worse", "better") for change in changes if "speed" in change.what)
    assert called <= 200 * LEVEL


def test_a_tenth_slower_is_always_found_where_the_machine_is_quiet() -> None:
    generator = np.random.default_rng(1)
    for _ in range(200):
        old, new = (_draw(generator, slower, spread=0.0, luck=0.01) for slower in (1.0, 1.1))
        (found,) = compare_results(old, new).regressions
        assert found.startswith("a on onnxruntime: speed x fp32 from ")


def test_what_is_said_to_be_found_19_times_of_20_is() -> None:
    generator = np.random.default_rng(2)
    found = 0
    for _ in range(200):
        old = _draw(generator)
        seen = compare_results(old, old).seen
        assert seen is not None
        found += _count_speeds(compare_results(old, _draw(generator, seen[1])).regressions) > 0
    assert found >= 190


def test_a_change_is_called_one_from_what_is_said_on() -> None:
    old = make_results(TIMES, entries=tuple(make_entry(name, time) for name, time in TIMES.items()))
    seen = compare_results(old, old).seen
    assert seen is not None
    verdicts = [
        _find(old, make_results(TIMES | {"int8": 10.0 * seen[0] * share}), "int8", "speed x fp32").verdict
        for share in (0.999, 1.001)
    ]
    assert verdicts == ["within the noise", "worse"]


def test_what_is_called_changed_has_1_outside_its_interval() -> None:
    generator = np.random.default_rng(3)
    for _ in range(40):
        for change in compare_results(_draw(generator), _draw(generator, 1.08)).changes:
            if change.ratio and "speed" in change.what:
                assert change.verdict == "within the noise" or not change.ratio.holds(1.0)

"""Results files: what is written is read back; what is no such file is refused in a sentence."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bench_results import make_distance, make_entry, make_model, make_quality, make_results

from vtopt.benchmarks.quality.pictures import FlowShift
from vtopt.benchmarks.run.entry_figures import make_figures
from vtopt.benchmarks.run.results import pick_baseline, read_results, write_results
from vtopt.optimize.errors import InputError, OutputError


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    results = make_results({"a": 10.0, "b": 5.0})
    first, second = results.quality
    worst = replace(make_quality(40.0), worst_pairs={"pair-0": 38.0, "pair-1": math.inf}, lpips_worst=math.inf)
    flow = FlowShift(0.25, 0.5, "pair-0", 2)
    second = replace(second, to_first=worst, flow=flow, distances=(make_distance("fid", 8.75),))
    entries = (results.entries[0], replace(results.entries[1], samples=(), failed="b.onnx: does not run"))
    settings = replace(results.settings, weights="fid.pth", lpips=("alexnet.pth", "alex.pth"))
    results = replace(results, quality=(first, second), entries=entries, settings=settings)
    read = read_results(write_results(results, tmp_path / "results.json"))
    assert read.models == results.models
    assert [entry.samples for entry in read.entries] == [entry.samples for entry in results.entries]
    assert read.entries[1].failed == "b.onnx: does not run"
    assert (read.settings, read.quality) == (results.settings, results.quality)


def test_the_file_has_the_figures_of_every_entry_for_other_readers(tmp_path: Path) -> None:
    content = json.loads(write_results(make_results({"a": 10.0, "b": 5.0}), tmp_path / "r.json").read_text())
    first, second = (entry["figures"] for entry in content["entries"])
    assert (first["speed"], second["speed"], second["within_noise"]) == (1.0, pytest.approx(2.0), False)
    assert content["format"] == "vtopt bench 2"
    assert content["quality"][0]["to_first"]["psnr_median"] == "inf"


def test_equal_results_are_equal_bytes(tmp_path: Path) -> None:
    files = [write_results(make_results({"a": 10.0}), tmp_path / f"{name}.json") for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"format": "vtopt bench 1"}, "is of the format 'vtopt bench 1', this vtopt reads", id="version"),
        pytest.param({"format": None}, "is JSON, but no results of vtopt bench run", id="another file"),
        pytest.param({"models": None}, "is damaged: models: field required", id="a missing key"),
        pytest.param({"models": [], "entries": []}, "has no models", id="no models"),
        pytest.param({"models": [vars(make_model("x"))]}, "times of 'a', which is not among", id="strangers"),
        pytest.param({"settings": {"runs": 1}}, r"is damaged: settings\.seconds: ", id="a missing setting"),
    ],
)
def test_a_file_that_is_no_such_is_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = write_results(make_results({"a": 10.0}), tmp_path / "r.json")
    content = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    with pytest.raises(InputError, match=said) as refused:
        read_results(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "measure again with: vtopt bench run" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("rounds", [[], [[]], [[[0.0, 0.0]]], [[[5.0, 0.0]], [[-1.0, 0.0]]]])
def test_a_process_without_times_is_refused(rounds: list[Any], tmp_path: Path) -> None:
    path = write_results(make_results({"a": 10.0}), tmp_path / "r.json")
    content = json.loads(path.read_text())
    content["entries"][0]["samples"][1]["rounds"] = rounds
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="a process of 'a' has no times, or some that are not above 0; measure again"):
        read_results(path)


@pytest.mark.parametrize("text", ["", "{", "[1, 2", "\x00", "[" * 100_000])
def test_what_is_not_json_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match=r"r\.json: is not JSON, or cut short; measure again"):
        read_results(tmp_path / "r.json")


@pytest.mark.parametrize("text", ["[]", "3", '"vtopt bench 2"', "null"])
def test_json_of_another_shape_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match="no results of vtopt bench run"):
        read_results(tmp_path / "r.json")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; make it with: vtopt bench run"):
        read_results(tmp_path / "r.json")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_results(make_results({"a": 10.0}), tmp_path / "nowhere" / "r.json")


def test_figures_are_of_times_without_waiting() -> None:
    figures = make_figures(make_entry("a", 10.0), None)
    assert figures["runs"] == 6
    assert [figures[name] for name in ("min_ms", "p90_ms")] == pytest.approx([9.9, 10.2])
    assert figures["waiting"] == pytest.approx(0.1 / 1.1)
    assert (figures["load_ms"], figures["first_ms"], figures["memory_mib"]) == (100.0, 50.0, 20.0)
    assert "speed" not in figures


def test_the_median_is_the_middle_of_its_own_interval() -> None:
    """Each process counts once, however many runs it had time for."""
    entry = make_entry("a", 10.0, luck=(1.0, 1.01, 0.99, 1.1))
    many = replace(entry.samples[0], rounds=entry.samples[0].rounds * 20)
    figures = make_figures(replace(entry, samples=(many, *entry.samples[1:])), None)
    middle = (10 * 10.1 * 9.9 * 11) ** 0.25
    assert figures["median_ms"] == pytest.approx(middle)
    assert figures["median_low_ms"] * figures["median_high_ms"] == pytest.approx(middle**2)


@pytest.mark.parametrize(("rounds", "known"), [(49, False), (50, True)])
def test_fewer_than_100_runs_have_no_99th_percentile(rounds: int, known: bool) -> None:
    entry = make_entry("a", 10.0, luck=(1.0, 1.5))
    samples = tuple(replace(sample, rounds=sample.rounds[:1] * rounds) for sample in entry.samples)
    assert (make_figures(replace(entry, samples=samples), None)["p99_ms"] is not None) == known


def test_figures_of_several_threads_are_those_of_the_clock_and_waiting_is_told() -> None:
    figures = make_figures(make_entry("a", 10.0, threads=2), None)
    assert figures["median_ms"] == pytest.approx(11 * (1.0 * 1.02 * 0.99) ** (1 / 3))
    assert figures["waiting"] == pytest.approx(0.1 / 1.1)


def test_memory_on_a_gpu_is_not_told() -> None:
    assert make_figures(make_entry("a", 10.0, "onnxruntime-cuda"), None)["memory_mib"] is None


def test_an_entry_that_was_not_measured_has_no_figures() -> None:
    assert make_figures(make_entry("a", 10.0, luck=()), None) == {}


def test_speed_is_of_the_processes_that_both_have() -> None:
    fast, reference = make_entry("b", 5.0, luck=(1.0, 1.0, 1.0)), make_entry("a", 10.0, luck=(1.0, 1.0))
    figures = make_figures(fast, reference)
    assert figures["speed"] == pytest.approx(2.0)
    assert figures["speed_low"] < 2 < figures["speed_high"]


def test_the_baseline_is_that_of_the_same_threads_on_its_first_runtime() -> None:
    entries = [
        make_entry("a", 9.0, threads=2),
        make_entry("a", 10.0),
        make_entry("a", 12.0, "openvino"),
        make_entry("b", 5.0, "openvino"),
    ]
    assert pick_baseline(entries, entries[-1], "a") is entries[1]
    assert pick_baseline(entries, entries[-1], "c") is None

"""Tables of a results file: rows, columns that are there when something has them, and what is said of the noise."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from bench_results import SETTINGS, make_distance, make_entry, make_quality, make_results

from vtopt.benchmarks.quality.comparison import UNCHANGED
from vtopt.benchmarks.quality.pictures import FlowShift
from vtopt.benchmarks.reports.paper_tables import FINAL_COLUMNS, PRUNING_COLUMNS, QUANTISATION_COLUMNS, make_table
from vtopt.benchmarks.reports.rendering import render_report
from vtopt.benchmarks.reports.results_report import make_results_report
from vtopt.benchmarks.run.results import Comparison
from vtopt.optimize.errors import InputError

TIMES = {"fp32": 20.0, "int8": 10.0}


def test_a_row_has_cost_times_and_pictures() -> None:
    report = make_results_report(make_results(TIMES))
    first, second = report.rows
    shown = ("model", "runtime", "size MiB", "packed MiB", "weights MiB", "params M", "GMACs", "memory MiB")
    assert [first[name] for name in shown] == ["fp32", "onnxruntime", 8.0, 6.0, 7.0, 2.0, 3.0, 20.0]
    assert (first["speed x"], first["PSNR dB"]) == (1.0, None)
    assert (second["speed x"], second["PSNR dB"], second["worst dB"]) == (pytest.approx(2.0), 40.0, 38.0)
    assert not {"threads", "batch", "truth PSNR dB", "FID"} & {*report.columns}


def test_threads_have_a_column_where_they_vary() -> None:
    entries = tuple(make_entry(name, 10.0, threads=threads) for threads in (1, 2) for name in TIMES)
    report = make_results_report(make_results(TIMES, entries=entries))
    assert report.columns[:3] == ("model", "runtime", "threads")


def test_another_baseline_comes_first_and_has_the_speed_of_1() -> None:
    rows = make_results_report(make_results(TIMES), "int8").rows
    assert [(row["model"], row["speed x"]) for row in rows] == [("int8", 1.0), ("fp32", pytest.approx(0.5))]


def test_an_unknown_baseline_is_refused() -> None:
    with pytest.raises(InputError, match="baseline 'fp16' is not among the models; choose one of fp32, int8"):
        make_results_report(make_results(TIMES), "fp16")


def test_the_truth_has_columns_where_pairs_know_it() -> None:
    results = make_results(TIMES, unchanged=make_quality(16.0))
    known = tuple(replace(found, to_truth=make_quality(22.0)) for found in results.quality)
    report = make_results_report(replace(results, quality=known))
    assert report.columns[-2:] == ("truth PSNR dB", "truth SSIM")
    assert [(row["model"], row["truth PSNR dB"]) for row in report.rows] == [
        (UNCHANGED, 16.0),
        ("fp32", 22.0),
        ("int8", 22.0),
    ]


def test_a_model_within_the_noise_is_called_so() -> None:
    results = make_results({"fp32": 20.0, "same": 20.1})
    noisy = make_entry("same", 20.0, luck=(1.3, 0.8, 1.0))
    (notice, *_) = make_results_report(replace(results, entries=(results.entries[0], noisy))).notices
    assert notice.startswith("same on onnxruntime, threads 1, batch 1: within the noise of fp32 on onnxruntime (")


def test_a_slower_model_is_noticed_and_a_faster_is_not() -> None:
    report = make_results_report(make_results(TIMES | {"slow": 40.0}))
    slower = [notice for notice in report.notices if "slower" in notice]
    assert len(slower) == 1
    assert slower[0].startswith(
        "slow on onnxruntime, threads 1, batch 1: slower than fp32 on onnxruntime (0.50 times as fast, from 0.4"
    )


def test_a_busy_machine_and_an_interrupted_run_are_noticed() -> None:
    notices = make_results_report(make_results(TIMES, complete=False)).notices
    assert notices[0] == "the run was interrupted: these are the rounds that it came to"
    assert notices[1].startswith("the machine was busy: models waited for a CPU up to 9% of the time")


def test_a_quiet_machine_is_not_noticed() -> None:
    entry = make_entry("fp32", 20.0)
    quiet = tuple(replace(sample, rounds=(((20.0, 0.0),),)) for sample in entry.samples)
    assert make_results_report(make_results({"fp32": 20.0}, entries=(replace(entry, samples=quiet),))).notices == ()


def test_how_it_was_measured_stands_below() -> None:
    text = render_report(make_results_report(make_results(TIMES)))
    assert "runs at least 6 and 0 s in 3 processes, in turns" in text
    assert "median: the geometric mean of the processes' medians; p99: of 100 runs or more, " in text
    assert f"batch {SETTINGS.batches[0]}" in text
    assert "load 0.5 to 0.5, cpu Some CPU" in text


QUALITY = tuple(
    Comparison(model, runtime, make_quality(psnr), distances=(make_distance("fid", value),))
    for model, runtime, psnr, value in (
        ("fp32", "onnxruntime", math.inf, 8.75),
        ("int8", "onnxruntime", 40.0, 9.25),
        ("int8", "onnxruntime-cuda", 40.0, 9.5),
    )
)


@pytest.mark.parametrize("measured", [True, False])
def test_the_table_of_quantisation(measured: bool) -> None:
    results = make_results(TIMES, quality=QUALITY if measured else ())
    table = make_table(make_results_report(results), "quantisation")
    assert table.columns[: len(QUANTISATION_COLUMNS)] == QUANTISATION_COLUMNS
    (row,) = table.rows
    assert [row[name] for name in ("Optimization", "original size", "quantised size")] == ["int8", 8.0, 8.0]
    assert (row["CPU-FID"], row["GPU-FID"]) == ((9.25, 9.5) if measured else (None, None))
    assert any("FID was not measured" in notice for notice in table.notices) != measured


def test_the_table_of_final_models() -> None:
    table = make_table(make_results_report(make_results(TIMES, quality=QUALITY)), "final")
    assert table.columns[: len(FINAL_COLUMNS)] == FINAL_COLUMNS
    assert [tuple(row[name] for name in FINAL_COLUMNS) for row in table.rows] == [
        ("fp32", 8.0, 6e9, 2.0, 8.75),
        ("int8", 8.0, 6e9, 2.0, 9.25),
    ]


def test_the_table_of_pruning_has_fid_where_it_was_measured() -> None:
    table = make_table(make_results_report(make_results(TIMES, quality=QUALITY)), "pruning")
    assert table.columns == (*PRUNING_COLUMNS, "FID", "FID loss", "median ms", "of the first")
    assert [(row["FID"], row["FID loss"]) for row in table.rows] == [(8.75, None), (9.25, 0.5)]


def test_parts_are_compared_with_their_own_first_and_added_up() -> None:
    names = ("full/warp.onnx", "full/gen.onnx", "small/warp.onnx", "small/gen.onnx")
    results = make_results(dict.fromkeys(names, 10.0))
    sizes = dict(zip(names, (112, 168, 41, 94), strict=True))
    models = tuple(replace(model, bytes=sizes[model.name] * 2**20) for model in results.models)
    table = make_table(make_results_report(replace(results, models=models)), "pruning")
    assert [row["Total SIZE(MB)"] for row in table.rows] == [280, 280, 135, 135]
    assert [row["Compression ratio"] for row in table.rows] == [1, 1, 112 / 41, 168 / 94]
    assert table.columns[3:5] == ("SIZE(MB)", "Total SIZE(MB)")


def test_pictures_of_the_first_on_another_runtime_are_compared_too() -> None:
    results = make_results(TIMES)
    entries = (*results.entries, make_entry("fp32", 15.0, "openvino"))
    quality = (*results.quality, Comparison("fp32", "openvino", make_quality(90.0)))
    rows = make_results_report(replace(results, entries=entries, quality=quality)).rows
    assert {row["runtime"]: row["PSNR dB"] for row in rows if row["model"] == "fp32"} == {
        "onnxruntime": None,
        "openvino": 90.0,
    }


def test_further_measures_have_columns_where_there_are_values() -> None:
    results = make_results(TIMES)
    first, second = results.quality
    measured = replace(make_quality(40.0), ms_ssim_median=0.99, ms_ssim_scales=5)
    flow = FlowShift(0.25, 0.5, "pair-0", 2)
    report = make_results_report(replace(results, quality=(first, replace(second, to_first=measured, flow=flow))))
    assert report.columns[-2:] == ("MS-SSIM", "flow px")
    assert report.conditions["flow"] == "px, mean over pairs"
    assert [(row.get("MS-SSIM"), row.get("flow px")) for row in report.rows] == [(None, None), (0.99, 0.25)]


def test_a_distance_that_is_no_fid_is_not_called_so() -> None:
    results = make_results(TIMES)
    other = tuple(
        replace(each, distances=(make_distance("fd_random", 0.5), make_distance("kd_random", 0.1)))
        for each in results.quality
    )
    report = make_results_report(replace(results, quality=other))
    assert report.columns[-2:] == ("fd_random", "kd_random")
    second = replace(other[1], flow=FlowShift(0.25, 0.5, "pair-0", 2))
    report = make_results_report(replace(results, quality=(other[0], second)))
    assert report.columns[-3:] == ("flow px", "fd_random", "kd_random")
    assert "FID" not in report.columns

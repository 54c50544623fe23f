"""The tables of papers: their columns, ratios and losses, and what they do without truth."""

from __future__ import annotations

from pathlib import Path

import pytest

from vtopt.benchmarks.quality.comparison import UNCHANGED
from vtopt.benchmarks.reports.paper_tables import PRUNING_COLUMNS, make_pruning_row, make_table
from vtopt.benchmarks.reports.report import Report
from vtopt.optimize.errors import InputError


def _make_row(model: str, runtime: str = "onnxruntime", **changed: object) -> dict[str, object]:
    row = {"model": model, "runtime": runtime, "size MiB": 8.0, "params M": 2.0, "GMACs": 3.0, "median ms": 40.0}
    return row | {"truth PSNR dB": 22.0} | changed


def _make_report(*rows: dict[str, object]) -> Report:
    return Report(rows, ("model",), {"pairs": 4}, ("a notice",), {})


def test_a_pruned_model_stands_beside_the_first() -> None:
    pruned = _make_row(
        "pruned", **{"size MiB": 2.0, "params M": 0.5, "GMACs": 1.0, "median ms": 10.0, "truth PSNR dB": 21.5}
    )
    table = make_table(_make_report(_make_row("original"), pruned), "pruning")
    assert table.columns[: len(PRUNING_COLUMNS)] == PRUNING_COLUMNS
    first, second = table.rows
    assert (first["Metrics"], first["GFLOPs"], first["Compression ratio"], first["PSNR loss (dB)"]) == (
        "original",
        6.0,
        1.0,
        None,
    )
    assert (second["GFLOPs"], second["Para(M)"], second["SIZE(MB)"]) == (2.0, 0.5, 2.0)
    assert (second["Compression ratio"], second["PSNR loss (dB)"], second["of the first"]) == (4.0, 0.5, 0.25)
    assert table.notices == ("a notice",)


def test_without_truth_there_is_no_quality() -> None:
    rows = [{key: value for key, value in _make_row(name).items() if key != "truth PSNR dB"} for name in "ab"]
    table = make_table(_make_report(*rows), "pruning")
    assert [(row["PSNR (dB)"], row["PSNR loss (dB)"]) for row in table.rows] == [(None, None)] * 2


def test_one_row_a_model_on_the_first_runtime() -> None:
    unchanged = {"model": UNCHANGED, "truth PSNR dB": 16.0}
    rows = [unchanged, _make_row("a"), _make_row("a", "openvino"), _make_row("b"), _make_row("b", "openvino")]
    table = make_table(_make_report(*rows), "pruning")
    assert [row["Metrics"] for row in table.rows] == ["a", "b"]
    assert table.conditions["runtime"] == "onnxruntime"


def test_a_model_that_does_not_run_there_is_named() -> None:
    table = make_table(_make_report(_make_row("a", "torch"), _make_row("b")), "pruning")
    assert [row["Metrics"] for row in table.rows] == ["a"]
    assert table.notices[-1] == "left out, as torch does not run it: b; give files of one kind"


def test_a_table_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="no models"):
        make_table(_make_report(), "pruning")


def test_the_report_is_left_as_it_is() -> None:
    report = _make_report(_make_row("a"))
    assert make_table(report, "report") is report


def test_a_loss_is_measured_from_the_first() -> None:
    first = make_pruning_row("a", gflops=None, parameters_m=1.0, size_mb=4.0, psnr_db=20.0, first=None)
    better = make_pruning_row("b", gflops=None, parameters_m=1.0, size_mb=4.0, psnr_db=20.5, first=first)
    assert better["PSNR loss (dB)"] == -0.5


def test_the_table_of_ratios_is_a_recipe_that_loads() -> None:
    from vtopt.optimize.recipe import load_recipe

    path = Path(__file__).parents[3] / "benchmarks" / "pruning.yaml"
    recipe = load_recipe(path, start_kind="checkpoint")
    ratios = [str(stage.settings["ratio"]) for stage in recipe.stages if stage.step == "prune"]
    assert ratios == ["0.2", "0.3", "0.4", "0.5"]
    assert recipe.report[:2] == ("original", "original-int8")
    assert {f"{form}-{ratio}" for form in ("pruned", "recovered", "int8") for ratio in ratios} < set(recipe.report)


def test_a_latency_is_compared_by_the_speeds_where_there_are_some() -> None:
    """A speed of bench run is of the fastest rounds, which are no ratio of the medians."""
    rows = [_make_row("a", **{"speed x": 1.0}), _make_row("b", **{"speed x": 1.6, "median ms": 20.0}), _make_row("c")]
    table = make_table(_make_report(*rows), "pruning")
    assert [row["of the first"] for row in table.rows] == [1.0, 1 / 1.6, 1.0]

"""Reports as text: how it was measured is in every format that can hold it, and so are FLOPs."""

from __future__ import annotations

import csv
import io
import json

import pytest
from bench_results import make_results

from vtopt.benchmarks.reports.paper_tables import make_table
from vtopt.benchmarks.reports.rendering import render_report
from vtopt.benchmarks.reports.report import Report
from vtopt.benchmarks.reports.results_report import make_results_report
from vtopt.optimize.errors import InputError

TIMES = {"fp32": 20.0, "int8": 10.0}
ROWS = ({"model": "a", "threads": 2, "GMACs": 3.0}, {"model": "b", "threads": 1, "GMACs": None})
REPORT = Report(ROWS, ("model", "threads", "GMACs"), {"threads": "1, 2", "cpu": "Some CPU"}, ("b is slower",))
CONVENTION = "of one picture, 1 MAC is 2 FLOPs"


def test_json_has_rows_conditions_and_notices() -> None:
    assert json.loads(render_report(REPORT, "json")) == {
        "rows": [
            {"model": "a", "threads": 2, "GMACs": 3.0, "GFLOPs": 6.0},
            {"model": "b", "threads": 1, "GMACs": None, "GFLOPs": None},
        ],
        "conditions": {"threads": "1, 2", "cpu": "Some CPU", "MACs": CONVENTION},
        "notices": ["b is slower"],
    }


def test_conditions_are_columns_of_csv_where_rows_have_none() -> None:
    first, second = csv.DictReader(io.StringIO(render_report(REPORT, "csv")))
    assert list(first) == ["model", "threads", "GMACs", "GFLOPs", "cpu", "MACs"]
    assert list(first.values()) == ["a", "2", "3.0", "6.0", "Some CPU", CONVENTION]
    assert (second["threads"], second["GFLOPs"]) == ("1", "")


def test_markdown_has_notices_first_and_conditions_last() -> None:
    text = render_report(REPORT)
    assert text.startswith("- **b is slower**\n\n| model | threads | GMACs |\n")
    assert text.endswith(f"\n\nMeasured: threads 1, 2, cpu Some CPU, MACs {CONVENTION}.\n")


def test_latex_is_the_table_alone() -> None:
    text = render_report(REPORT, "latex")
    assert text.startswith(r"\begin{tabular}")
    assert text.endswith("\\end{tabular}\n")


def test_a_report_without_multiply_adds_and_pictures_tells_nothing_of_them() -> None:
    report = Report(({"model": "a"},), ("model",), {"cpu": "Some CPU"}, ())
    assert render_report(report) == "| model |\n| ----- |\n| a     |\n\nMeasured: cpu Some CPU.\n"
    assert list(json.loads(render_report(report, "json"))["rows"][0]) == ["model"]


def test_a_format_that_is_not_known_is_refused() -> None:
    with pytest.raises(InputError, match="format 'html5' is not known"):
        render_report(REPORT, "html5")  # type: ignore[arg-type]


@pytest.mark.parametrize("table", ["report", "pruning", "final"])
def test_tables_of_a_results_file_state_the_convention_and_what_times_are(table: str) -> None:
    report = make_table(make_results_report(make_results(TIMES)), table)  # type: ignore[arg-type]
    text = render_report(report)
    assert f"MACs {CONVENTION}" in text
    assert "times of one thread, less what it waited for a CPU" in text
    assert "PSNR and SSIM: median over pairs." in text

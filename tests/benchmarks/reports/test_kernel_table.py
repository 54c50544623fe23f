"""The table of a kernel: what bench correlation writes, and a sentence for any other file."""

from __future__ import annotations

from pathlib import Path

import pytest

from vtopt.benchmarks.reports.kernel_table import COLUMNS, read_kernel_table
from vtopt.benchmarks.reports.rendering import render_report
from vtopt.benchmarks.studies.correlation_counts import measure_counts
from vtopt.benchmarks.studies.form_report import write_forms_csv
from vtopt.optimize.errors import InputError

COMMITTED = Path(__file__).parents[3] / "benchmarks" / "results" / "correlation-counts.csv"
HEADER = "case,runtime,threads,n,made,before (s),after (s),FPS,acceleration,cpu"
ROW = "256x8x6,onnxruntime,1,1000,1000,4.0,2.0,500.0,2.0,Some CPU"


def _write(path: Path, *rows: str, header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_a_row_is_of_n_runs_on_a_runtime(tmp_path: Path) -> None:
    report = read_kernel_table(_write(tmp_path / "k.csv", ROW))
    assert report.columns == COLUMNS
    assert [tuple(row[name] for name in COLUMNS) for row in report.rows] == [
        ("onnxruntime", 1000, 4.0, 2.0, 500.0, 2.0)
    ]
    assert report.conditions == {
        **{"before": "slices", "after": "tiles", "case": "256x8x6", "threads": "1", "cpu": "Some CPU"},
        **dict.fromkeys(("torch", "onnxruntime", "openvino"), "unknown"),
    }
    assert report.notices == ()


def test_cases_and_threads_have_columns_where_they_vary(tmp_path: Path) -> None:
    rows = (ROW, ROW.replace("256x8x6", "256x16x12").replace(",1,1000", ",2,1000", 1))
    assert read_kernel_table(_write(tmp_path / "k.csv", *rows)).columns == ("case", "threads", *COLUMNS)


def test_runs_that_were_stopped_are_noticed(tmp_path: Path) -> None:
    report = read_kernel_table(_write(tmp_path / "k.csv", ROW.replace("1000,1000", "1000,40")))
    assert report.notices == (
        "256x8x6 on onnxruntime, threads 1: stopped after 40 of 1,000 runs, whose seconds these are",
    )


def test_what_the_command_writes_is_read_as_it_was_measured(tmp_path: Path) -> None:
    groups = list(measure_counts([2], ["8x8x6"], threads=[1]))
    report = read_kernel_table(write_forms_csv(groups, tmp_path / "k.csv"))
    rows = [row for group in groups for row in group.rows]
    assert [[row[name] for name in COLUMNS] for row in report.rows] == [[row[name] for name in COLUMNS] for row in rows]


@pytest.mark.parametrize(
    ("fmt", "begin"),
    [
        ("md", "| case      | runtime     |     n | before (s) | after (s) |"),
        ("csv", "case,runtime,n,before (s),after (s),FPS,acceleration,before,after,threads,cpu,"),
        ("json", '{\n  "rows": [\n    {\n      "case": "256x8x6",'),
        ("latex", "\\begin{tabular}{llrrrrr}\n\\hline\ncase & runtime & n & before (s)"),
    ],
)
def test_the_committed_figures_are_printed_in_each_format(fmt: str, begin: str) -> None:
    assert render_report(read_kernel_table(COMMITTED), fmt).startswith(begin)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("model,runtime\na,b\n", "is no table of a kernel, it has no column n, before", id="another table"),
        pytest.param("", "is no table of a kernel", id="empty"),
        pytest.param(HEADER + "\n", "has no rows; make it with: vtopt bench correlation", id="no rows"),
        pytest.param(f"{HEADER}\n{ROW.replace('4.0', 'x')}\n", "row 1 is damaged: threads, n, made, ", id="no number"),
        pytest.param(f"{HEADER}\n{ROW}\n{ROW.replace('4.0', 'inf')}\n", "row 2 is damaged", id="infinite"),
        pytest.param(f"{HEADER}\n{ROW[:20]}\n", "row 1 is damaged", id="cut short"),
    ],
)
def test_another_file_is_refused_with_a_sentence(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "k.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        read_kernel_table(path)


def test_bytes_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "k.csv").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(InputError, match="is no text; make it with"):
        read_kernel_table(tmp_path / "k.csv")
    with pytest.raises(InputError, match="no such file; make it with: vtopt bench correlation --count 1000"):
        read_kernel_table(tmp_path / "none.csv")

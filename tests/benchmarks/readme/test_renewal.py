"""Tables of a README, made of the results beside it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vtopt.benchmarks.readme.making import Cell, Table
from vtopt.benchmarks.readme.renewal import check_readme, renew_readme
from vtopt.optimize.errors import BudgetError, InputError

TABLE = {"speeds": Table(("speeds.csv",), "form", {"ms": Cell("median ms", {"runtime": "onnxruntime"}, round)})}
BLOCK = "<!-- figures: speeds -->\n\n| form | ms |\n\n<!-- /figures -->\n"


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    """A README with one table, whose figures are 1,235 and 7 ms."""
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    (results / "speeds.csv").write_text(
        "form,runtime,median ms\nplain,onnxruntime,1234.6\nplain,openvino,9\nfast,onnxruntime,7.1\n"
    )
    path = tmp_path / "README.md"
    path.write_text(f"Before.\n\n{BLOCK}\nAfter.\n")
    renew_readme(path, TABLE)
    return path


def test_a_table_is_renewed_in_place_and_stays(readme: Path) -> None:
    text = readme.read_text()
    assert "| plain | 1,235 |\n| fast  |     7 |\n" in text
    assert (text.split("<!--")[0], text.split("-->")[-1]) == ("Before.\n\n", "\n\nAfter.\n")
    assert renew_readme(readme, TABLE) == check_readme(readme, TABLE) == {}
    assert readme.read_text() == text


@pytest.mark.parametrize(("file", "old", "new"), [("README.md", "1,235", "1,236"), ("speeds.csv", "7.1", "8.1")])
def test_a_digit_that_changed_is_named_by_its_table(readme: Path, file: str, old: str, new: str) -> None:
    path = next(readme.parent.rglob(file))
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(BudgetError, match="speeds: not what"):
        check_readme(readme, TABLE)


def test_a_table_without_results_is_left_as_it_is(readme: Path) -> None:
    before = readme.read_text()
    shutil.rmtree(readme.parent / "benchmarks")
    assert renew_readme(readme, TABLE) == check_readme(readme, TABLE) == {"speeds": ["speeds.csv"]}
    assert readme.read_text() == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<!-- /figures -->", "", "do not pair up"),
        ("figures: speeds", "figures: sizes", "sizes, speeds"),
        ("Before.", BLOCK, "speeds are there twice"),
    ],
)
def test_a_readme_with_other_markers_is_refused(readme: Path, old: str, new: str, message: str) -> None:
    readme.write_text(readme.read_text().replace(old, new))
    with pytest.raises(InputError, match=message):
        renew_readme(readme, TABLE)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", "no rows"),
        ("x\n", "as many cells"),
        ("plain,onnxruntime,1,2\n", "as many cells"),
        ("plain,onnxruntime,1\nplain,onnxruntime,2\n", "2 rows have"),
        ("plain,openvino,1\n", "no row has what column 'ms'"),
    ],
)
def test_results_that_make_no_table_are_refused(readme: Path, rows: str, message: str) -> None:
    (readme.parent / "benchmarks" / "results" / "speeds.csv").write_text(f"form,runtime,median ms\n{rows}")
    with pytest.raises(InputError, match=message):
        check_readme(readme, TABLE)


def test_results_without_the_rows_names_are_refused(readme: Path) -> None:
    (readme.parent / "benchmarks" / "results" / "speeds.csv").write_text("runtime,median ms\nonnxruntime,1\n")
    with pytest.raises(InputError, match="no column 'form'"):
        check_readme(readme, TABLE)


def test_the_command_refuses_a_readme_without_the_projects_tables(readme: Path) -> None:
    command = [sys.executable, "-m", "vtopt.benchmarks.readme", str(readme), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "a table without a block" in result.stderr

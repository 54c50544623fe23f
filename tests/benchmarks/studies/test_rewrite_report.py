"""The tables of the rewrites, their CSV, and where it may go; on rows made up here."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from vtopt.benchmarks.reports.files import check_report
from vtopt.benchmarks.studies.rewrite_group import Group
from vtopt.benchmarks.studies.rewrite_report import COLUMNS, format_rewrites, write_csv
from vtopt.optimize.errors import InputError, OutputError


def _make_row(form: str, **values: Any) -> dict[str, Any]:
    row = dict.fromkeys(COLUMNS, None) | {"network": "one", "form": form, "runtime": "onnxruntime"}
    return row | {"threads": 1, "batch": 4, "size": "64x48", "runs": 2, "warmup": 3, "median ms": 1 / 3} | values


def _make_op(operation: str, plain: float, rewritten: float) -> dict[str, Any]:
    where = {"network": "one", "threads": 1, "batch": 4}
    return {**where, "operation": operation, "plain ms": plain, "all rewrites ms": rewritten}


OPS = (
    _make_op("Conv", 50.0, 50.0),
    _make_op("Max", 0.5, 40.0),
    _make_op("Add", 0.25, 0.125),
    _make_op("Cast", 0.5, 0.25),
    _make_op("(all)", 100.0, 90.0),
)
GROUPS = [
    Group((), (), ("onnxslim is left out",)),
    Group((_make_row("plain"), _make_row("all rewrites", threads=2)), OPS, ()),
]


def test_format_rewrites_puts_notices_first_and_conditions_last() -> None:
    text = format_rewrites(GROUPS)
    assert text.startswith("- **onnxslim is left out**\n\n| network |")
    last = text.splitlines()[-1]
    assert last.startswith("Measured: ")
    assert "size 64x48, batch 4, runs 2 in turns after 3 of warm-up, threads 1, 2, cpu " in last
    assert ", onnxsim " in last


def test_format_rewrites_adds_up_operations_that_are_small_in_both_models() -> None:
    lines = [line.split("|")[4:-1] for line in format_rewrites(GROUPS).splitlines() if line.startswith("| one")]
    shown = [tuple(cell.strip() for cell in cells) for cells in lines if len(cells) == 3]
    assert shown == [
        ("Conv", "50.00", "50.00"),
        ("Max", "0.50", "40.00"),
        ("(other)", "0.75", f"{0.125 + 0.25:.2f}"),
        ("(all)", "100.00", "90.00"),
    ]


def test_format_rewrites_as_json_has_everything_unrounded() -> None:
    data = json.loads(format_rewrites(GROUPS, as_json=True))
    assert [row["form"] for row in data["rows"]] == ["plain", "all rewrites"]
    assert data["rows"][0]["median ms"] == 1 / 3
    assert [row["operation"] for row in data["operations"]] == ["Conv", "Max", "Add", "Cast", "(all)"]
    assert data["notices"] == ["onnxslim is left out"]
    assert {"cpu", "onnxruntime", "onnxslim"} <= set(data["conditions"])


def test_format_rewrites_without_operations_is_one_table() -> None:
    assert "operation" not in format_rewrites([Group((_make_row("plain"),), (), ())])


def test_format_rewrites_of_nothing_says_what_to_name() -> None:
    with pytest.raises(InputError, match="--network"):
        format_rewrites([Group((), (), ("left out",))])


def test_write_csv_has_a_row_per_measurement_with_its_conditions(tmp_path: Path) -> None:
    path = write_csv(GROUPS, tmp_path / "rewrites.csv")
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["form"] for row in rows] == ["plain", "all rewrites"]
    assert rows[0]["median ms"] == repr(1 / 3)
    assert rows[0]["ratio"] == ""
    assert all(row["size"] == "64x48" and row["cpu"] and row["openvino"] and row["onnxsim"] for row in rows)
    assert list(tmp_path.iterdir()) == [path]


def test_check_report_refuses_what_exists_and_lets_force_through(tmp_path: Path) -> None:
    path = tmp_path / "rewrites.csv"
    check_report(path)
    path.write_text("mine")
    with pytest.raises(OutputError, match="--force"):
        check_report(path)
    check_report(path, force=True)
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "told"),
    [("rewrites.txt", "must be .csv"), ("absent/rewrites.csv", "no folder"), ("folder.csv", "is a folder")],
)
def test_check_report_refuses_places_that_cannot_hold_it(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OutputError, match=told):
        check_report(tmp_path / name, force=True)

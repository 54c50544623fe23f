"""The table of int8, its CSV and its pictures; on rows made up here."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from vtopt.benchmarks.studies import int8_figures
from vtopt.benchmarks.studies.int8_figures import Int8Group, WorstPicture
from vtopt.benchmarks.studies.int8_report import COLUMNS, check_sheets, format_int8, write_int8_csv, write_sheets
from vtopt.benchmarks.studies.network_forms import Variant
from vtopt.optimize.cli import app
from vtopt.optimize.errors import InputError, OutputError

HOW = {"runs": 2, "warmup": 3, "threads": 1, "pairs": 4, "calibrated on": 16, "pairs from": "my_pairs"}


def _make_row(form: str, **values: Any) -> dict[str, Any]:
    row = {"network": "one", "form": form, "runtime": "onnxruntime", "median ms": 4.0, "picture size": "64x48"}
    return row | HOW | values


def _make_worst() -> WorstPicture:
    rng = np.random.default_rng(0)
    picture, reference = (rng.uniform(-1, 1, (3, 64, 48)).astype(np.float32) for _ in range(2))
    return WorstPicture(Variant("vtopt int8 --fp16", "openvino", Path("a.onnx")), "anna", picture, reference)


GROUP = Int8Group(
    (_make_row("plain"), _make_row("onnxruntime per tensor", **{"PSNR dB": float("inf"), "of plain": 0.5})),
    ("one: NNCF defaults is left out",),
    (_make_worst(),),
)


def test_format_int8_puts_notices_first_and_conditions_last() -> None:
    text = format_int8([GROUP])
    assert text.startswith("- **one: NNCF defaults is left out**\n\n| network |")
    last = text.splitlines()[-1]
    assert "pairs 4 from my_pairs, calibrated on 16, size 64x48, runs 2 in turns after 3 of warm-up" in last
    assert ", nncf " in last


def test_format_int8_as_json_has_no_numbers_that_json_does_not_know() -> None:
    data = json.loads(format_int8([GROUP], as_json=True))
    assert [row["form"] for row in data["rows"]] == ["plain", "onnxruntime per tensor"]
    assert data["rows"][1]["PSNR dB"] == "inf"
    assert data["notices"] == list(GROUP.notices)


def test_format_int8_without_rows_says_why() -> None:
    with pytest.raises(InputError, match="one is left out: it is too large"):
        format_int8([Int8Group((), ("one is left out: it is too large",))])


def test_csv_has_conditions_as_columns_and_leaves_empty_what_is_not_known(tmp_path: Path) -> None:
    path = write_int8_csv([GROUP], tmp_path / "int8.csv")
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert [row["form"] for row in rows] == ["plain", "onnxruntime per tensor"]
    assert rows[0]["PSNR dB"] == ""
    assert tuple(rows[0])[: len(COLUMNS)] == COLUMNS
    assert {"cpu", "onnxruntime", "nncf", "target"} <= set(rows[0])


def test_sheets_are_named_by_network_form_and_runtime(tmp_path: Path) -> None:
    made = write_sheets(GROUP, tmp_path / "worst")
    assert [path.name for path in made] == ["one-vtopt-int8-fp16-openvino.png"]
    with pytest.raises(OutputError, match="holds pictures already"):
        check_sheets(tmp_path / "worst")
    check_sheets(tmp_path / "worst", force=True)
    check_sheets(tmp_path / "none")


def test_sheets_need_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is no folder"):
        check_sheets(tmp_path / "file", force=True)


def test_command_writes_csv_and_sheets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def measure(networks: Any, **options: Any) -> list[Int8Group]:
        asked.update(options, networks=list(networks))
        return [GROUP]

    monkeypatch.setattr(int8_figures, "measure_int8", measure)
    places = ["--output", str(tmp_path / "int8.csv"), "--sheets", str(tmp_path / "worst")]
    result = CliRunner().invoke(app, ["bench", "int8", "--network", "one", "--time-budget", "90s", *places])
    assert result.exit_code == 0, result.output
    assert "| one" in result.output
    assert asked["networks"] == ["one"]
    assert asked["time_budget"] == 90
    assert (tmp_path / "int8.csv").exists()
    assert len(list((tmp_path / "worst").iterdir())) == 1

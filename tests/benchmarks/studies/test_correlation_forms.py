"""One correlation layer measured in every form. On tiny cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from vtopt.benchmarks.studies import correlation_forms, single_correlation
from vtopt.benchmarks.studies.correlation_forms import choose_threads, measure_correlation
from vtopt.benchmarks.studies.single_correlation import SLICES, list_forms
from vtopt.optimize.cli import app
from vtopt.optimize.errors import OutputError

HOW: dict[str, Any] = {"threads": [1], "runs": 1, "warmup": 0}


def test_every_form_is_measured_on_every_runtime_against_slices() -> None:
    (group,) = measure_correlation(["4x9x10"], **HOW)
    rows = {(row["form"], row["runtime"]): row for row in group.rows}
    assert set(rows) == {(form, runtime) for form in list_forms() for runtime in ("onnxruntime", "openvino")}
    assert not group.notices
    assert all(row["difference"] <= 1e-6 for row in rows.values())
    assert all(row["ratio"] == row["median ms"] / rows[SLICES, row["runtime"]]["median ms"] for row in rows.values())
    assert {form for form, _ in rows if rows[form, "openvino"]["chosen"] == "yes"} == {"tiles"}


def test_a_form_that_is_no_correlation_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    forms = dict(list_forms())
    wrong = {"slices": forms["slices"], "swapped": lambda first, second, radius: forms["slices"](second, first, radius)}
    monkeypatch.setattr(single_correlation, "list_forms", lambda: wrong)
    (group,) = measure_correlation(["4x9x10"], **HOW)
    assert {row["form"] for row in group.rows} == {"slices"}
    assert [notice.partition(" by ")[0] for notice in group.notices] == [
        f"4x9x10: swapped on {runtime} is left out: it differs from slices" for runtime in ("onnxruntime", "openvino")
    ]


def test_thread_counts_are_those_asked_for_once_or_those_there_are_cores_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_threads([4, 1, 4]) == [4, 1]
    for cores, counts in ((1, [1]), (8, [1, 2])):
        monkeypatch.setattr(correlation_forms, "count_cpus", lambda cores=cores: cores)
        assert choose_threads(None) == counts


def test_the_command_measures_the_cases_it_is_given(tmp_path: Path) -> None:
    output = tmp_path / "forms.csv"
    asked = ["--case", "1x2x3", "--threads", "1", "--runs", "1"]
    result = CliRunner().invoke(app, ["bench", "correlation", *asked, "--output", str(output), "--json"])
    assert result.exit_code == 0, result.exception
    rows = json.loads(result.stdout)["rows"]
    assert {(row["case"], row["threads"]) for row in rows} == {("1x2x3", 1)}
    assert len(output.read_text().splitlines()) == 1 + len(rows)


def test_the_command_refuses_an_existing_csv_before_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "forms.csv"
    output.write_text("mine")
    monkeypatch.setattr(correlation_forms, "measure_form_group", lambda *_: pytest.fail("it measured"))
    result = CliRunner().invoke(app, ["bench", "correlation", "--case", "1x2x3", "--output", str(output)])
    assert isinstance(result.exception, OutputError)
    assert output.read_text() == "mine"

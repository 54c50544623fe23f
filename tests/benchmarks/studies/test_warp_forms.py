"""One warp in every form: all of them are the same warp, and what is not, is left out. On tiny cases."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from vtopt.benchmarks.engines.engine import Engine, open_engine
from vtopt.benchmarks.studies import form_group, warp_forms
from vtopt.benchmarks.studies.form_report import format_forms, write_forms_csv
from vtopt.benchmarks.studies.network_forms import PLAIN
from vtopt.benchmarks.studies.rewrite_group import Group
from vtopt.benchmarks.studies.single_warp import Case, draw_feeds, make_plain, parse_case
from vtopt.benchmarks.studies.warp_forms import MEASURED, NOTE, measure_forms
from vtopt.optimize.cli import app
from vtopt.optimize.errors import InputError, OutputError, UsageError
from vtopt.optimize.rewrites.deform_conv import has_kernel
from vtopt.optimize.rewrites.forms import FORMS
from vtopt.optimize.warp import find_warps

CASE = Case(4, 8, 9, 3)
HOW: dict[str, Any] = {"heads": CASE.heads, "threads": [1], "runs": 1, "warmup": 0}


def _measure(**how: Any) -> Group:
    (group,) = measure_forms([str(CASE)], **(HOW | how))
    return group


@pytest.fixture
def group() -> Group:
    """Made up here: the plain form and a rewritten one on one runtime."""
    row = {"case": "4x8x9", "heads": 3, "runtime": "onnxruntime", "threads": 1, "runs": 2, "warmup": 3}
    times = {"median ms": 1 / 3, "ratio": 1.0, "difference": 0.0, "chosen": "no"}
    return Group(({**row, **times, "form": "plain"}, {**row, **times, "form": "stacked", "chosen": "yes"}), (), ("no",))


def test_the_plain_form_is_the_formula_with_features_and_attention_copied(tmp_path: Path) -> None:
    import torch
    from torch.nn import functional as F

    model, feeds = make_plain(CASE), draw_feeds(CASE)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, tmp_path / "plain.onnx")
    made = open_engine(tmp_path / "plain.onnx", threads=1).run(feeds)["warped"]
    grids = torch.from_numpy(feeds["places"]).permute(0, 2, 3, 1)
    copies = torch.from_numpy(feeds["features"]).repeat_interleave(CASE.heads, 0)
    sampled = F.grid_sample(copies, grids, padding_mode="border", align_corners=False).numpy()
    expected = (sampled * feeds["attention"][0][:, np.newaxis]).sum(0, keepdims=True)
    assert np.abs(made - expected).max() <= 1e-5 * np.abs(expected).max()
    assert [node.op_type for node in model.graph.node].count("Tile") == 2


@pytest.mark.parametrize("case", [CASE, Case(2, 2, 2, 2), Case(3, 16, 12, 6)], ids=str)
def test_the_plain_form_is_found_as_one_warp_with_its_heads(case: Case) -> None:
    (warp,) = find_warps(make_plain(case))
    assert (warp.heads, warp.padding_mode, warp.planar) == (case.heads, "border", True)
    assert (warp.features, warp.places, warp.attention, warp.output) == ("features", "places", "attention", "warped")


def test_places_are_near_their_pixels_but_for_some_far_outside() -> None:
    case = Case(1, 64, 48, 6)
    feeds = draw_feeds(case)
    pixels = (feeds["places"] + 1) / 2 * np.array([48, 64]).reshape(2, 1, 1) - 0.5
    moved = np.abs(pixels - np.stack(np.mgrid[0:64, 0:48][::-1]))
    far = moved.max(1) > 4.01
    assert 0.01 < far.mean() < 0.03
    assert np.abs(feeds["places"]).max(1)[far].min() > 1
    assert np.median(moved) > 1
    assert np.allclose(feeds["attention"].sum(1), 1)
    assert all(np.array_equal(array, draw_feeds(case)[name]) for name, array in feeds.items())


@pytest.mark.parametrize("case", [CASE, Case(1, 2, 2, 2), Case(3, 16, 12, 6)], ids=str)
def test_every_form_makes_what_the_plain_form_makes(case: Case) -> None:
    (group,) = measure_forms([str(case)], **(HOW | {"heads": case.heads}))
    rows = {(row["form"], row["runtime"]): row for row in group.rows}
    everywhere = {PLAIN, *MEASURED} - {"deformable"}
    assert {(form, runtime) for form in everywhere for runtime in ("onnxruntime", "openvino")} <= set(rows)
    assert (("deformable", "onnxruntime") in rows) == has_kernel()
    assert all(row["difference"] <= 1e-5 for row in rows.values())
    assert list(group.rows[0])[:4] == ["case", "heads", "form", "runtime"]


def test_ratios_are_to_the_plain_form_on_the_same_runtime() -> None:
    rows = _measure().rows
    plain = {row["runtime"]: row["median ms"] for row in rows if row["form"] == PLAIN}
    assert all(row["ratio"] == row["median ms"] / plain[row["runtime"]] for row in rows)


def test_the_form_that_a_rewrite_takes_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    choices = {"onnxruntime": "stacked", "openvino": "separate"}
    monkeypatch.setattr(warp_forms, "choose_form", lambda warp, runtime: choices[runtime])
    chosen = {row["runtime"]: row["form"] for row in _measure().rows if row["chosen"] == "yes"}
    assert chosen == choices


def test_a_form_that_is_another_warp_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {
        "unwarped": lambda editor, warp, features, channels: editor.add("Neg", features),
        "misshapen": lambda editor, warp, features, channels: editor.reshape(features, -1),
    }
    monkeypatch.setattr(warp_forms, "MEASURED", {**wrong, "stacked": FORMS["stacked"]})
    group = _measure()
    assert {row["form"] for row in group.rows} == {PLAIN, "stacked"}
    for form in wrong:
        assert sum(f"4x8x9: {form} on " in notice for notice in group.notices) == 2
    assert any("unwarped on onnxruntime is left out: it differs from plain by " in notice for notice in group.notices)


def _fail_to_open(monkeypatch: pytest.MonkeyPatch, form: str, runtime: str = "") -> None:
    def open_others(path: Path, **how: Any) -> Engine:
        if path.stem == form and runtime in how["runtime"]:
            raise InputError(f"{path}: {how['runtime']} cannot load it: no kernel; open it elsewhere")
        return open_engine(path, **how)

    monkeypatch.setattr(form_group, "open_engine", open_others)


def test_a_form_that_a_runtime_does_not_load_is_left_out_there(monkeypatch: pytest.MonkeyPatch) -> None:
    _fail_to_open(monkeypatch, "stacked", "onnxruntime")
    group = _measure()
    assert [row["runtime"] for row in group.rows if row["form"] == "stacked"] == ["openvino"]
    told = "4x8x9: stacked on onnxruntime is left out: onnxruntime cannot load it: no kernel"
    assert told in group.notices


def test_where_the_plain_form_does_not_load_others_have_no_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    _fail_to_open(monkeypatch, PLAIN, "openvino")
    ratios = [row["ratio"] for row in _measure().rows if row["runtime"] == "openvino"]
    assert ratios and set(ratios) == {None}


def test_without_any_plain_form_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    _fail_to_open(monkeypatch, PLAIN)
    with pytest.raises(InputError, match="4x8x9: no runtime runs the plain form"):
        _measure()


def test_there_is_a_group_for_each_case_and_thread_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warp_forms, "MEASURED", {"stacked": FORMS["stacked"]})
    monkeypatch.setattr(warp_forms, "count_cpus", lambda: 3)
    groups = measure_forms(["1x2x3", "2x3x2", "1x2x3"], **(HOW | {"threads": None}))
    taken = [{(row["case"], row["threads"]) for row in group.rows} for group in groups]
    assert taken == [{("1x2x3", 1)}, {("1x2x3", 2)}, {("2x3x2", 1)}, {("2x3x2", 2)}]


@pytest.mark.parametrize("text", ["256", "256x32", "0x8x8", "4x1x8", "4x8xa", "4x8x-8", "4x8x8x8", ""])
def test_what_is_no_case_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="CHANNELSxHEIGHTxWIDTH, for example 256x32x24"):
        parse_case(text, 6)


@pytest.mark.parametrize(("heads", "told"), [(1, "2 or more"), (300, "give fewer")])
def test_heads_that_are_no_warp_with_heads_are_refused(heads: int, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        _measure(heads=heads)


def test_format_forms_has_each_notice_once_and_the_conditions(group: Group) -> None:
    text = format_forms([group, group], NOTE)
    assert text.startswith("- **no**\n\n| case")
    assert "Measured: runs 2, warmup 3, cpu " in text.splitlines()[-1]
    assert text.endswith(f"in turns. {NOTE}\n")
    assert "warmup" not in text.splitlines()[2]
    data = json.loads(format_forms([group, group], NOTE, as_json=True))
    assert [row["form"] for row in data["rows"]] == ["plain", "stacked"] * 2
    assert data["rows"][0]["median ms"] == 1 / 3
    assert data["notices"] == ["no"]
    assert {"cpu", "onnxruntime", "openvino"} <= set(data["conditions"])


def test_write_forms_csv_has_a_row_per_form_with_its_conditions(group: Group, tmp_path: Path) -> None:
    path = write_forms_csv([group], tmp_path / "forms.csv")
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["form"], row["chosen"]) for row in rows] == [("plain", "no"), ("stacked", "yes")]
    assert all(row["cpu"] and row["openvino"] and row["runs"] == "2" for row in rows)
    assert list(tmp_path.iterdir()) == [path]


def test_the_command_measures_the_cases_it_is_given(tmp_path: Path) -> None:
    output = tmp_path / "forms.csv"
    asked = ["--case", "1x2x3", "--case", "2x3x2", "--heads", "2", "--threads", "1", "--runs", "1"]
    result = CliRunner().invoke(app, ["bench", "forms", *asked, "--output", str(output), "--json"])
    assert result.exit_code == 0, result.exception
    rows = json.loads(result.stdout)["rows"]
    assert {(row["case"], row["heads"], row["threads"]) for row in rows} == {("1x2x3", 2, 1), ("2x3x2", 2, 1)}
    assert len(output.read_text().splitlines()) == 1 + len(rows)


def test_the_command_refuses_an_existing_csv_before_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "forms.csv"
    output.write_text("mine")
    monkeypatch.setattr(warp_forms, "measure_forms", lambda *_, **__: pytest.fail("it measured"))
    result = CliRunner().invoke(app, ["bench", "forms", "--output", str(output)])
    assert isinstance(result.exception, OutputError)
    assert output.read_text() == "mine"

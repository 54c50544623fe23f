"""Sensitivity: each convolution alone in int8, shared with the budget search, and what it prints and refuses."""

from __future__ import annotations

import csv
import json
import math
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import ModelProto, numpy_helper
from typer.testing import CliRunner

from vtopt.benchmarks.cost.op_times import OpTimes
from vtopt.benchmarks.reports.files import check_report
from vtopt.optimize import sensitivity as module
from vtopt.optimize.cli import app
from vtopt.optimize.data.synthetic import write_pairs
from vtopt.optimize.errors import InputError, OutputError
from vtopt.optimize.int8 import build
from vtopt.optimize.int8.build import build_int8
from vtopt.optimize.int8.limits import Budget
from vtopt.optimize.int8.mixtures import Mixtures
from vtopt.optimize.int8.request import Int8Request
from vtopt.optimize.quantize import quantize_onnx
from vtopt.optimize.sensitivity import (
    Sensitivity,
    SensitivityRow,
    format_sensitivity,
    match_times,
    measure_sensitivity,
    write_report,
)
from vtopt.optimize.sensitivity_plot import draw_sensitivity

WIDE = 16
GRAPH = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,32,24] person, float[1,3,32,24] clothes) => (float[1,3,32,24] tryon) {
  [first] raw = Conv <pads = [1, 1, 1, 1]> (person, w_first, b_first)
  [relu] features = Relu (raw)
  [deep] deep = Conv <pads = [1, 1, 1, 1]> (features, w_deep)
  [paint] painted = Conv (deep, w_paint, b_paint)
  [add] tryon = Add (painted, clothes)
}"""
PLAIN = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,32,24] person, float[1,3,32,24] clothes) => (float[1,3,32,24] tryon) {
  tryon = Add (person, clothes)
}"""
COMPUTED = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,32,24] person, float[1,3,1,1] clothes) => (float[1,1,32,24] tryon) {
  tryon = Conv (person, clothes)
}"""
NODES = {"first", "deep", "paint"}


def _save(path: Path, text: str = GRAPH, scale: float = 1.0) -> Path:
    rng = np.random.default_rng(0)
    shapes = {"w_first": (WIDE, 3, 3, 3), "w_deep": (WIDE, WIDE, 3, 3), "w_paint": (3, WIDE, 1, 1)}
    shapes |= {"b_first": (WIDE,), "b_paint": (3,)}
    model = onnx.parser.parse_model(text)
    used = {name for node in model.graph.node for name in node.input}
    for name, shape in shapes.items():
        if name in used:
            values = scale * rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
            model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    onnx.save(model, path)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return _save(tmp_path / "model.onnx")


def _measure(source: Path, say: Callable[[str], None] = lambda message: None, *, pair_count: int = 2) -> Sensitivity:
    return measure_sensitivity(source, pair_count=pair_count, calibration_count=2, times=False, say=say)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the mixtures that are run, by the units in int8, whoever opens them."""
    counts: Counter[str] = Counter()

    def open_counted(*arguments: object) -> Mixtures:
        made = opened(*arguments)  # type: ignore[arg-type]

        def compare(place: int, int8: object) -> tuple[float, float | None]:
            counts["+".join(sorted(int8))] += 1  # type: ignore[call-overload]
            return made.compare(place, int8)  # type: ignore[arg-type]

        return replace(made, compare=compare)

    opened = build.open_mixtures
    monkeypatch.setattr(build, "open_mixtures", open_counted)
    monkeypatch.setattr(module, "open_mixtures", open_counted)
    return counts


def test_a_row_says_what_quantising_that_node_alone_does(source: Path, tmp_path: Path) -> None:
    found = _measure(source)
    assert {row.node for row in found.rows} == NODES
    assert [row.psnr_db for row in found.rows] == sorted(row.psnr_db for row in found.rows)
    assert sum(row.error_share or 0 for row in found.rows) == pytest.approx(1)
    assert all(20 < row.psnr_db < 80 and row.psnr_worst_db <= row.psnr_db for row in found.rows)
    assert found.all_int8.psnr_db < min(row.psnr_db for row in found.rows)
    whole = quantize_onnx(source, tmp_path / "int8.onnx", int8=True, calibration_count=2, pair_count=2)
    record = json.loads(onnx_entry(whole))[-1]["figures"]
    assert record["psnr_median_db"] == pytest.approx(found.all_int8.psnr_db, abs=1.5)


def onnx_entry(path: Path) -> str:
    return next(entry.value for entry in onnx.load(path).metadata_props if "history" in entry.key)


def test_size_saved_is_three_bytes_a_weight_less_the_scales(source: Path) -> None:
    saved = {row.node: row.saved_kib * 1024 for row in _measure(source).rows}
    assert saved == {
        "first": 3 * WIDE * 27 - 8 * WIDE,
        "deep": 3 * WIDE * WIDE * 9 - 12 * WIDE,  # it gets a bias
        "paint": 3 * 3 * WIDE - 8 * 3,
    }


def test_a_weight_that_two_nodes_read_is_saved_once(tmp_path: Path) -> None:
    text = GRAPH.replace("  [paint]", "  [again] more = Conv <pads = [1, 1, 1, 1]> (deep, w_deep)\n  [paint]").replace(
        "(deep, w_paint", "(more, w_paint"
    )
    saved = {row.node: row.saved_kib * 1024 for row in _measure(_save(tmp_path / "twice.onnx", text)).rows}
    weights = WIDE * WIDE * 9
    assert saved["deep"] + saved["again"] == 4 * weights - 2 * weights - 2 * 12 * WIDE


def test_a_budget_search_finds_the_ranking_measured(source: Path, runs: Counter[str]) -> None:
    _measure(source)
    assert set(runs) == {*NODES, "+".join(sorted(NODES))}
    assert set(runs.values()) == {2}
    runs.clear()
    request = Int8Request(calibration_count=2, pair_count=2, budget=Budget(min_psnr=90))
    build_int8(source, onnx.load(source), request)
    assert runs
    assert not runs.keys() & {*NODES, "+".join(sorted(NODES))}


def test_a_search_of_other_counts_does_not(source: Path, runs: Counter[str]) -> None:
    _measure(source, pair_count=3)
    runs.clear()
    build_int8(source, onnx.load(source), Int8Request(calibration_count=2, pair_count=2, budget=Budget(min_psnr=90)))
    assert runs.keys() >= NODES


def test_interrupted_it_goes_on_and_says_so(source: Path, runs: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    opened = module.open_mixtures

    def open_stopping(*arguments: object) -> Mixtures:
        made = opened(*arguments)  # type: ignore[arg-type]

        def compare(place: int, int8: object) -> tuple[float, float | None]:
            if "paint" in int8 and place == 1:  # type: ignore[operator]
                raise KeyboardInterrupt
            return made.compare(place, int8)  # type: ignore[arg-type]

        return replace(made, compare=compare)

    said: list[str] = []
    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        stopping.setattr(module, "open_mixtures", open_stopping)
        _measure(source, said.append)
    assert said == []
    runs.clear()
    found = _measure(source, said.append)
    assert said == ["2 of 3 measured before"]
    assert runs == {"paint": 1, "deep+first+paint": 2}
    assert found == _measure(source)


def _make_times(**nodes: tuple[str, float]) -> OpTimes:
    times = {name: ms for name, (_, ms) in nodes.items()}
    return OpTimes(sum(times.values()), {}, times, {name: op for name, (op, _) in nodes.items()}, 1, 0, 1)


def _parse() -> ModelProto:
    return onnx.parser.parse_model(GRAPH)


def test_times_are_matched_by_node_and_by_what_a_fused_node_makes() -> None:
    times = _make_times(
        features_nchwc=("Conv", 1.0), deep_token_12=("QLinearConv", 2.0), tryon_nchwc=("Conv", 3.0), add=("Add", 9.0)
    )
    assert match_times(times, _parse()) == {"first": 1.0, "deep": 2.0, "paint": 3.0}


def test_a_time_that_may_be_of_two_nodes_is_of_none() -> None:
    text = GRAPH.replace("clothes)\n}", "raw)\n}").replace(
        "[relu] features = Relu (raw)", "[relu] features = Relu (person)"
    )
    text = text.replace("w_deep", "w_other")
    model = onnx.parser.parse_model(text)
    assert match_times(_make_times(tryon_nchwc=("Conv", 3.0)), model) == {}
    both = _make_times(tryon_nchwc=("Conv", 3.0), raw_nchwc=("Conv", 1.0))
    assert match_times(both, model) == {"first": 1.0, "paint": 3.0}


def test_every_convolution_of_a_network_has_a_time(small_onnx: Path) -> None:
    found = measure_sensitivity(small_onnx, pair_count=1, calibration_count=1, ranges="minmax")
    assert all(row.saved_ms is not None and math.isfinite(row.saved_ms) for row in found.rows)
    assert found.all_int8.saved_ms == pytest.approx(
        found.conditions["float_ms"] - found.conditions["int8_ms"], abs=0.01
    )
    assert "not counted" in found.conditions["time"]
    assert all(row.flow_px is not None for row in found.rows)


def _make_rows(count: int) -> Sensitivity:
    rows = [SensitivityRow(f"node_{n}<&>", 30.0 + n / 2, 29.0, n / 100, 1 / count, 1.0, None) for n in range(count)]
    return Sensitivity(rows, SensitivityRow("all in int8", 25.0, 24.0, 0.5, None, 9.0, 1.0), {"model": "a/b.onnx"})


def test_the_picture_has_a_bar_for_each_node_and_says_what_it_leaves_out() -> None:
    tree = ET.fromstring(draw_sensitivity(_make_rows(61)))
    bars = tree.findall("{*}rect[@class='bar']")
    lengths = [float(bar.attrib["width"]) for bar in bars]
    assert len(bars) == 60
    assert lengths == sorted(lengths) and lengths[0] > 0
    text = " ".join(tree.itertext())
    assert "the worst 60 of 61" in text and "dB" in text and "node_0<&>" in text and "0.010" in text
    assert "prefers-color-scheme: dark" in text
    assert "all 3 convolutions" in " ".join(ET.fromstring(draw_sensitivity(_make_rows(3))).itertext())


def test_nan_and_equal_pictures_are_drawn_and_written(tmp_path: Path) -> None:
    rows = [
        SensitivityRow("broken", -math.inf, -math.inf, None, None, 1.0, None),
        SensitivityRow("same", math.inf, math.inf, None, 0.0, 1.0, None),
    ]
    found = Sensitivity(rows, replace(rows[0], node="all in int8"), {"model": "m.onnx"})
    words = list(ET.fromstring(draw_sensitivity(found)).itertext())
    assert "NaN" in words and "equal" in words
    kept = json.loads(write_report(found, tmp_path / "a.json").read_text())
    assert [row["psnr_db"] for row in kept["nodes"]] == ["-inf", "inf"]
    assert "broken" in format_sensitivity(found)


def test_the_command_prints_the_table_and_writes_what_is_asked(source: Path, tmp_path: Path) -> None:
    arguments = ["sensitivity", str(source), "--calibration-count", "2", "--output", str(tmp_path / "s.csv")]
    result = CliRunner().invoke(app, [*arguments, "--plot", str(tmp_path / "s.svg")])
    assert result.exit_code == 0, result.output
    table = [line for line in result.stdout.splitlines() if line.startswith("|")]
    assert table[-1].startswith("| all in int8")
    assert len(table) == len(NODES) + 3
    assert "#" * 20 in table[2]
    with (tmp_path / "s.csv").open() as stream:
        kept = list(csv.DictReader(stream))
    assert {row["node"] for row in kept} == {*NODES, "all in int8"}
    assert float(kept[0]["psnr_db"]) <= float(kept[1]["psnr_db"])
    assert (tmp_path / "s.svg").read_text().startswith("<svg")
    again = CliRunner().invoke(app, [*arguments, "--json", "--force"])
    assert {row["node"] for row in json.loads(again.stdout)["nodes"]} == NODES
    assert "3 of 3 measured before" in again.stderr


@pytest.mark.parametrize(("option", "name"), [("--output", "s.csv"), ("--plot", "s.svg")])
def test_a_file_that_exists_is_refused_before_the_work(
    option: str, name: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: object, **__: object) -> None:
        raise AssertionError

    (tmp_path / name).write_text("mine")
    monkeypatch.setattr(module, "measure_sensitivity", measure)
    result = CliRunner().invoke(app, ["sensitivity", str(source), option, str(tmp_path / name)])
    assert isinstance(result.exception, OutputError)
    assert "--force" in str(result.exception)
    assert (tmp_path / name).read_text() == "mine"


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.csv or \.json"):
        check_report(tmp_path / "s.txt", (".csv", ".json"))
    with pytest.raises(OutputError, match="there is no folder"):
        check_report(tmp_path / "none" / "s.svg", (".svg",))


def test_models_with_nothing_to_measure_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no convolutions.*nothing to measure"):
        _measure(_save(tmp_path / "plain.onnx", PLAIN))
    int8 = quantize_onnx(source, tmp_path / "int8.onnx", int8=True, calibration_count=1, pair_count=1)
    with pytest.raises(InputError, match="is int8 already"):
        _measure(int8)
    half = quantize_onnx(source, tmp_path / "half.onnx", fp16=True, pair_count=1)
    with pytest.raises(InputError, match="is float16 already"):
        _measure(half)


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="NaN"):
        _measure(_save(tmp_path / "nan.onnx", scale=math.nan))


def test_nan_in_the_picture_only_is_refused(tmp_path: Path) -> None:
    text = GRAPH.replace(
        "[add] tryon = Add (painted, clothes)",
        "[zero] none = Sub (clothes, clothes)\n  [divide] nans = Div (none, none)\n  [add] tryon = Add (painted, nans)",
    )
    with pytest.raises(InputError, match="NaN"):
        _measure(_save(tmp_path / "nan.onnx", text))


def test_an_empty_folder_of_pairs_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    with pytest.raises(InputError, match="pairs"):
        measure_sensitivity(source, pairs=tmp_path / "pairs", times=False)


def test_pairs_compared_on_are_not_calibrated_on(source: Path, tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "pairs", 3, seed=0, size=(32, 24))
    found = measure_sensitivity(source, pairs=folder, pair_count=2, calibration_count=2, times=False)
    assert (found.conditions["compared_on_pairs"], found.conditions["calibrated_on_pairs"]) == (2, 1)
    assert any("leaves 1 of 2" in notice for notice in found.notices)

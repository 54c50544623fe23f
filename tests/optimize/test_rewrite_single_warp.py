"""The step on models that are one warp and no network: inputs that are no pictures, sizes that vary, constants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import ModelProto, numpy_helper

from vtopt.optimize.provenance import read_history
from vtopt.optimize.rewrite import rewrite_onnx

Arrays = dict[str, np.ndarray]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out" / "fast.onnx"


def _save(model: ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


ONE_HEAD = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,4,H,W] x, float[1,9,7,2] flow) => (float[1,4,9,7] y) {
  [warp] y = GridSample <padding_mode = "border"> (x, flow)
}"""


def test_a_model_whose_inputs_are_no_pictures_is_compared_on_noise(tmp_path: Path, output: Path) -> None:
    text = ONE_HEAD.replace("H,W", "16,12")
    source = _save(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    rewrite_onnx(source, output, pair_count=1)
    (record,) = read_history(output)
    assert record.figures["places_padding"] == 1
    assert record.figures["max_relative"] <= 1e-5
    assert "pairs" not in record.figures
    assert "on noise" in record.notices[0]


def test_a_size_that_varies_is_not_taken_for_the_one_it_was_proved_at(tmp_path: Path, output: Path) -> None:
    """One place cannot be proved, so the other is proved a second time: what was drawn first must be forgotten."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[1,3,H,W] person, float[1,3,H,W] clothes) => (float[1,3,H,W] tryon)
      <int64[2] parts = {2, 1}, int64 none = {0}, int64 one = {1}> {
      [bend] bent = Tanh (person)
      [part] flow, rest = Split <axis = 1> (bent, parts)
      [turn] grid = Transpose <perm = [0, 2, 3, 1]> (flow)
      [fast] near = GridSample <padding_mode = "border"> (clothes, grid)
      [sizes] size = Shape (grid)
      [high] height = Gather <axis = 0> (size, one)
      [count] rows = Range (none, height, one)
      [pick] picked = Gather <axis = 1> (grid, rows)
      [own] free = Reshape (picked, size)
      [odd] far = GridSample <padding_mode = "border"> (clothes, free)
      [both] tryon = Add (near, far)
    }"""
    source = _save(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    rewrite_onnx(source, output, only=["padding"], pair_count=1)
    rng = np.random.default_rng(0)
    for height, width in ((64, 48), (9, 21)):
        feeds = {name: rng.normal(size=(1, 3, height, width)).astype(np.float32) * 3 for name in ("person", "clothes")}
        expected, made = (_run(path, feeds) for path in (source, output))
        assert np.abs(expected - made).max() <= 1e-5 * np.abs(expected).max()


def _run(path: Path, feeds: Arrays) -> np.ndarray:
    import onnxruntime as ort

    return ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feeds)[0]  # type: ignore[return-value]


def test_height_and_width_that_vary_are_not_confused(tmp_path: Path, output: Path) -> None:
    source = _save(onnx.parser.parse_model(ONE_HEAD), tmp_path / "net.onnx")
    rewrite_onnx(source, output, pair_count=1)
    rng = np.random.default_rng(0)
    feeds = {"x": rng.normal(size=(1, 4, 5, 30)), "flow": rng.uniform(-2, 2, (1, 9, 7, 2))}
    feeds = {name: array.astype(np.float32) for name, array in feeds.items()}
    expected, made = (_run(path, feeds) for path in (source, output))
    assert np.abs(expected - made).max() <= 1e-5 * np.abs(expected).max()


def test_the_proof_sees_axes_that_are_swapped(tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vtopt.optimize.rewrites.editing import Editor

    add = Editor.add

    def swap(self: Editor, op: str, *inputs: Any, **attributes: Any) -> Any:
        flipped = [
            value[::-1].copy() if isinstance(value, np.ndarray) and op == "Gather" else value for value in inputs
        ]
        return add(self, op, *flipped, **attributes)

    monkeypatch.setattr(Editor, "add", swap)
    source = _save(onnx.parser.parse_model(ONE_HEAD), tmp_path / "net.onnx")
    rewrite_onnx(source, output, pair_count=1)
    (record,) = read_history(output)
    assert record.figures["places_padding"] == 0
    assert any("warp: would differ by" in notice for notice in record.notices)


@pytest.mark.parametrize("constant", ["float[1,4,16,12] x", "float[1,9,7,2] flow"])
def test_a_constant_that_is_sampled_or_says_where_is_no_obstacle(constant: str, tmp_path: Path, output: Path) -> None:
    text = ONE_HEAD.replace("H,W", "16,12")
    model = onnx.parser.parse_model(text)
    name = constant.split()[-1]
    (given,) = [value for value in model.graph.input if value.name == name]
    shape = [side.dim_value for side in given.type.tensor_type.shape.dim]
    model.graph.input.remove(given)
    values = np.random.default_rng(0).uniform(-2, 2, shape).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(values, name))
    rewrite_onnx(_save(model, tmp_path / "net.onnx"), output, pair_count=1)
    assert read_history(output)[-1].figures["places_padding"] == 1

"""Simplifying: fewer nodes and the same pictures, or the input as it was."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxsim
import pytest
from onnx import ModelProto, numpy_helper

from vtopt.optimize.errors import InputError, OutputError
from vtopt.optimize.provenance import read_history
from vtopt.optimize.simplify import MAX_RELATIVE_DIFFERENCE, simplify_onnx

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,32,24] person, float[1,3,32,24] clothes) => (float[1,3,32,24] tryon)
  <float a = {2.0}, float b = {3.0}> {
  unused = Tanh (clothes)
  same = Identity (person)
  folded = Mul (a, b)
  scaled = Div (same, folded)
  tryon = Add (scaled, clothes)
}"""
LEFT = ["Div", "Add"]
"""What is left of those five nodes: dead, identity and constant ones go."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(onnx.parser.parse_model(TEXT), path)
    return path


def _list_ops(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def test_simplify(source: Path, tmp_path: Path) -> None:
    output = simplify_onnx(source, tmp_path / "out.onnx", pair_count=1)
    assert _list_ops(output) == LEFT
    (record,) = read_history(output)
    assert list(record.notices) == []
    assert (record.figures["nodes_before"], record.figures["nodes"]) == (5, len(LEFT))
    assert record.figures["max_relative"] <= MAX_RELATIVE_DIFFERENCE


def test_simplify_leaves_a_simple_model_alone(source: Path, tmp_path: Path) -> None:
    once = simplify_onnx(source, tmp_path / "once.onnx", pair_count=1)
    twice = simplify_onnx(once, tmp_path / "twice.onnx", pair_count=1)
    assert onnx.load(twice).graph == onnx.load(once).graph
    assert [record.parent for record in read_history(twice)] == ["net.onnx", "once.onnx"]


def test_a_model_that_cannot_be_simplified_is_no_fault(tmp_path: Path) -> None:
    source = tmp_path / "net.onnx"
    text = TEXT[: TEXT.index("<float a")] + "{ [add] tryon = Add (person, clothes) }"
    onnx.save(onnx.parser.parse_model(text), source)
    (record,) = read_history(simplify_onnx(source, tmp_path / "out.onnx", pair_count=1))
    assert list(record.notices) == []
    assert record.figures["nodes"] == record.figures["nodes_before"] == 1


def test_the_same_model_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    one, two = (simplify_onnx(source, tmp_path / name, pair_count=1) for name in ("one.onnx", "two.onnx"))
    assert one.read_bytes() == two.read_bytes()


def test_an_export_becomes_smaller(small_onnx: Path, tmp_path: Path) -> None:
    output = simplify_onnx(small_onnx, tmp_path / "out.onnx", pair_count=1)
    assert len(_list_ops(output)) < len(_list_ops(small_onnx))
    assert list(read_history(output)[-1].notices) == []


def _grow(model: ModelProto) -> tuple[ModelProto, bool]:
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1000, np.float32), "ballast"))
    return model, True


def _shift(model: ModelProto) -> tuple[ModelProto, bool]:
    model.graph.initializer[0].float_data[0] *= 1 + 1e-3
    return model, True


def _break(model: ModelProto) -> tuple[ModelProto, bool]:
    model.graph.node[0].op_type = "Rulu"
    return model, True


def _spoil(model: ModelProto) -> tuple[ModelProto, bool]:
    model.graph.initializer[0].float_data[0] = float("nan")
    return model, True


def _rename(model: ModelProto) -> tuple[ModelProto, bool]:
    model.graph.input[1].name = model.graph.node[0].input[0] = model.graph.node[4].input[1] = "ghost"
    return model, True


def _doubt(model: ModelProto) -> tuple[ModelProto, bool]:
    return model, False


def _crash(model: ModelProto) -> tuple[ModelProto, bool]:
    raise RuntimeError("[ShapeInferenceError] of C++\nand a stack")


@pytest.mark.parametrize(
    ("fault", "notice"),
    [
        pytest.param(_grow, r"onnxsim made the file larger \(\d+ from \d+ bytes\)", id="larger"),
        pytest.param(_shift, r"onnxsim changed the pictures by .* of their largest value", id="other pictures"),
        pytest.param(_spoil, r"onnxsim changed the pictures by inf of their largest value", id="NaN"),
        pytest.param(_break, r"onnxsim made an invalid model \(No Op registered for Rulu.*\)", id="invalid"),
        pytest.param(_rename, r".*input 'ghost'", id="does not run"),
        pytest.param(_doubt, r"onnxsim's own check failed", id="not valid by its own check"),
        pytest.param(_crash, r"onnxsim failed \(\[ShapeInferenceError\] of C\+\+\)", id="crashed"),
    ],
)
def test_the_input_is_kept_where_simplifying_does_not_help(
    fault: Callable[[ModelProto], Any], notice: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def simplify(model: ModelProto) -> Any:
        copy = ModelProto()
        copy.CopyFrom(model)
        return fault(copy)

    monkeypatch.setattr(onnxsim, "simplify", simplify)
    output = simplify_onnx(source, tmp_path / "out.onnx", pair_count=1)
    before, after = onnx.load(source).graph, onnx.load(output).graph
    assert list(after.node) == list(before.node)
    assert list(after.initializer) == list(before.initializer)
    (record,) = read_history(output)
    (said,) = record.notices
    assert said.endswith(": the input was kept as it is")
    assert re.match(notice, said)
    assert (record.figures["nodes"], record.figures["max_abs"]) == (5, 0)


def test_weights_in_a_file_of_their_own_count_as_size(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(TEXT)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    source = tmp_path / "net.onnx"
    onnx.save(model, source, save_as_external_data=True, location="net.bin", size_threshold=0)
    output = simplify_onnx(source, tmp_path / "out.onnx", pair_count=1)
    assert list(read_history(output)[-1].notices) == []
    assert _list_ops(output) == LEFT


def test_inputs_that_no_picture_is_known_for_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "net.onnx"
    text = TEXT.replace("person", "noise").replace("clothes", "latent")
    text = text.replace("float[1,3,32,24] latent", "float[1,3,32,24] latent, float[1] seed")
    onnx.save(onnx.parser.parse_model(text), source)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match="no picture is known for input 'noise', 'latent', 'seed'"):
        simplify_onnx(source, tmp_path / "out.onnx", pair_count=1)
    assert sorted(tmp_path.iterdir()) == before


def test_an_existing_output_is_untouched(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.onnx"
    output.write_bytes(b"precious")
    with pytest.raises(OutputError):
        simplify_onnx(source, output)
    assert output.read_bytes() == b"precious"

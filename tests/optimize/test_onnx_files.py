"""ONNX files: what is damaged is named, and what is written is the same every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import ModelProto, helper, numpy_helper

from vtopt.optimize.errors import InputError
from vtopt.optimize.onnx_files import check_onnx, load_onnx, save_onnx

SECRET = "/home/user/secret.py"
TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,16,12] person, bool flag) => (float[1,3,16,12] tryon) {
  warm = Add (person, w)
  tryon = If (flag) <
    then_branch = a () => (float[1,3,16,12] x) { x = Relu (warm) },
    else_branch = b () => (float[1,3,16,12] y) { y = Tanh (warm) }
  >
}"""


def _make_model() -> ModelProto:
    model = onnx.parser.parse_model(TEXT)
    values = np.arange(3 * 16 * 12, dtype=np.float32).reshape(3, 16, 12)
    model.graph.initializer.append(numpy_helper.from_array(values, "w"))
    return model


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(_make_model(), path)
    return path


def test_a_sound_file_loads(source: Path) -> None:
    assert load_onnx(source) == _make_model()


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_refused(source: Path, part: float) -> None:
    content = source.read_bytes()
    source.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(InputError, match=r"net\.onnx: (is empty|not a (readable|valid) ONNX model)"):
        load_onnx(source)


def test_text_that_is_no_onnx_is_refused(source: Path) -> None:
    source.write_text("this is a text\n" * 9)
    with pytest.raises(InputError, match=r"net\.onnx: not a (readable|valid) ONNX model"):
        load_onnx(source)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(lambda node: setattr(node, "op_type", "Rulu"), "No Op registered for Rulu", id="operator"),
        pytest.param(lambda node: node.input.__setitem__(0, "x"), "topologically sorted", id="input"),
    ],
)
def test_a_model_that_does_not_check_is_refused(source: Path, change: object, reason: str) -> None:
    model = _make_model()
    assert callable(change)
    change(model.graph.node[0])
    onnx.save(model, source)
    with pytest.raises(InputError, match=rf"net\.onnx: not a valid ONNX model: .*{reason}"):
        load_onnx(source)


def test_a_shape_that_cannot_be_is_found_by_the_full_check_only(source: Path) -> None:
    model = _make_model()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros((5, 7), np.float32), "w"))
    onnx.save(model, source)
    check_onnx(source)
    with pytest.raises(InputError, match="not a valid ONNX model"):
        check_onnx(source, full=True)


def test_a_model_without_nodes_is_refused(source: Path) -> None:
    graph = helper.make_graph([], "g", [helper.make_tensor_value_info("x", 1, [1])], [])
    onnx.save(helper.make_model(graph), source)
    with pytest.raises(InputError, match=r"net\.onnx: .*(no nodes|not a valid)"):
        load_onnx(source)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "net.safetensors"
    other.write_bytes(b"12345678{}")
    with pytest.raises(InputError, match=r"net\.safetensors: is no ONNX model; make one with vtopt export"):
        load_onnx(other)


def test_weights_in_a_file_of_their_own_are_read_and_saved_inside(tmp_path: Path) -> None:
    source = tmp_path / "net.onnx"
    onnx.save(_make_model(), source, save_as_external_data=True, location="net.bin", size_threshold=0)
    model = load_onnx(source)
    (tmp_path / "net.bin").unlink()
    save_onnx(model, tmp_path / "whole.onnx", {})
    loaded = load_onnx(tmp_path / "whole.onnx")
    expected = numpy_helper.to_array(_make_model().graph.initializer[0])
    np.testing.assert_array_equal(numpy_helper.to_array(loaded.graph.initializer[0]), expected)


@pytest.mark.parametrize("left", [None, b"short"])
def test_weights_that_are_missing_or_cut_short_are_named(tmp_path: Path, left: bytes | None) -> None:
    source, weights = tmp_path / "net.onnx", tmp_path / "net.bin"
    onnx.save(_make_model(), source, save_as_external_data=True, location="net.bin", size_threshold=0)
    weights.unlink()
    if left:
        weights.write_bytes(left)
    with pytest.raises(InputError, match=r"net\.onnx: not a valid ONNX model: .*"):
        load_onnx(source)


def test_nothing_of_other_tools_is_saved(tmp_path: Path) -> None:
    model = _make_model()
    branch = model.graph.node[1].attribute[0].g.node[0]
    for entry in (model, model.graph, *model.graph.node, *model.graph.input, branch):
        entry.doc_string = SECRET
        if not hasattr(entry, "metadata_props"):
            continue
        prop = entry.metadata_props.add()
        prop.key, prop.value = "stack", SECRET
    save_onnx(model, tmp_path / "net.onnx", {"vtopt.network": "own"})
    content = (tmp_path / "net.onnx").read_bytes()
    assert SECRET.encode() not in content
    assert [(entry.key, entry.value) for entry in onnx.load_from_string(content).metadata_props] == [
        ("vtopt.network", "own")
    ]


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    entries = {"vtopt.b": "2", "vtopt.a": "1"}
    save_onnx(_make_model(), tmp_path / "one.onnx", entries)
    save_onnx(_make_model(), tmp_path / "two.onnx", dict(reversed(entries.items())))
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()

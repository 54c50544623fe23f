"""Changing a graph: names stay one each, what reads a value reads the new one, what is unread is gone."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import ModelProto

from vtopt.optimize.rewrites.editing import Editor

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N,3] x, bool flag) => (float[N,3] y, float[N,3] z, float[3] kept)
  <float[3] ones = {1, 1, 1}, float[3] kept = {1, 1, 1}, float[3] twos = {2, 2, 2}> {
  [first] a = Add (x, ones)
  [unread] dead = Neg (a)
  [second] b = Mul (a, twos)
  [third] y = Relu (b)
  [branch] z = If (flag) <
    then_branch = t () => (float[N,3] p) { [inner] p = Abs (b) },
    else_branch = e () => (float[N,3] q) { [other] q = Identity (x) }>
}"""


@pytest.fixture
def model() -> ModelProto:
    model = onnx.parser.parse_model(TEXT)
    onnx.checker.check_model(model)
    return model


def _run(model: ModelProto, flag: bool = True) -> dict[str, np.ndarray]:
    import onnxruntime as ort

    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.arange(6, dtype=np.float32).reshape(2, 3) - 3
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": x, "flag": np.array(flag)}), strict=True))


def test_what_nothing_changes_makes_the_same(model: ModelProto) -> None:
    before = model.SerializeToString()
    made = Editor(model).finish()
    assert model.SerializeToString() == before
    for flag in (False, True):
        for name, values in _run(model, flag).items():
            np.testing.assert_array_equal(_run(made, flag)[name], values)


def test_what_is_not_read_is_gone(model: ModelProto) -> None:
    assert [node.name for node in Editor(model).finish().graph.node] == ["first", "second", "third", "branch"]


def test_everything_that_reads_a_value_reads_the_new_one_in_branches_too(model: ModelProto) -> None:
    editor = Editor(model)
    editor.prefix = "second"
    made = editor.add("Sub", editor.find("a"), np.full(3, 5, np.float32))
    editor.replace(editor.find("b"), made)
    assert editor.find("b") is made
    changed = editor.finish()
    assert "second" not in [node.name for node in changed.graph.node]
    x = np.arange(6, dtype=np.float32).reshape(2, 3) - 3
    values = _run(changed)
    np.testing.assert_array_equal(values["y"], np.maximum(x + 1 - 5, 0))
    np.testing.assert_array_equal(values["z"], np.abs(x + 1 - 5))


def test_an_output_that_is_replaced_keeps_its_name(model: ModelProto) -> None:
    editor = Editor(model)
    editor.replace(editor.find("y"), editor.add("Neg", editor.find("b")))
    changed = editor.finish()
    assert [value.name for value in changed.graph.output] == ["y", "z", "kept"]
    x = np.arange(6, dtype=np.float32).reshape(2, 3) - 3
    np.testing.assert_array_equal(_run(changed)["y"], -(x + 1) * 2)


def test_names_are_given_once_even_to_what_lies_in_branches(model: ModelProto) -> None:
    model.graph.node[0].name = "warp/Neg"
    editor = Editor(model)
    editor.prefix = "warp"
    names = [editor.add("Neg", editor.find("a")).producer().name for _ in range(2)]  # type: ignore[union-attr]
    assert len({*names, "warp/Neg"}) == 3


def test_equal_constants_are_kept_once(model: ModelProto) -> None:
    editor = Editor(model)
    total = editor.find("b")
    for _ in range(3):
        total = editor.add("Add", total, np.full(3, 7, np.float32))
    editor.replace(editor.find("y"), total)
    changed = editor.finish()
    sevens = [t for t in changed.graph.initializer if (onnx.numpy_helper.to_array(t) == 7).all()]
    assert len(sevens) == 1
    x = np.arange(6, dtype=np.float32).reshape(2, 3) - 3
    np.testing.assert_array_equal(_run(changed)["y"], (x + 1) * 2 + 21)


def test_a_constant_that_is_an_output_stays_one(model: ModelProto) -> None:
    changed = Editor(model).finish()
    np.testing.assert_array_equal(_run(changed)["kept"], np.ones(3))


def test_outputs_of_one_node_are_told_apart(model: ModelProto) -> None:
    editor = Editor(model)
    parts = editor.add_outputs("Split", 3, editor.find("b"), np.ones(3, np.int64), axis=1)
    assert len({part.name for part in parts}) == 3
    editor.replace(editor.find("y"), editor.add("Concat", *reversed(parts), axis=1))
    x = np.arange(6, dtype=np.float32).reshape(2, 3) - 3
    np.testing.assert_array_equal(_run(editor.finish())["y"], ((x + 1) * 2)[:, ::-1])


def test_what_is_not_there_is_a_key_error(model: ModelProto) -> None:
    editor = Editor(model)
    with pytest.raises(KeyError):
        editor.find("nothing")
    with pytest.raises(KeyError):
        editor.find_node("nothing")

"""Which convolutions are units, and which activation goes with each."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from onnx import ModelProto, numpy_helper

from vtopt.optimize.int8.units import Unit, find_units, list_tensors


def _parse(body: str, outputs: str = "float[1,4,8,8] y", constants: tuple[str, ...] = ("w", "v")) -> ModelProto:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g (float[1,4,8,8] x, bool c) => ({outputs}) {{ {body} }}"""
    model = onnx.parser.parse_model(text)
    for name in constants:
        model.graph.initializer.append(numpy_helper.from_array(np.zeros((4, 4, 1, 1), np.float32), name))
    return model


def test_a_relu_goes_with_its_convolution() -> None:
    model = _parse("[a] t = Conv (x, w) [r] u = Relu (t) [b] y = Conv (u, v)")
    assert find_units(model, ()) == [Unit("a", "x", "w", "", "u"), Unit("b", "u", "v", "", "y")]
    assert list_tensors(find_units(model, ())) == ["x", "u", "y"]


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        pytest.param("[a] t = Conv (x, w) [r] y = Relu (t) [s] z = Sigmoid (t)", "float[1,4,8,8] y", id="two readers"),
        pytest.param("[a] t = Conv (x, w) [r] y = Relu (t)", "float[1,4,8,8] y, float[1,4,8,8] t", id="an output"),
        pytest.param("[a] t = Conv (x, w) [r] y = Sigmoid (t)", "float[1,4,8,8] y", id="no Relu"),
        pytest.param(
            "[a] t = Conv (x, w) [r] u = Relu (t) "
            "[i] y = If (c) <then_branch = p () => (float[1,4,8,8] q) { q = Identity (t) }, "
            "else_branch = n () => (float[1,4,8,8] m) { m = Identity (u) }>",
            "float[1,4,8,8] y",
            id="read in a body",
        ),
    ],
)
def test_what_else_reads_the_convolution_keeps_the_relu_apart(body: str, outputs: str) -> None:
    assert [unit.output for unit in find_units(_parse(body, outputs), ())] == ["t"]


def test_protected_ones_and_those_of_no_constant_weights_are_left_out() -> None:
    model = _parse("[a] t = Conv (x, w) [b] u = Conv (t, v) [n] k = Neg (w) [d] y = Conv (u, k)")
    assert [unit.name for unit in find_units(model, ("a",))] == ["b"]


def test_a_weight_that_is_an_input_too_is_no_constant() -> None:
    model = _parse("[a] y = Conv (x, w)")
    model.graph.input.append(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [4, 4, 1, 1]))
    assert find_units(model, ()) == []


def test_a_bias_is_named() -> None:
    model = _parse("[a] y = Conv (x, w, b)", constants=("w", "b"))
    assert [unit.bias for unit in find_units(model, ())] == ["b"]
    assert find_units(_parse("[a] y = Conv (x, w, k) [n] k = Neg (w)"), ()) == []

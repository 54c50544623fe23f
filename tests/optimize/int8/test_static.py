"""Int8: convolutions of features in 8 bits, and nothing that makes a grid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from vtopt.optimize.cpu_target import TARGETS
from vtopt.optimize.int8 import Int8Settings
from vtopt.optimize.int8.dynamic import quantize_dynamic
from vtopt.optimize.int8.static import quantize_static

WIDE = 32

WARP = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,32,24] person, float[1,3,32,24] clothes) => (float[1,3,32,24] tryon) {
  [feature] raw = Conv <pads = [1, 1, 1, 1]> (clothes, w_feature, b_wide)
  [relu] features = Relu (raw)
  [again] other = Conv <pads = [1, 1, 1, 1]> (person, w_feature, b_wide)
  [deep] deep = Conv <pads = [1, 1, 1, 1]> (features, w_deep, b_wide)
  [head] flow = Conv <pads = [1, 1, 1, 1]> (features, w_head, b_two)
  [tanh] bounded = Tanh (flow)
  [turn] grid = Transpose <perm = [0, 2, 3, 1]> (bounded)
  [warp] warped = GridSample <padding_mode = "border"> (features, grid)
  [both] both = Concat <axis = 1> (warped, deep, bounded)
  [paint] painted = Conv (both, w_paint, b_three)
  [last] last = Conv (other, w_last, b_three)
  [add] tryon = Add (painted, last)
}"""
FEATURE_CONVOLUTIONS = {"feature", "again", "deep", "paint", "last"}

PLAIN = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,32,24] person, float[1,3,32,24] clothes) => (float[1,3,32,24] tryon) {
  tryon = Add (person, clothes)
}"""


def _make_model(text: str = WARP) -> ModelProto:
    rng = np.random.default_rng(0)
    shapes = {
        "w_feature": (WIDE, 3, 3, 3),
        "w_deep": (WIDE, WIDE, 3, 3),
        "w_head": (2, WIDE, 3, 3),
        "w_paint": (3, 2 * WIDE + 2, 1, 1),
        "w_last": (3, WIDE, 1, 1),
    }
    constants = {
        name: rng.normal(size=shape) / np.sqrt(np.prod(shape[1:])) / (50 if name == "w_head" else 1)
        for name, shape in shapes.items()
    }
    constants |= {"b_wide": rng.normal(size=WIDE) / 10, "b_two": np.zeros(2), "b_three": np.zeros(3)}
    model = onnx.parser.parse_model(text)
    used = {name for node in model.graph.node for name in node.input}
    for name, values in constants.items():
        if name in used:
            model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    onnx.checker.check_model(model, full_check=True)
    return model


def _make_feeds(count: int = 3) -> Iterator[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    for _ in range(count):
        yield {name: rng.uniform(-1, 1, (1, 3, 32, 24)).astype(np.float32) for name in ("person", "clothes")}


def _run(model: ModelProto) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    made: Any = session.run(None, next(_make_feeds(1)))[0]
    return made


def _measure_psnr(made: np.ndarray, expected: np.ndarray) -> float:
    return 10 * np.log10(2**2 / np.mean((made.astype(np.float64) - expected) ** 2))


def _name(model: ModelProto) -> dict[str, NodeProto]:
    return {node.name: node for node in model.graph.node}


def _get_weight(model: ModelProto, node: str) -> TensorProto:
    """Return the stored weight of a convolution, behind DequantizeLinear or as it is."""
    makers = {output: node for node in model.graph.node for output in node.output}
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    name = _name(model)[node].input[1]
    return tensors[makers[name].input[0] if name in makers else name]


@pytest.mark.parametrize("target", TARGETS)
def test_convolutions_of_features_are_int8_and_heads_are_not(target: str) -> None:
    model = quantize_static(_make_model(), _make_feeds(), Int8Settings(TARGETS[target]))
    stored = {name: _get_weight(model, name).data_type for name, node in _name(model).items() if node.op_type == "Conv"}
    assert stored == dict.fromkeys(FEATURE_CONVOLUTIONS, TensorProto.INT8) | {"head": TensorProto.FLOAT}


def test_every_quantised_tensor_goes_into_or_comes_out_of_a_convolution() -> None:
    model = quantize_static(_make_model(), _make_feeds(), Int8Settings(TARGETS["avx2"]))
    makers = {output: node.op_type for node in model.graph.node for output in node.output}
    pairs = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    read = {node.input[0] for node in model.graph.node if node.op_type == "Conv"}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            assert makers.get(node.input[0]) == "Conv" or pairs[node.output[0]] in read


def test_what_makes_a_grid_reads_float_where_a_convolution_reads_the_same_in_int8() -> None:
    text = WARP.replace("features = Relu (raw)", "features = Sigmoid (raw)")
    nodes = _name(quantize_static(_make_model(text), _make_feeds(), Int8Settings(TARGETS["avx2"])))
    # "features" is read by the head, the warp, and in 8 bits by the deep convolution.
    assert nodes["head"].input[0] == nodes["warp"].input[0] == nodes["relu"].output[0] == "features"
    assert nodes["deep"].input[0] != "features"


def test_what_a_quantised_convolution_makes_is_read_rounded_by_all() -> None:
    """A head straight after a convolution reads its Q/DQ: with a float reader the two could not fuse."""
    text = WARP.replace("(features, w_head, b_two)", "(deep, w_head, b_two)")
    model = quantize_static(_make_model(text), _make_feeds(), Int8Settings(TARGETS["avx2"]))
    makers = {name: node for node in model.graph.node for name in node.output}
    assert makers[_name(model)["head"].input[0]].op_type == "DequantizeLinear"
    assert _name(model)["deep"].output[0] not in _name(model)["head"].input


def test_a_relu_is_quantised_with_its_convolution() -> None:
    """Between the two there is no Q/DQ: the runtime drops the Relu, and no level is spent below zero."""
    model = quantize_static(_make_model(), _make_feeds(), Int8Settings(TARGETS["vnni"]))
    nodes = _name(model)
    assert nodes["relu"].input[0] == nodes["feature"].output[0]
    (quantize,) = (node for node in model.graph.node if nodes["relu"].output[0] in node.input)
    zero = next(tensor for tensor in model.graph.initializer if tensor.name == quantize.input[2])
    assert (quantize.op_type, int(numpy_helper.to_array(zero))) == ("QuantizeLinear", 0)


@pytest.mark.parametrize(("target", "limit"), [("avx2", 64), ("vnni", 127), ("arm64", 127)])
def test_weights_use_the_range_of_their_target(target: str, limit: int) -> None:
    model = quantize_static(_make_model(), _make_feeds(), Int8Settings(TARGETS[target]))
    for name in FEATURE_CONVOLUTIONS:
        assert np.abs(numpy_helper.to_array(_get_weight(model, name)).astype(int)).max() == limit


def test_weights_have_a_scale_per_output_channel() -> None:
    model = quantize_static(_make_model(), _make_feeds(), Int8Settings(TARGETS["avx2"]))
    makers = {output: node for node in model.graph.node for output in node.output}
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    dequantize = makers[_name(model)["deep"].input[1]]
    assert list(tensors[dequantize.input[1]].dims) == [WIDE]


@pytest.mark.parametrize(
    ("target", "kind"), [("avx2", TensorProto.UINT8), ("vnni", TensorProto.UINT8), ("arm64", TensorProto.INT8)]
)
def test_activations_have_the_sign_of_their_target(target: str, kind: int) -> None:
    model = quantize_static(_make_model(), _make_feeds(), Int8Settings(TARGETS[target]))
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    zeros = [tensors[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert {zero.data_type for zero in zeros} == {kind}
    least = -128 if target == "arm64" else 0
    assert least in {int(numpy_helper.to_array(zero)) for zero in zeros}, "what a Relu makes has all the numbers"


@pytest.mark.parametrize("target", ["avx2", "arm64"])
def test_pictures_stay_near(target: str) -> None:
    """30 dB on noise through random weights; the shared layer's bias must suit both of its inputs."""
    model = quantize_static(_make_model(), _make_feeds(), Int8Settings(TARGETS[target]))
    assert _measure_psnr(_run(model), _run(_make_model())) >= 30


def test_weights_that_a_head_shares_stay_float_for_it() -> None:
    changes = {
        "(features, w_deep, b_wide)": "(other, w_head, b_two)",
        "(warped, deep, bounded)": "(warped, features, bounded)",
        "[add] tryon = Add (painted, last)": (
            "[mean] mean = ReduceMean <axes = [1]> (deep) [sum] sum = Add (painted, mean) [add] tryon = Add (sum, last)"
        ),
    }
    text = WARP
    for before, after in changes.items():
        text = text.replace(before, after)
    model = quantize_static(_make_model(text), _make_feeds(), Int8Settings(TARGETS["avx2"]))
    assert _get_weight(model, "head").data_type == TensorProto.FLOAT
    assert _get_weight(model, "deep").data_type == TensorProto.INT8


def test_the_same_model_gives_the_same_bytes() -> None:
    one, two = (quantize_static(_make_model(), _make_feeds(), Int8Settings(TARGETS["avx2"])) for _ in range(2))
    assert one.SerializeToString() == two.SerializeToString()


def test_a_model_without_convolutions_is_left_alone() -> None:
    model = quantize_static(_make_model(PLAIN), _make_feeds(), Int8Settings(TARGETS["avx2"]))
    assert [node.op_type for node in model.graph.node] == ["Add"]


def test_calibration_is_read_one_sample_at_a_time() -> None:
    alive = 0

    def read() -> Iterator[dict[str, np.ndarray]]:
        nonlocal alive
        for feeds in _make_feeds(3):
            alive += 1
            assert alive == 1
            yield feeds
            alive -= 1

    quantize_static(_make_model(), read(), Int8Settings(TARGETS["avx2"]))
    assert alive == 0


def test_dynamic_loads_and_is_smaller() -> None:
    model = quantize_dynamic(_make_model())
    nodes = _name(model)
    assert sum(node.op_type == "ConvInteger" for node in model.graph.node) == len(FEATURE_CONVOLUTIONS)
    assert nodes["head"].op_type == "Conv"
    assert model.ByteSize() < _make_model().ByteSize() / 2
    assert _measure_psnr(_run(model), _run(_make_model())) >= 30


def test_dynamic_leaves_a_model_without_convolutions_alone() -> None:
    assert [node.op_type for node in quantize_dynamic(_make_model(PLAIN)).graph.node] == ["Add"]

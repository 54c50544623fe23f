"""Weight-only int8: weights in 8 bits in the file, float32 as soon as a runtime has loaded it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from vtopt.benchmarks.cost.flops import count_macs
from vtopt.benchmarks.cost.size import count_parameters
from vtopt.optimize.int8.weight_only import quantize_weights
from vtopt.optimize.stored_weights import store_half

SHAPES = {
    "w_feature": (32, 3, 3, 3),
    "w_deep": (32, 32, 3, 3),
    "w_up": (32, 4, 2, 2),
    "w_up_groups": (32, 4, 4, 4),
    "w_head": (2, 32, 3, 3),
    "w_paint": (3, 84, 1, 1),
    "w_left": (32, 32),
    "w_right": (24, 24),
    "w_gemm": (3 * 4, 64),
}

WARP = """<ir_version: 6, opset_import: ["" : OPSET]>
g (float[1,3,32,24] person, float[1,3,32,24] clothes) => (float[1,3,32,24] tryon) {
  [feature] features = Conv <pads = [1, 1, 1, 1]> (clothes, w_feature)
  [again] other = Conv <pads = [1, 1, 1, 1]> (person, w_feature)
  [deep] deep = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (other, w_deep)
  [up] up = ConvTranspose <strides = [2, 2]> (deep, w_up)
  [upgroups] upgroups = ConvTranspose <strides = [2, 2], pads = [1, 1, 1, 1], group = 4> (deep, w_up_groups)
  [head] flow = Conv <pads = [1, 1, 1, 1]> (features, w_head)
  [tanh] bounded = Tanh (flow)
  [turn] grid = Transpose <perm = [0, 2, 3, 1]> (bounded)
  [warp] warped = GridSample <padding_mode = "border"> (features, grid)
  [left] left = MatMul (w_left, warped)
  [right] right = MatMul (left, w_right)
  [both] both = Concat <axis = 1> (right, other, up, upgroups)
  [paint] tryon = Conv (both, w_paint)
}"""
"""Every kind of weight, one of them read twice, one by a flow head."""

GEMM = """<ir_version: 6, opset_import: ["" : 17]>
g (float[1,64] x) => (float[1,12] y) { [gemm] y = Gemm <transB = 1> (x, w_gemm) }"""

BRANCH = """<ir_version: 6, opset_import: ["" : 17]>
g (float[1,32,8,8] x, bool yes) => (float[1,32,8,8] y) {
  [outer] a = Conv <pads = [1, 1, 1, 1]> (x, w_deep)
  [if] y = If (yes) <
    then_branch = t () => (float[1,32,8,8] b) { [inner] b = Conv <pads = [1, 1, 1, 1]> (a, w_deep) },
    else_branch = e () => (float[1,32,8,8] c) { c = Relu (a) }
  >
}"""


def _make_model(text: str = WARP, opset: int = 17) -> ModelProto:
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(text.replace("OPSET", str(opset)))
    used = {name for node in model.graph.node for name in node.input}
    for name, shape in SHAPES.items():
        if name in used:
            # The channels' ranges differ by a factor of 100: one scale for all of them would lose the small.
            channels = np.geomspace(0.02, 2, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
            values = channels * rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
            model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    return model


def _run(model: ModelProto) -> np.ndarray:
    rng = np.random.default_rng(1)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {
        each.name: np.array(True) if each.type == "tensor(bool)" else rng.uniform(-1, 1, each.shape).astype(np.float32)
        for each in session.get_inputs()
    }
    made: Any = session.run(None, feeds)[0]
    return made


def _measure_psnr(made: np.ndarray, expected: np.ndarray) -> float:
    peak = np.abs(expected).max()
    return 20 * np.log10(peak) - 10 * np.log10(np.mean((made.astype(np.float64) - expected) ** 2))


def _list_types(model: ModelProto) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def _optimize(model: ModelProto, path: Path) -> list[str]:
    """Return the types of the operations that onnxruntime runs."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return sorted(node.op_type for node in onnx.load(path).graph.node)


def test_all_weights_are_int8_but_those_of_the_flow_head() -> None:
    types = _list_types(quantize_weights(_make_model()))
    quantized = SHAPES.keys() - {"w_head", "w_gemm", "w_paint"}  # w_paint has less than 256 numbers
    assert {name for name, kind in types.items() if kind == TensorProto.INT8} == {f"{name}_int8" for name in quantized}
    assert types["w_head"] == types["w_paint"] == TensorProto.FLOAT


def test_nodes_may_be_kept_float() -> None:
    types = _list_types(quantize_weights(_make_model(), float_nodes=["deep", "again"]))
    assert types["w_deep"] == TensorProto.FLOAT
    assert types["w_feature"] == TensorProto.FLOAT, "one of its two readers stays float: int8 would be stored beside it"
    assert types["w_up_int8"] == TensorProto.INT8


@pytest.mark.parametrize(
    ("text", "scales"),
    [
        (
            WARP,
            {
                "w_feature": (32, 1, 1, 1),
                "w_up": (1, 4, 1, 1),
                "w_up_groups": (32, 4, 1, 1),
                "w_left": (32, 1),
                "w_right": (1, 24),
            },
        ),
        (GEMM, {"w_gemm": (12, 1)}),
        (GEMM.replace("y = Gemm", "z = Gemm").replace("w_gemm) }", "w_gemm) y = Gemm (z, w_gemm) }"), {}),
        (GEMM.replace("transB = 1> (x", "transA = 1> (x").replace("[1,64] x", "[12,1] x"), {"w_gemm": (1, 64)}),
    ],
    ids=["warp", "gemm transposed", "gemm of weights that another reads transposed: left alone", "gemm"],
)
def test_scales_are_one_per_output_channel(text: str, scales: dict[str, tuple[int, ...]]) -> None:
    tensors = {tensor.name: tuple(tensor.dims) for tensor in quantize_weights(_make_model(text)).graph.initializer}
    found = {name: tensors[f"{name}_scale"] for name in SHAPES if f"{name}_scale" in tensors}
    assert scales.items() <= found.items()
    assert bool(scales) == bool(found)


@pytest.mark.parametrize("opset", [16, 20])
def test_pictures_stay_near(opset: int) -> None:
    text = WARP if opset < 20 else WARP.replace("GridSample <", 'GridSample <mode = "linear", ').replace("6,", "9,")
    model = _make_model(text, opset)
    quantized = quantize_weights(model)
    onnx.checker.check_model(quantized, full_check=True)
    assert _measure_psnr(_run(quantized), _run(model)) >= 40


def test_a_model_of_opset_11_is_quantised() -> None:
    text = WARP.replace('GridSample <padding_mode = "border"> (features, grid)', "Identity (features)")
    model = _make_model(text, 11)
    assert _measure_psnr(_run(quantize_weights(model)), _run(model)) >= 40


def test_numbers_are_off_by_half_a_step_at_most() -> None:
    tensors = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in quantize_weights(_make_model()).graph.initializer
    }
    before = {tensor.name: numpy_helper.to_array(tensor) for tensor in _make_model().graph.initializer}
    step = tensors["w_deep_scale"]
    off = np.abs(tensors["w_deep_int8"] * step - before["w_deep"])
    np.testing.assert_allclose(step.ravel(), np.abs(before["w_deep"]).max((1, 2, 3)) / 127, rtol=1e-6)
    assert (off <= 0.501 * step).all()


@pytest.mark.parametrize("store", [quantize_weights, store_half], ids=["int8", "float16"])
def test_what_onnxruntime_runs_is_what_it_ran_before(store: Any, tmp_path: Path) -> None:
    """All that restores weights is folded when the model loads, else each run would pay for it."""
    model = _make_model()
    assert _optimize(store(model), tmp_path / "stored.onnx") == _optimize(model, tmp_path / "float.onnx")


@pytest.mark.parametrize("store", [quantize_weights, store_half], ids=["int8", "float16"])
def test_parameters_and_macs_are_those_of_the_float_model(store: Any, tmp_path: Path) -> None:
    import openvino

    model = _make_model()
    onnx.save(model, tmp_path / "float.onnx")
    onnx.save(store(model), tmp_path / "stored.onnx")
    openvino.save_model(
        openvino.convert_model(tmp_path / "stored.onnx"), tmp_path / "stored.xml", compress_to_fp16=False
    )
    counts = {count_parameters(tmp_path / name) for name in ("float.onnx", "stored.onnx", "stored.xml")}
    assert counts == {sum(np.prod(shape) for name, shape in SHAPES.items() if name != "w_gemm")}
    reports = [count_macs(tmp_path / name) for name in ("float.onnx", "stored.onnx", "stored.xml")]
    assert len({report.macs for report in reports}) == 1
    assert not any(report.uncounted for report in reports)


def test_weights_that_a_branch_reads_too_are_left_alone() -> None:
    model = _make_model(BRANCH)
    assert _list_types(quantize_weights(model)) == {"w_deep": TensorProto.FLOAT}
    assert "w_deep_int8" in _list_types(quantize_weights(_make_model(BRANCH.replace("(a, w_deep)", "(a, x)"))))


def test_weights_of_constant_nodes_are_quantised() -> None:
    model = _make_model()
    (index,) = (index for index, tensor in enumerate(model.graph.initializer) if tensor.name == "w_deep")
    expected, values = _run(model), model.graph.initializer[index]
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["w_deep"], value=values))
    del model.graph.initializer[index]
    quantized = quantize_weights(model)
    assert "Constant" not in {node.op_type for node in quantized.graph.node}
    assert _measure_psnr(_run(quantized), expected) >= 40


def test_weights_that_the_caller_may_feed_are_left_alone() -> None:
    model = _make_model()
    model.graph.input.append(onnx.helper.make_tensor_value_info("w_deep", TensorProto.FLOAT, SHAPES["w_deep"]))
    assert _list_types(quantize_weights(model))["w_deep"] == TensorProto.FLOAT


def test_channels_of_zeros_stay_zeros() -> None:
    model = _make_model()
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(np.zeros(tuple(tensor.dims), np.float32), tensor.name))
    with np.errstate(all="raise"):
        quantized = quantize_weights(model)
    assert not _run(quantized).any()


def test_the_model_is_not_changed_and_gives_the_same_bytes_twice() -> None:
    model = _make_model()
    one, two = quantize_weights(model), quantize_weights(model)
    assert one.SerializeToString() == two.SerializeToString()
    assert model.SerializeToString() == _make_model().SerializeToString()


def test_what_int8_leaves_float_can_be_stored_as_float16() -> None:
    quantized = quantize_weights(_make_model(), float_nodes=["deep"])
    types = _list_types(store_half(quantized))
    assert types["w_head_fp16"] == types["w_deep_fp16"] == TensorProto.FLOAT16
    assert types["w_up_int8"] == TensorProto.INT8
    assert types["w_up_scale"] == types["w_paint"] == TensorProto.FLOAT

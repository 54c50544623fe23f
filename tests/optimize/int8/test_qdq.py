"""Convolutions in 8 bits: what the integers stand for, and that the runtime has integer kernels for all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, numpy_helper

from vtopt.optimize.cpu_target import TARGETS
from vtopt.optimize.int8.qdq import insert_qdq, make_grid, quantize_weight
from vtopt.optimize.int8.ranges import Range
from vtopt.optimize.int8.units import find_units, list_tensors

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,16,12,10] x) => (float[1,16,12,10] y, float[1,16,12,10] z) {
  [a] raw = Conv <pads = [1, 1, 1, 1]> (x, w_a, b)
  [relu] a = Relu (raw)
  [b] b_out = Conv <pads = [1, 1, 1, 1]> (a, w_a)
  [c] y = Conv <pads = [1, 1, 1, 1], group = 4> (a, w_c, b)
  [sigmoid] s = Sigmoid (b_out)
  [d] z = Conv <pads = [1, 1, 1, 1], group = 16> (s, w_d, b)
}"""


def _make_model(text: str = TEXT, **more: np.ndarray) -> ModelProto:
    rng = np.random.default_rng(0)
    shapes = {"w_a": (16, 16, 3, 3), "w_c": (16, 4, 3, 3), "w_d": (16, 1, 3, 3), "b": (16,)}
    values = {name: rng.normal(size=shape) / np.sqrt(np.prod(shape[1:])) for name, shape in shapes.items()} | more
    model = onnx.parser.parse_model(text)
    used = {name for node in model.graph.node for name in node.input}
    for name in sorted(used & set(values)):
        model.graph.initializer.append(numpy_helper.from_array(values[name].astype(np.float32), name))
    return model


def _draw(seed: int = 0, shift: float = 0.0) -> dict[str, np.ndarray]:
    values = np.random.default_rng(seed).normal(size=(1, 16, 12, 10)) + shift
    return {"x": values.astype(np.float32)}


def _run(model: ModelProto, feeds: dict[str, np.ndarray], names: list[str] | None = None) -> list[np.ndarray]:
    exposed = ModelProto()
    exposed.CopyFrom(model)
    known = {value.name for value in model.graph.output} | {value.name for value in model.graph.input}
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names or [] if name not in known)
    session = ort.InferenceSession(exposed.SerializeToString(), providers=["CPUExecutionProvider"])
    if names is None:
        return session.run(None, feeds)
    made = [name for name in names if name not in feeds]
    found = dict(zip(made, session.run(made, feeds), strict=True)) | feeds
    return [found[name] for name in names]


def _measure(model: ModelProto, feeds: dict[str, np.ndarray]) -> tuple[dict[str, Range], dict[str, np.ndarray]]:
    """Return the ranges and channel means of what the units read and make."""
    units = find_units(model, ())
    names = list_tensors(units)
    found = dict(zip(names, _run(model, feeds, names), strict=True))
    ranges = {name: Range(min(0.0, float(made.min())), max(0.0, float(made.max()))) for name, made in found.items()}
    return ranges, {unit.source: found[unit.source].mean((0, 2, 3), dtype=np.float64) for unit in units}


def _quantize(model: ModelProto, target: str, corrected: bool = True, feeds: dict | None = None) -> ModelProto:
    ranges, means = _measure(model, feeds or _draw())
    return insert_qdq(model, find_units(model, ()), ranges, TARGETS[target], means if corrected else None)


@pytest.mark.parametrize(("target", "limit"), [("avx2", 64), ("vnni", 127), ("arm64", 127)])
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 1000), power=st.integers(-20, 20), step=st.floats(1e-6, 1e3))
def test_weights_are_within_half_a_step_of_what_they_were(
    target: str, limit: int, seed: int, power: int, step: float
) -> None:
    rng = np.random.default_rng(seed)
    weight = (rng.normal(size=(6, 3, 3, 3)) * 2.0**power * rng.uniform(0.01, 10, (6, 1, 1, 1))).astype(np.float32)
    made = quantize_weight(weight, None, None, np.float32(step), TARGETS[target])
    assert made.bias is None
    assert (made.values.dtype, made.values.shape, made.steps.shape) == (np.int8, weight.shape, (6,))
    assert (np.abs(made.values.astype(int)).max((1, 2, 3)) == limit).all()
    steps = made.steps[:, None, None, None].astype(np.float64)
    assert (np.abs(made.values * steps - weight) <= 0.5001 * steps).all()


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(bias=st.floats(-1e6, 1e6, width=32), power=st.integers(-20, 3), step=st.floats(1e-9, 10))
def test_a_bias_never_leaves_int32(target: str, bias: float, power: int, step: float) -> None:
    weight = np.random.default_rng(0).normal(size=(2, 3, 3, 3)).astype(np.float32) * np.float32(2.0**power)
    means = np.full(3, 200 * step)
    made = quantize_weight(weight, np.full(2, bias, np.float32), means, np.float32(step), TARGETS[target])
    assert made.bias is not None
    assert made.bias.dtype == np.int32
    assert (np.abs(made.bias.astype(np.int64)) <= 2**30 + 2**20).all()
    scale = made.steps.astype(np.float64) * np.float32(step)
    error = weight - made.values * made.steps[:, None, None, None].astype(np.float64)
    expected = bias + error.sum((2, 3)) @ means
    assert (np.abs(made.bias * scale - expected) <= 0.51 * scale + 1e-6 * abs(bias)).all()


def test_a_channel_of_zeros_stays_one() -> None:
    weight = np.random.default_rng(0).normal(size=(3, 2, 3, 3)).astype(np.float32)
    weight[1] = 0
    made = quantize_weight(weight, None, np.ones(2), np.float32(0.1), TARGETS["vnni"])
    assert not made.values[1].any()
    assert np.isfinite(made.steps).all()
    assert (made.steps > 0).all()
    assert made.bias is not None
    assert made.bias[1] == 0


@pytest.mark.parametrize("bias", [0.04, -0.3, 1e-4, 0.0])
def test_a_channel_of_zeros_keeps_its_bias(bias: float) -> None:
    """A dead channel of a folded batch-norm is its bias alone; that is to be as exact as any other's."""
    weight = np.zeros((2, 2, 3, 3), np.float32)
    weight[0] = 1
    step = np.float32(0.2)
    made = quantize_weight(weight, np.full(2, bias, np.float32), np.zeros(2), step, TARGETS["vnni"])
    assert made.bias is not None
    np.testing.assert_allclose(made.bias * made.steps.astype(np.float64) * step, bias, atol=2e-3 * abs(bias) + 8e-4)


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(low=st.floats(-1e4, 0), high=st.floats(0, 1e4))
def test_zero_is_on_every_grid_and_its_range_in_it(target: str, low: float, high: float) -> None:
    if max(-low, high) < 1e-30:
        low = high = 0.0
    grid = make_grid(Range(low, high), TARGETS[target])
    step, zero = float(grid.step), int(grid.zero)
    assert step > 0
    least, largest = (-128, 127) if TARGETS[target].signed_activations else (0, 255)
    assert least <= zero <= largest
    assert (least - zero) * step <= low + 0.51 * step
    assert (largest - zero) * step >= high - 0.51 * step


@pytest.mark.parametrize("target", TARGETS)
def test_bias_correction_removes_the_mean_error(target: str) -> None:
    """Of float inputs far from zero, the rounded weights make something else on average; a bias takes that off."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[1,16,12,10] x) => (float[1,16,12,10] y) {
      [a] y = Conv (x, w_one)
    }"""
    weight = np.random.default_rng(3).normal(size=(16, 16, 1, 1))
    weight[:, 0] *= 30  # a coarse step for the others
    model, feeds = _make_model(text, w_one=weight), _draw(1, shift=3.0)
    (expected,) = _run(model, feeds)
    errors = []
    for corrected in (True, False):
        (made,) = _run(_quantize(model, target, corrected, feeds), feeds)
        errors.append(np.abs((made - expected).mean((0, 2, 3))).mean())
    assert errors[0] < errors[1] / 4


def test_bias_correction_of_a_grouped_convolution_reads_its_own_channels() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(6, 2, 1, 1)).astype(np.float32)  # 3 groups of 2 channels in, 2 out
    means = rng.normal(size=6) * 10
    made = quantize_weight(weight, np.zeros(6, np.float32), means, np.float32(1e-4), TARGETS["avx2"])
    assert made.bias is not None
    error = (weight - made.values * made.steps[:, None, None, None].astype(np.float64))[:, :, 0, 0]
    expected = [error[out] @ means[out // 2 * 2 : out // 2 * 2 + 2] for out in range(6)]
    np.testing.assert_allclose(made.bias * made.steps.astype(np.float64) * 1e-4, expected, atol=1e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_the_graph_is_valid_and_its_names_are_unique(target: str) -> None:
    model = _quantize(_make_model(), target)
    onnx.checker.check_model(model, full_check=True)
    graph = model.graph
    names = [name for node in graph.node for name in node.output] + [tensor.name for tensor in graph.initializer]
    names += [value.name for value in graph.input]
    assert len(names) == len(set(names))
    nodes = [node.name for node in graph.node if node.name]
    assert len(nodes) == len(set(nodes))
    read = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= read


def test_names_that_are_taken_are_passed_over() -> None:
    text = TEXT.replace("raw", "q0").replace("b_out", "q1").replace("w_c", "q3")
    model = _make_model(text, q3=np.random.default_rng(0).normal(size=(16, 4, 3, 3)))
    onnx.checker.check_model(_quantize(model, "vnni"), full_check=True)


@pytest.mark.parametrize("target", ["avx2", "vnni"])
def test_the_runtime_has_an_integer_kernel_for_every_unit(target: str, tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    model = _quantize(_make_model(), target)
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QLinearConv") == 4
    assert not {"Conv", "FusedConv", "Relu", "ConvInteger"}.intersection(kinds)


@pytest.mark.parametrize("target", ["avx2", "vnni"])
def test_a_float_convolution_between_two_in_int8_stays_float(target: str, tmp_path: Path) -> None:
    """The runtime rounds the weights of one that reads a DequantizeLinear and is read by a QuantizeLinear alone."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[1,16,12,10] x) => (float[1,16,12,10] y) {
      [a] a = Conv <pads = [1, 1, 1, 1]> (x, w_a, b)
      [float] middle = Conv <pads = [1, 1, 1, 1]> (a, w_c2, b)
      [relu] cut = Relu (middle)
      [c] y = Conv <pads = [1, 1, 1, 1]> (cut, w_a, b)
    }"""
    model = _make_model(text, w_c2=np.random.default_rng(5).normal(size=(16, 16, 3, 3)) / 12)
    ranges, means = _measure(model, _draw())
    units = [unit for unit in find_units(model, ()) if unit.name != "float"]
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    made = insert_qdq(model, units, ranges, TARGETS[target], means)
    ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QLinearConv") == 2


@pytest.mark.parametrize("target", TARGETS)
def test_the_outputs_are_near_those_of_the_float_model(target: str) -> None:
    model = _make_model()
    for made, expected in zip(_run(_quantize(model, target), _draw()), _run(model, _draw()), strict=True):
        assert np.sqrt(np.mean((made - expected) ** 2)) < 0.03 * expected.std()


def test_the_same_bytes_twice_and_the_model_is_not_changed() -> None:
    model = _make_model()
    before = model.SerializeToString(deterministic=True)
    one, two = (_quantize(model, "avx2").SerializeToString(deterministic=True) for _ in range(2))
    assert one == two
    assert model.SerializeToString(deterministic=True) == before


def test_a_huge_bias_survives_in_a_model() -> None:
    bias = np.full(16, 1e4)
    model = _make_model(b=bias, w_a=np.random.default_rng(0).normal(size=(16, 16, 3, 3)) * 1e-6)
    for made, expected in zip(_run(_quantize(model, "vnni"), _draw()), _run(model, _draw()), strict=True):
        np.testing.assert_allclose(made, expected, atol=0.02 * np.abs(expected).max())


def test_one_dimensional_convolutions_are_quantised_too() -> None:
    from vtopt.optimize.int8 import Int8Settings
    from vtopt.optimize.int8.static import quantize_static

    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[1,4,20] x) => (float[1,4,20] y) {
      [a] y = Conv <pads = [1, 1]> (x, w_line)
    }"""
    model = _make_model(text, w_line=np.random.default_rng(0).normal(size=(4, 4, 3)))
    feeds = {"x": np.random.default_rng(1).normal(size=(1, 4, 20)).astype(np.float32)}
    made = quantize_static(model, [feeds], Int8Settings(TARGETS["vnni"]))
    np.testing.assert_allclose(_run(made, feeds)[0], _run(model, feeds)[0], atol=0.2)

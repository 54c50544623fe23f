"""A model with switches makes what the model with just those units in int8 makes."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, numpy_helper

from vtopt.optimize.cpu_target import TARGETS
from vtopt.optimize.int8.calibration import collect_histograms
from vtopt.optimize.int8.qdq import insert_qdq
from vtopt.optimize.int8.ranges import Range, choose_ranges
from vtopt.optimize.int8.switches import SWITCH, add_switches, make_switch_feeds
from vtopt.optimize.int8.units import Unit, find_units, list_tensors

GRAPH = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,4,16,12] x) => (float[1,4,16,12] y, float[1,8,16,12] each) {
  [a] raw_a = Conv <pads = [1, 1, 1, 1]> (x, w_a, b_wide)
  [relu_a] a = Relu (raw_a)
  [b] b = Conv <pads = [1, 1, 1, 1]> (a, w_shared)
  [each] each = Conv <pads = [1, 1, 1, 1], group = 8> (a, w_each, b_wide)
  [half] raw_half = Conv <pads = [1, 1, 1, 1], group = 2> (b, w_half, b_wide)
  [relu_half] half = Relu (raw_half)
  [again] again = Conv <pads = [1, 1, 1, 1]> (each, w_shared)
  [add] both = Add (half, again)
  [sigmoid] soft = Sigmoid (both)
  [last] y = Conv <pads = [1, 1, 1, 1]> (soft, w_last, b_last)
}"""
"""Two units with a Relu, two without a bias and of one weight, grouped ones, two of one source, two graph outputs."""
NAMES = ("a", "b", "each", "half", "again", "last")


def _make_model() -> ModelProto:
    rng = np.random.default_rng(0)
    shapes = {
        "w_a": (8, 4, 3, 3),
        "b_wide": (8,),
        "w_shared": (8, 8, 3, 3),
        "w_each": (8, 1, 3, 3),
        "w_half": (8, 4, 3, 3),
        "w_last": (4, 8, 3, 3),
        "b_last": (4,),
    }
    model = onnx.parser.parse_model(GRAPH)
    for name, shape in shapes.items():
        values = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    return model


def _draw(seed: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).normal(size=(1, 4, 16, 12)).astype(np.float32)}


@functools.cache
def _calibrate() -> tuple[ModelProto, list[Unit], dict[str, Range], dict[str, np.ndarray]]:
    model = _make_model()
    units = find_units(model, ())
    histograms = collect_histograms(model, list_tensors(units), map(_draw, range(3)), 1)
    means = {unit.source: histograms[unit.source].means for unit in units}
    return model, units, choose_ranges(histograms, "minmax"), means


def _open(model: ModelProto, *, fuse: bool = True) -> ort.InferenceSession:
    """Without `fuse` every node runs by itself, and what is the same arithmetic makes the same bits."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not fuse:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@functools.cache
def _open_switched(target: str, fuse: bool = True) -> ort.InferenceSession:
    model, units, ranges, means = _calibrate()
    return _open(add_switches(model, units, ranges, TARGETS[target], means), fuse=fuse)


def _run_switched(target: str, int8: set[str], fuse: bool = True) -> list[np.ndarray]:
    return _open_switched(target, fuse).run(None, _draw(9) | make_switch_feeds(_calibrate()[1], int8))


def _run_built(target: str, int8: set[str], fuse: bool = True) -> list[np.ndarray]:
    model, units, ranges, means = _calibrate()
    chosen = [unit for unit in units if unit.name in int8]
    return _open(insert_qdq(model, chosen, ranges, TARGETS[target], means), fuse=fuse).run(None, _draw(9))


def test_switches_stand_for_every_unit() -> None:
    assert tuple(unit.name for unit in _calibrate()[1]) == NAMES
    inputs = [value.name for value in _open_switched("vnni").get_inputs()]
    assert inputs == ["x", *(SWITCH + name for name in NAMES)]


@pytest.mark.parametrize("target", TARGETS)
def test_all_off_is_the_float_model(target: str) -> None:
    for made, expected in zip(_run_switched(target, set()), _open(_make_model()).run(None, _draw(9)), strict=True):
        np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=24, deadline=None, derandomize=True, database=None)
@given(int8=st.sets(st.sampled_from(NAMES)))
def test_any_mixture_is_the_arithmetic_of_the_built_one(target: str, int8: set[str]) -> None:
    made = _run_switched(target, int8, fuse=False)
    for one, other in zip(made, _run_built(target, int8, fuse=False), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("target", ["avx2", "vnni"])
@settings(max_examples=24, deadline=None, derandomize=True, database=None)
@given(int8=st.sets(st.sampled_from(NAMES)))
def test_any_mixture_makes_what_the_built_one_makes(target: str, int8: set[str]) -> None:
    """On the runtime's fused kernels: float ones round their last bit by what they are fused with."""
    units, ranges = _calibrate()[1:3]
    step = max((ranges[unit.output].high - ranges[unit.output].low) / 255 for unit in units)
    for made, expected in zip(_run_switched(target, int8), _run_built(target, int8), strict=True):
        apart = np.abs(made - expected)
        assert apart.max() <= 1.01 * step
        assert (apart > 1e-5).mean() < 0.02


@pytest.mark.parametrize("target", TARGETS)
def test_all_on_makes_what_the_built_one_makes(target: str) -> None:
    built = _run_built(target, set(NAMES))
    for made, expected in zip(_run_switched(target, set(NAMES)), built, strict=True):
        np.testing.assert_array_equal(made, expected)
    assert all((made != expected).any() for made, expected in zip(built, _run_built(target, set()), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_switch_matters(name: str) -> None:
    made, expected = (_run_switched("avx2", int8) for int8 in ({name}, set()))
    assert any((one != other).any() for one, other in zip(made, expected, strict=True))


def test_a_model_with_a_constant_that_float_nodes_read_too_keeps_it() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[1,2,4,4] x) => (float[1,2,4,4] y) {
      [a] a = Conv (x, w)
      [b] b = Conv (x, w)
      [scale] s = ReduceSum <keepdims = 0> (w)
      [mul] c = Mul (b, s)
      [add] y = Add (a, c)
    }"""
    model = onnx.parser.parse_model(text)
    weight = np.random.default_rng(0).normal(size=(2, 2, 1, 1)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    units = find_units(model, ())
    ranges = dict.fromkeys(list_tensors(units), Range(-3.0, 3.0))
    feeds = {"x": np.random.default_rng(1).uniform(-1, 1, (1, 2, 4, 4)).astype(np.float32)}
    switched = _open(add_switches(model, units, ranges, TARGETS["avx2"]), fuse=False)
    for int8 in ([], ["a"], ["a", "b"]):
        (made,) = switched.run(None, feeds | make_switch_feeds(units, int8))
        built = insert_qdq(model, [unit for unit in units if unit.name in int8], ranges, TARGETS["avx2"])
        np.testing.assert_array_equal(made, _open(built, fuse=False).run(None, feeds)[0])


def test_the_model_is_not_changed_and_gives_the_same_bytes_twice() -> None:
    model, units, ranges, means = _calibrate()
    before = model.SerializeToString(deterministic=True)
    one, two = (add_switches(model, units, ranges, TARGETS["avx2"], means) for _ in range(2))
    assert one.SerializeToString(deterministic=True) == two.SerializeToString(deterministic=True)
    assert model.SerializeToString(deterministic=True) == before

"""Float16: half the size, and every grid as exact as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, numpy_helper, shape_inference

from vtopt.optimize.fp16 import cast_fp16
from vtopt.optimize.provenance import read_history
from vtopt.optimize.quantize import quantize_onnx
from vtopt.optimize.stored_weights import store_half
from vtopt.optimize.warp import find_warps, name_nodes

WIDE = 64
SMALL = 2 * WIDE * 9
"""How many weights the flow head has: more than SMALL_TENSOR, so they are stored as float16."""

WARP = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,32,24] person, float[1,3,32,24] clothes) => (float[1,3,32,24] tryon) {
  [feature] features = Conv <pads = [1, 1, 1, 1]> (clothes, w_feature, zeros_wide)
  [again] person_features = Conv <pads = [1, 1, 1, 1]> (person, w_feature, zeros_wide)
  [head] flow = Conv <pads = [1, 1, 1, 1]> (features, w_head, zeros_two)
  [turn] offsets = Transpose <perm = [0, 2, 3, 1]> (flow)
  [place] grid = Add (offsets, coordinates)
  [warp] warped = GridSample <padding_mode = "border"> (features, grid)
  [both] both = Add (warped, person_features)
  [paint] tryon = Conv (both, w_paint, zeros_three)
}"""

PLAIN = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,32,24] person, float[1,3,32,24] clothes) => (float[1,3,32,24] tryon) {
  features = Conv <pads = [1, 1, 1, 1]> (clothes, w_feature, zeros_wide)
  active = Relu (features)
  painted = Conv (active, w_paint, zeros_three)
  tryon = Add (painted, person)
}"""


def _make_model(text: str = WARP) -> ModelProto:
    rng = np.random.default_rng(0)
    rows, columns = np.meshgrid(np.linspace(-1, 1, 32), np.linspace(-1, 1, 24), indexing="ij")
    constants = {
        "w_feature": rng.normal(size=(WIDE, 3, 3, 3)) / 5,
        "w_head": rng.normal(size=(2, WIDE, 3, 3)) / 500,
        "w_paint": rng.normal(size=(3, WIDE, 1, 1)) / WIDE,
        "zeros_wide": np.zeros(WIDE),
        "zeros_two": np.zeros(2),
        "zeros_three": np.zeros(3),
        "half": np.array(0.5),
        "w_bend": np.eye(24),
        "coordinates": np.stack([columns, rows], -1)[None],
    }
    model = onnx.parser.parse_model(text)
    used = {name for node in model.graph.node for name in node.input}
    for name, values in constants.items():
        if name in used:
            model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    onnx.checker.check_model(model, full_check=True)
    return model


def _run(model: ModelProto) -> np.ndarray:
    return _run_all(model)[0]


def _run_all(model: ModelProto) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    feeds = {name: rng.uniform(-1, 1, (1, 3, 32, 24)).astype(np.float32) for name in ("person", "clothes")}
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    made: Any = session.run(None, feeds)
    return made


def _measure_psnr(made: np.ndarray, expected: np.ndarray) -> float:
    return 10 * np.log10(2**2 / np.mean((made.astype(np.float64) - expected) ** 2))


def _infer_types(model: ModelProto) -> dict[str, int]:
    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def test_the_file_is_about_half_the_size() -> None:
    before, cast = _make_model().ByteSize(), cast_fp16(_make_model())
    weights = WIDE * 3 * 9 + SMALL + 3 * WIDE  # the rest, coordinates and biases, is small or stays
    stays = before - 4 * weights
    assert cast.ByteSize() < 2 * weights + stays + 2000  # and the Cast nodes


def test_inputs_and_outputs_stay_float32() -> None:
    graph = cast_fp16(_make_model()).graph
    types = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    assert types == {TensorProto.FLOAT}


def test_all_that_makes_a_grid_is_float32() -> None:
    cast = cast_fp16(_make_model())
    types, (warp,) = _infer_types(cast), find_warps(cast)
    nodes = {node.name: node for node in cast.graph.node}
    assert set(warp.grid_nodes) >= {"head", "turn", "place"}
    for name in ("head", "turn", "place", "warp"):
        assert {types[value] for value in (*nodes[name].input, *nodes[name].output)} == {TensorProto.FLOAT}
    half = {types[value] for name in ("feature", "again", "both") for value in nodes[name].output}
    assert half == {TensorProto.FLOAT16}


def test_coordinates_are_not_rounded() -> None:
    """A float16 near 1 is off by up to 2**-12, which is 0.06 pixels at a width of 512."""
    (before,) = [t for t in _make_model().graph.initializer if t.name == "coordinates"]
    (after,) = [t for t in cast_fp16(_make_model()).graph.initializer if t.name.startswith("coordinates")]
    np.testing.assert_array_equal(numpy_helper.to_array(after), numpy_helper.to_array(before))


def test_a_flow_that_features_read_too_is_not_rounded_for_the_grid() -> None:
    text = WARP.replace(
        "[both] both = Add (warped, person_features)",
        "[mean] mean = ReduceMean <axes = [1]> (flow) [with] with = Add (warped, mean) "
        "[both] both = Add (with, person_features)",
    )
    cast = cast_fp16(_make_model(text))
    makers = {output: node for node in cast.graph.node for output in node.output}
    nodes = {node.name: node for node in cast.graph.node}
    assert makers[nodes["turn"].input[0]].name == "head"
    assert makers[nodes["mean"].input[0]].op_type == "Cast"
    assert _measure_psnr(_run(cast), _run(_make_model(text))) >= 45


@pytest.mark.parametrize(
    ("text", "output", "whole"),
    [
        pytest.param(PLAIN, "features", False, id="that a feature reads"),
        pytest.param(WARP, "flow", True, id="that a grid reads"),
        pytest.param(WARP, "warped", True, id="of a warp, that a feature reads"),
        pytest.param(WARP.replace("Add (warped,", "Add (features,"), "warped", True, id="of a warp alone"),
        pytest.param(PLAIN.replace("Add (painted, person)", "Max (painted, person)"), "tryon", False, id="of a Max"),
    ],
)
def test_an_output(text: str, output: str, whole: bool) -> None:
    shapes = {"features": f"1,{WIDE},32,24", "flow": "1,2,32,24", "warped": f"1,{WIDE},32,24"}
    if output in shapes:
        text = text.replace("[1,3,32,24] tryon) {", f"[1,3,32,24] tryon, float[{shapes[output]}] {output}) {{")
    model = _make_model(text)
    names = [value.name for value in model.graph.output]
    expected, cast = _run_all(model), cast_fp16(_make_model(text))
    onnx.checker.check_model(cast, full_check=True)
    assert [value.name for value in cast.graph.output] == names
    made = _run_all(cast)
    assert {array.dtype for array in made} == {np.dtype(np.float32)}
    assert all(_measure_psnr(one, other) >= 45 for one, other in zip(made, expected, strict=True))
    makers = {name: node for node in cast.graph.node for name in node.output}
    assert makers[output].op_type == ("Identity" if whole else "Cast")


def test_an_output_that_nothing_reads_gets_no_node_more() -> None:
    assert "Identity" not in {node.op_type for node in cast_fp16(_make_model()).graph.node}


def test_weights_of_a_flow_head_are_stored_as_float16() -> None:
    stored = {t.name: t.data_type for t in cast_fp16(_make_model()).graph.initializer}
    assert stored["w_head_fp16"] == TensorProto.FLOAT16
    assert "w_head" not in stored


def test_pictures_are_the_same_to_the_eye() -> None:
    assert _measure_psnr(_run(cast_fp16(_make_model())), _run(_make_model())) >= 45


def test_a_constant_may_be_shared_by_a_grid_and_a_feature() -> None:
    model = _make_model(
        WARP.replace("Add (offsets, coordinates)", "Mul (offsets, half)")
        .replace("[both] both = Add (warped, person_features)", "[both] both = Mul (person_features, half)")
        .replace("Conv (both, w_paint", "Conv (mixed, w_paint")
        .replace("  [paint]", "  [mix] mixed = Add (warped, both)\n  [paint]")
    )
    expected = _run(model)
    cast = cast_fp16(model)
    types = {tensor.name: tensor.data_type for tensor in cast.graph.initializer}
    assert types["half_float32"] == TensorProto.FLOAT
    assert types["half"] == TensorProto.FLOAT16
    assert _measure_psnr(_run(cast), expected) >= 45


def test_weights_may_be_shared_by_a_head_and_a_feature() -> None:
    model = _make_model()
    nodes = {node.name: node for node in model.graph.node}
    extra = onnx.helper.make_node("Conv", ["person_features", "w_head"], ["spare"], "spare", pads=[1, 1, 1, 1])
    model.graph.node.insert(list(model.graph.node).index(nodes["both"]), extra)
    summed = onnx.helper.make_node("ReduceMean", ["spare"], ["mean"], "mean", axes=[1], keepdims=1)
    model.graph.node.insert(list(model.graph.node).index(nodes["both"]), summed)
    nodes["both"].input[1] = "mean"
    expected = _run(model)
    cast = cast_fp16(model)
    assert _measure_psnr(_run(cast), expected) >= 45


def test_a_model_without_warps_is_cast_as_a_whole() -> None:
    model, expected = _make_model(PLAIN), _run(_make_model(PLAIN))
    name_nodes(model)
    cast = cast_fp16(model)
    assert {tensor.data_type for tensor in cast.graph.initializer} == {TensorProto.FLOAT16}
    assert _measure_psnr(_run(cast), expected) >= 45


MASK = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,32,24] person, float[1,3,32,24] clothes) => (float[1,3,32,24] tryon) <int64[4] shape = {1,3,32,24}> {
  covered = Greater (clothes, half)
  mask = Cast <to = 1> (covered)
  nothing = ConstantOfShape (shape)
  masked = Mul (clothes, mask)
  padded = Concat <axis = 2> (masked, nothing)
  features = Conv <pads = [1, 1, 1, 1]> (padded, w_feature, zeros_wide)
  painted = Conv <strides = [2, 1]> (features, w_paint, zeros_three)
  tryon = Add (painted, person)
}"""


def test_what_is_made_float32_of_something_else_meets_float16() -> None:
    expected = _run(_make_model(MASK))
    assert _measure_psnr(_run(cast_fp16(_make_model(MASK))), expected) >= 45


def test_large_constants_are_kept() -> None:
    model = _make_model(PLAIN)
    (bias,) = [t for t in model.graph.initializer if t.name == "zeros_three"]
    bias.CopyFrom(numpy_helper.from_array(np.array([20000, 0, 0], np.float32), bias.name))
    np.testing.assert_allclose(_run(cast_fp16(model))[0, 0], 20000, rtol=1e-3)


def test_fp16_of_a_network(small_onnx: Path, tmp_path: Path) -> None:
    output = quantize_onnx(small_onnx, tmp_path / "fp16.onnx", fp16=True, pair_count=2, min_psnr=45)
    assert output.stat().st_size < small_onnx.stat().st_size
    (_, record) = read_history(output)
    assert record.figures["psnr_worst_db"] >= 45
    cast = onnx.load(output)
    types = _infer_types(cast)
    for warp in find_warps(cast):
        nodes = [node for node in cast.graph.node if node.name in {warp.name, *warp.grid_nodes}]
        made = {types[value] for node in nodes for value in node.output}
        # Sizes are int64, comparisons bool.
        assert TensorProto.FLOAT in made
        assert TensorProto.FLOAT16 not in made


def test_weights_alone_can_be_stored_as_float16() -> None:
    """A matrix that makes a grid keeps every bit like the grid's coordinates, so does w_paint, which is small."""
    bend = "[bend] bent = MatMul (flow, w_bend) [turn] offsets = Transpose <perm = [0, 2, 3, 1]> (bent)"
    text = WARP.replace("[turn] offsets = Transpose <perm = [0, 2, 3, 1]> (flow)", bend)
    model = _make_model(text)
    before, stored = _infer_types(model), _infer_types(store_half(model))
    assert stored.keys() - before.keys() == {"w_feature_fp16", "w_head_fp16"}
    assert {stored[name] for name in before} == {TensorProto.FLOAT}
    assert _measure_psnr(_run(store_half(model)), _run(model)) >= 60


@pytest.mark.parametrize(
    ("factor", "name"),
    [(1e4, "w_feature_fp16"), (1e7, "w_feature"), (1e-3, "w_feature_fp16"), (1e-8, "w_feature"), (0, "w_feature_fp16")],
)
def test_weights_that_float16_cannot_hold_stay_float32(factor: float, name: str) -> None:
    model = _make_model(PLAIN)
    (weight,) = [t for t in model.graph.initializer if t.name == "w_feature"]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(factor), weight.name))
    assert name in {tensor.name for tensor in store_half(model).graph.initializer}

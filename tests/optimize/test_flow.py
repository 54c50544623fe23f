"""The flow shift is the distance in picture pixels between what two models sample, in whatever form they do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from vtopt.benchmarks.engines.engine import feed_pair, open_engine
from vtopt.optimize.data.pairs import open_pairs
from vtopt.optimize.errors import InputError
from vtopt.optimize.flow import (
    Flow,
    expose_flows,
    match_flows,
    measure_flow_shift,
    open_flow_engine,
    read_places,
)
from vtopt.optimize.rewrites.heads import merge_heads

Arrays = dict[str, np.ndarray]
Run = Callable[..., Arrays]
Export = Callable[..., ModelProto]

SIZE = ROWS, COLUMNS = 8, 6
HEADS = 3

WARP = "[warp] made = GridSample <ATTRIBUTES> (features, grid)"

STACKED = """
  [warp] sampled = GridSample <ATTRIBUTES> (features, grid)
  apart = Reshape (sampled, stacked)
  weight = Unsqueeze (attention, one)
  weighted = Mul (apart, weight)
  made = ReduceSum <keepdims = 0> (weighted, two)"""


def _write(nodes: str, inputs: str, attributes: str = 'padding_mode = "border"', output: str = "1,2,8,6") -> ModelProto:
    return onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : 19]>
        g ({inputs}) => (float[{output}] made)
        <int64[1] one = {{1}}, int64[1] two = {{2}}, int64[5] stacked = {{1, 2, {HEADS}, {ROWS}, {COLUMNS}}}>
        {{ {nodes.replace("ATTRIBUTES", attributes)} }}"""
    )


def _write_warp(attributes: str = 'padding_mode = "border"') -> ModelProto:
    return _write(WARP, f"float[1,2,{ROWS},{COLUMNS}] features, float[1,{ROWS},{COLUMNS},2] grid", attributes)


def _write_heads(attributes: str = 'padding_mode = "border"') -> ModelProto:
    """A warp of 3 heads, whose grids are stacked along the height."""
    grid = f"float[1,{HEADS * ROWS},{COLUMNS},2] grid, float[1,{HEADS},{ROWS},{COLUMNS}] attention"
    return _write(STACKED, f"float[1,2,{ROWS},{COLUMNS}] features, {grid}", attributes)


def _read_flows(model: ModelProto) -> list[Flow]:
    return expose_flows(model)[1]


def _draw(seed: int = 0) -> Arrays:
    """Features, places within the inner half of the picture, and attention that adds up to 1."""
    generator = np.random.default_rng(seed)
    attention = generator.dirichlet(np.ones(HEADS), (1, ROWS, COLUMNS)).transpose(0, 3, 1, 2)
    arrays = {
        "features": generator.standard_normal((1, 2, ROWS, COLUMNS)),
        "grid": generator.uniform(-0.5, 0.5, (1, HEADS * ROWS, COLUMNS, 2)),
        "attention": attention,
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def _shift(model: ModelProto, before: np.ndarray, after: np.ndarray, size: tuple[int, int] = SIZE) -> float | None:
    flows = _read_flows(model)
    return measure_flow_shift({"grid": before}, {"grid": after}, match_flows(flows, flows), size)


@settings(deadline=None, max_examples=40)
@given(
    st.floats(-1, 1),
    st.floats(-1, 1),
    st.sampled_from(['padding_mode = "border"', 'padding_mode = "zeros"', 'padding_mode = "reflection"']),
    st.booleans(),
    st.sampled_from([1, 2, 4]),
)
def test_a_grid_moved_by_so_many_pixels_gives_so_many(
    x: float, y: float, padding: str, corners: bool, scale: int
) -> None:
    """A pixel of features of half the picture's size counts double."""
    rows, columns = (ROWS - 1, COLUMNS - 1) if corners else SIZE
    grid = np.random.default_rng(0).uniform(-0.3, 0.3, (1, *SIZE, 2))
    moved = grid + np.array([x * 2 / columns, y * 2 / rows])
    model = _write_warp(f"{padding}, align_corners = {int(corners)}")
    made = _shift(model, grid, moved, (ROWS * scale, COLUMNS * scale))
    assert made == pytest.approx(scale * np.hypot(x, y), abs=1e-9)


@pytest.mark.parametrize(
    ("padding", "before", "after", "pixels"),
    [
        pytest.param("border", 1.5, 9.0, 0, id="what the border repeats is the same place"),
        pytest.param("border", 1.0, 9.0, 0, id="from the centre of the last pixel on it repeats"),
        pytest.param("border", 1 - 3 / COLUMNS, 9.0, 1, id="a pixel within the last is a pixel away"),
        pytest.param("zeros", 1.0, 9.0, 0.5, id="zeros begin a pixel behind the last"),
        pytest.param("zeros", 1 + 1 / COLUMNS, 9.0, 0, id="all zeros are the same place"),
        pytest.param("reflection", 0.9, 1.1, 0, id="a mirrored place is the same place"),
        pytest.param("reflection", 1 - 1 / COLUMNS, 1 - 3 / COLUMNS, 1, id="the mirror is behind the last pixel"),
        pytest.param("reflection", 0.25, 4.25, 0, id="mirrored twice it is itself"),
        pytest.param("reflection", 0.25, -1.5, 0.75 * COLUMNS / 2, id="from the other side"),
    ],
)
def test_places_outside_are_those_that_are_sampled(padding: str, before: float, after: float, pixels: float) -> None:
    first, second = (np.zeros((1, *SIZE, 2)) + np.array([x, 0.1]) for x in (before, after))
    made = _shift(_write_warp(f'padding_mode = "{padding}"'), first, second)
    assert made == pytest.approx(pixels, abs=1e-9)


def test_heads_count_as_the_reference_listens_to_them() -> None:
    flows = _read_flows(_write_heads())
    before = _draw()
    moved = before["grid"].astype(np.float64)
    moved[:, ROWS : 2 * ROWS, :, 0] += 2 / COLUMNS  # the second head looks a pixel further right
    after = {"grid": moved, "attention": _draw(1)["attention"]}
    made = measure_flow_shift(before, after, match_flows(flows, flows), SIZE)
    assert made == pytest.approx(before["attention"][:, 1].mean(), rel=1e-5)
    before["attention"][:, 1] = 0
    assert measure_flow_shift(before, after, match_flows(flows, flows), SIZE) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("attributes", ['padding_mode = "border"', "align_corners = 1", 'padding_mode = "zeros"'])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_every_form_of_a_warp_samples_the_same_places(runtime: str, attributes: str, run_model: Run) -> None:
    """A DeformConv's offsets, and a GridSample for each head, mean the places that the model was written with."""
    plain = _write_heads(attributes)
    rewritten = merge_heads(plain, runtime, ()).model  # type: ignore[arg-type]
    ops = [node.op_type for node in rewritten.graph.node]
    assert (ops.count("DeformConv"), ops.count("GridSample")) == ((1, 0) if runtime == "onnxruntime" else (0, HEADS))
    feeds = _draw()
    feeds["grid"] *= 3  # beyond the picture too
    moved = feeds | {"grid": feeds["grid"] + np.float32(0.1)}
    (exposed, flows), (other, others) = expose_flows(plain), expose_flows(rewritten)
    before, same, after = run_model(exposed, feeds), run_model(other, feeds), run_model(other, moved)
    for pairs, expected, made in (
        (match_flows(flows, others), before, same),
        (match_flows(others, flows), same, before),
    ):
        assert [first.heads for first, _ in pairs] == [HEADS]
        assert measure_flow_shift(expected, made, pairs, SIZE) == pytest.approx(0, abs=1e-5)
    expected = measure_flow_shift(before, run_model(exposed, moved), match_flows(flows, flows), SIZE)
    assert expected and expected > 0.1
    assert measure_flow_shift(before, after, match_flows(flows, others), SIZE) == pytest.approx(expected, rel=1e-4)


def test_a_deformable_convolution_is_read_with_its_taps() -> None:
    """Tap (i, j) of pixel (h, w) lies at stride * (h, w) - pad + dilation * (i, j), moved by y, then x."""
    model = _write(
        """made = DeformConv <kernel_shape = [3, 2], strides = [2, 1], dilations = [1, 2], pads = [1, 2, 1, 2],
                              offset_group = 2> (features, weight, offsets)""",
        "float[1,2,8,6] features, float[2,2,3,2] weight, float[1,24,4,8] offsets",
        output="1,2,4,8",
    )
    (flow,) = _read_flows(model)
    moved = {"offsets": np.tile([0.25, -0.5], 12).reshape(1, 24, 1, 1) * np.ones((1, 24, 4, 8))}
    places = read_places(flow, moved)
    assert places.shape == (1, 2 * 3 * 2, 2, 4, 8)
    for group, i, j, h, w in np.ndindex(2, 3, 2, 4, 8):
        x, y = w - 2 + 2 * j - 0.5, 2 * h - 1 + i + 0.25
        expected = np.clip(x, -1, 6), np.clip(y, -1, 8)
        assert places[0, group * 6 + i * 2 + j, :, h, w] == pytest.approx(expected)


def test_a_place_that_is_no_number_is_infinitely_far() -> None:
    grid = np.zeros((1, *SIZE, 2))
    for value in (np.nan, np.inf):
        broken = grid.copy()
        broken[0, 3, 3, 0] = value
        assert _shift(_write_warp(), grid, broken) == _shift(_write_warp(), broken, broken) == np.inf


def test_the_shift_of_a_pair_is_that_of_its_furthest_warp() -> None:
    (flow,) = _read_flows(_write_warp())
    flows = [replace(flow, places=(name,), name=name) for name in "abc"]
    pixels = {"a": 0.5, "b": 2.0, "c": 1.0}
    before = {name: np.zeros((1, *SIZE, 2)) for name in pixels}
    after = {name: before[name] + np.array([shift * 2 / COLUMNS, 0]) for name, shift in pixels.items()}
    pairs = match_flows(flows, flows)
    assert measure_flow_shift(before, after, pairs, SIZE) == pytest.approx(2)
    after["a"] = np.zeros((2, *SIZE, 2))
    assert measure_flow_shift(before, after, pairs, SIZE) is None, "arrays that do not fit are not compared"
    assert measure_flow_shift(before, after, [], SIZE) is None


def _name(flow: Flow, name: str) -> Flow:
    return replace(flow, name=name, warp=replace(flow.warp, name=name))


def test_warps_are_matched_where_it_is_sure() -> None:
    (one,), (deform,) = _read_flows(_write_heads()), _read_flows(merge_heads(_write_heads(), "onnxruntime", ()).model)
    (single,) = _read_flows(_write_warp())
    a, b, other = _name(one, "a"), _name(one, "b"), _name(single, "c")
    assert match_flows([a, b, other], [b, other, a]) == [(a, a), (b, b), (other, other)]
    rewritten = _name(deform, "a/DeformConv")
    assert match_flows([a, b], [b, rewritten]) == [(a, rewritten), (b, b)], "the one rewritten went to the end"
    x, y = _name(one, ""), _name(one, "y")
    assert match_flows([a, b], [x, y]) == [(a, x), (b, y)], "by their order"
    slashed = _name(one, "/z")
    assert match_flows([x, b], [y, slashed]) == [(x, y), (b, slashed)], "no name is no name's beginning"
    two = [_name(one, "a/GridSample"), _name(one, "b/GridSample")]
    apart = [_name(deform, "b/DeformConv"), _name(deform, "a/DeformConv")]
    assert match_flows(two, apart) == [(two[0], apart[1]), (two[1], apart[0])], "each rewritten in its own way"
    heads = [_name(one, "a/GridSample"), _name(one, "a/GridSample_1")]
    assert match_flows(heads, heads[::-1]) == [(heads[0], heads[0]), (heads[1], heads[1])], "their own names first"
    assert match_flows([a], [_name(single, "a")]) == [], "of the same name, and something else"
    assert match_flows([a, b], [y, _name(deform, "z")]) == [], "in two forms the order is not sure"
    assert match_flows([a, b], [a]) == match_flows([a, other], [a, x]) == []


def test_exposing_adds_each_value_once_and_leaves_the_rest(export_warps: Export) -> None:
    model = export_warps("stacked grids", "repeat_interleave", batch="dynamic")
    before = model.SerializeToString()
    exposed, flows = expose_flows(model)
    names = [value.name for value in exposed.graph.output]
    assert [flow.heads for flow in flows] == [HEADS, HEADS]
    assert names == ["made_0", "made_1", *(name for flow in flows for name in (*flow.places, flow.attention))]
    assert len(set(names)) == len(names)
    assert [value.name for value in expose_flows(exposed)[0].graph.output] == names
    assert model.SerializeToString() == before


def test_warps_in_a_branch_and_those_of_no_known_size_are_left_out() -> None:
    size = f"float[1,2,{ROWS},{COLUMNS}]"
    branch = f"g () => ({size} inner) {{ inner = GridSample (features, grid) }}"
    inside = _write(
        f"made = If (flag) <then_branch = {branch}, else_branch = {branch}>",
        f"{size} features, float[1,{ROWS},{COLUMNS},2] grid, bool flag",
    )
    free = _write(WARP, "float[1,2,H,W] features, float[1,P,Q,2] grid", output="1,2,P,Q")
    for model in (inside, free):
        exposed, flows = expose_flows(model)
        assert (flows, [value.name for value in exposed.graph.output]) == ([], ["made"])


def test_a_warp_of_places_counts_where_its_places_are_used() -> None:
    nodes = f"""
      [inner] composed = GridSample (flow, grid)
      points = Transpose <perm = [0, 2, 3, 1]> (composed)
      {WARP.replace("grid", "points")}"""
    size = f"float[1,2,{ROWS},{COLUMNS}]"
    model = _write(nodes, f"{size} features, {size} flow, float[1,{ROWS},{COLUMNS},2] grid")
    assert [(flow.name, flow.places) for flow in _read_flows(model)] == [("warp", ("composed",))]


def test_an_opened_model_gives_the_same_pictures_and_its_places_beside(small_onnx: Path) -> None:
    (engine, flows), plain = open_flow_engine(small_onnx), open_engine(small_onnx)
    pair = open_pairs(None, engine.size, 1)[0]
    made, expected = engine.run(feed_pair(engine, pair)), plain.run(feed_pair(plain, pair))
    assert (engine.outputs, engine.path, engine.pictures) == (plain.outputs, small_onnx, plain.pictures)
    assert flows
    assert {len(flow.places) for flow in flows} == {1}
    for name, values in expected.items():
        np.testing.assert_allclose(made[name], values, rtol=0, atol=1e-6)
    for flow in flows:
        assert made[flow.places[0]].dtype == made[flow.attention].dtype == np.float32
    with pytest.raises(InputError, match=f"^{small_onnx}: "):
        engine.run({})


def test_float16_places_are_read_as_float32(tmp_path: Path) -> None:
    model = _write_warp()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(model, tmp_path / "half.onnx")
    engine, flows = open_flow_engine(tmp_path / "half.onnx")
    if not flows:
        pytest.skip("this onnxruntime samples no float16")
    made = engine.run({"features": np.ones((1, 2, *SIZE)), "grid": np.full((1, *SIZE, 2), 0.3)})
    assert (made["grid"].dtype, engine.outputs) == (np.float32, ("made",))


def test_what_shows_no_places_is_opened_as_it_is(small_checkpoint: Path, tmp_path: Path) -> None:
    relu = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 19]> g (float[2] x) => (float[2] y) { y = Relu(x) }'
    )
    onnx.save(relu, tmp_path / "relu.onnx")
    for path, runtime in ((tmp_path / "relu.onnx", "onnxruntime"), (small_checkpoint, "torch")):
        engine, flows = open_flow_engine(path)
        assert (engine.runtime, engine.path, flows) == (runtime, path, [])
    with pytest.raises(InputError, match=r"missing\.onnx"):
        open_flow_engine(tmp_path / "missing.onnx")

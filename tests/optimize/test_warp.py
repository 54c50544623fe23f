"""The analysis of warps: which nodes make a grid, and which do not."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.parser
import pytest
from onnx import ModelProto

from vtopt.optimize.warp import find_warps, list_grid_nodes, name_nodes, separate_constants

WARP = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,16,12] person, float[1,3,16,12] clothes, float[3,3,1,1] w, float[2,3,1,1] v)
  => (float[1,3,16,12] tryon) {
  [feature] features = Conv (clothes, w)
  [active] active = Relu (features)
  [head] flow = Conv (active, v)
  [tanh] bounded = Tanh (flow)
  [turn] grid = Transpose <perm = [0, 2, 3, 1]> (bounded)
  [warp] warped = GridSample <ATTRIBUTES> (active, grid)
  [add] tryon = Add (warped, person)
}"""


def _parse(text: str, attributes: str = "align_corners = 0") -> ModelProto:
    model = onnx.parser.parse_model(text.replace("ATTRIBUTES", attributes))
    onnx.checker.check_model(model)
    return model


def test_a_slice_goes_back_to_the_flow_head_and_holds_it() -> None:
    (warp,) = find_warps(_parse(WARP))
    assert warp.name == "warp"
    assert warp.grid_nodes == ("head", "tanh", "turn")
    assert warp.flow_heads == ("head",)
    assert list_grid_nodes([warp]) == sorted(["warp", "head", "tanh", "turn"])


def test_a_model_without_warps_has_none() -> None:
    text = WARP.replace("GridSample <ATTRIBUTES> (active, grid)", "Add (active, active)")
    assert find_warps(_parse(text)) == []
    assert list_grid_nodes([]) == []


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        pytest.param("align_corners = 0", ("bilinear", "zeros", False), id="defaults"),
        pytest.param('mode = "bilinear", padding_mode = "border"', ("bilinear", "border", False), id="border"),
        pytest.param('mode = "nearest", align_corners = 1', ("nearest", "zeros", True), id="aligned corners"),
        pytest.param('mode = "bicubic"', ("bicubic", "zeros", False), id="bicubic"),
    ],
)
def test_a_warp_says_how_it_samples(attributes: str, expected: tuple[str, str, bool]) -> None:
    (warp,) = find_warps(_parse(WARP, attributes))
    assert (warp.mode, warp.padding_mode, warp.align_corners) == expected


@pytest.mark.parametrize(("written", "read"), [("linear", "bilinear"), ("cubic", "bicubic")])
def test_the_modes_of_opset_20_have_their_older_names(written: str, read: str) -> None:
    (warp,) = find_warps(_parse(WARP.replace('"" : 17', '"" : 20'), f'mode = "{written}"'))
    assert warp.mode == read


def test_a_size_taken_from_features_does_not_make_them_part_of_a_grid() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[1,3,16,12] person, float[3,3,1,1] w, float[1,192,2] flow) => (float[1,3,16,12] tryon)
      <int64[4] order = {0, 2, 3, 1}, int64[1] cut = {3}, int64[1] start = {0}, int64[1] two = {2}> {
      [feature] features = Conv (person, w)
      [shape] shape = Shape (features)
      [gather] turned = Gather (shape, order)
      [slice] head = Slice (turned, start, cut)
      [concat] full = Concat <axis = 0> (head, two)
      [reshape] grid = Reshape (flow, full)
      [warp] tryon = GridSample (person, grid)
    }"""
    (warp,) = find_warps(_parse(text))
    assert warp.grid_nodes == ("gather", "slice", "concat", "reshape")
    assert warp.flow_heads == ()


def test_a_composed_grid_reaches_through_the_warp_that_composes_it() -> None:
    text = WARP.replace(
        "[warp] warped = GridSample <ATTRIBUTES> (active, grid)",
        """[compose] composed = GridSample (bounded, grid)
  [turn_again] second = Transpose <perm = [0, 2, 3, 1]> (composed)
  [warp] warped = GridSample (active, second)""",
    )
    compose, warp = find_warps(_parse(text))
    assert compose.grid_nodes == ("head", "tanh", "turn")
    assert warp.grid_nodes == ("head", "tanh", "turn", "compose", "turn_again")


def test_nodes_without_names_and_with_the_same_get_their_own() -> None:
    model = _parse(WARP)
    for index, name in enumerate(["", "Relu_1", "twice", "twice", "twice", "", "Relu_1"]):
        model.graph.node[index].name = name
    name_nodes(model)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert "" not in names
    assert (names[1], names[2]) == ("Relu_1", "twice")
    (warp,) = find_warps(model)
    assert (warp.name, warp.grid_nodes) == (names[5], tuple(names[2:5]))


def test_names_that_are_good_stay() -> None:
    model = _parse(WARP)
    before = model.SerializeToString()
    name_nodes(model)
    assert model.SerializeToString() == before


def test_a_constant_that_a_head_shares_is_copied_for_it() -> None:
    model = _make_shared()
    separate_constants(model, {"head"})
    inputs = {node.name: list(node.input) for node in model.graph.node}
    assert inputs == {"feature": ["person", "w"], "head": ["feature", "w_float32"], "turn": ["flow"]}
    first, second = model.graph.initializer
    assert (first.name, second.name) == ("w", "w_float32")
    assert first.float_data == second.float_data


def test_a_constant_of_protected_nodes_alone_is_left() -> None:
    model = _make_shared()
    before = model.SerializeToString()
    separate_constants(model, {"feature", "head", "turn"})
    separate_constants(model, set())
    assert model.SerializeToString() == before


def _make_shared() -> ModelProto:
    return onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
    g (float[1,1,4,4] person) => (float[1,4,4,1] grid) <float[1,1,1,1] w = {2.0}> {
      [feature] feature = Conv (person, w)
      [head] flow = Conv (feature, w)
      [turn] grid = Transpose <perm = [0, 2, 3, 1]> (flow)
    }""")


def test_every_warp_of_an_export_is_found(small_onnx: Path) -> None:
    model = onnx.load(small_onnx)
    name_nodes(model)
    warps = find_warps(model)
    nodes = {node.name: node for node in model.graph.node}
    assert [warp.name for warp in warps] == [n.name for n in model.graph.node if n.op_type == "GridSample"]
    assert all((warp.mode, warp.padding_mode, warp.clamped) == ("bilinear", "border", True) for warp in warps)
    assert all(warp.flow_heads for warp in warps)
    convolutions = {name for name, node in nodes.items() if node.op_type == "Conv"}
    heads = {name for warp in warps for name in warp.flow_heads}
    # 3 flow heads for each of the 2 levels; everything else is features.
    assert len(heads) == 3 * 2
    assert heads < convolutions


def _clamp(steps: str, attributes: str = 'padding_mode = "zeros"', places: str = "float[1,2,5,7] planes") -> ModelProto:
    return onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
    g (float[1,3,8,4] x, {places}) => (float[1,3,5,7] y)
      <float[2] high = {{0.75, 0.875}}, float[2] low = {{-0.75, -0.875}}, float[1,2,1,1] top = {{0.75, 0.875}},
       float[1,2,1,1] bottom = {{-0.75, -0.875}}, float[2] swapped = {{0.875, 0.75}},
       float[2] mixed = {{0.75, -0.875}}, float one = {{1}},
       float minus = {{-1}}, float half = {{0.5}}, float less = {{-0.5}}> {{
      {steps}
      [warp] y = GridSample <{attributes or "align_corners = 0"}> (x, grid)
    }}""")


TURN = "Transpose <perm = [0, 2, 3, 1]>"


@pytest.mark.parametrize(
    ("steps", "attributes"),
    [
        pytest.param(f"a = {TURN} (planes)\n b = Max (a, low)\n grid = Min (b, high)", "", id="points"),
        pytest.param(f"a = {TURN} (planes)\n b = Min (high, a)\n grid = Max (low, b)", "", id="in the other order"),
        pytest.param(f"a = Max (planes, bottom)\n b = Min (a, top)\n grid = {TURN} (b)", "", id="planes"),
        pytest.param(f"a = Max (planes, bottom)\n b = {TURN} (a)\n grid = Min (b, high)", "", id="before and after"),
        pytest.param(f"a = Clip (planes, minus, one)\n grid = {TURN} (a)", "align_corners = 1", id="align_corners 1"),
    ],
)  # fmt: skip
def test_a_grid_that_never_leaves_the_features_is_border(steps: str, attributes: str) -> None:
    (warp,) = find_warps(_clamp(steps, attributes))
    assert (warp.padding_mode, warp.clamped, warp.places, warp.planar) == ("border", True, "planes", True)


@pytest.mark.parametrize(
    ("steps", "attributes"),
    [
        pytest.param(f"a = {TURN} (planes)\n grid = Max (a, low)", "", id="one bound alone"),
        pytest.param(f"a = {TURN} (planes)\n b = Max (a, low)\n grid = Max (b, low)", "", id="one bound twice"),
        pytest.param(f"a = {TURN} (planes)\n b = Min (a, low)\n grid = Max (b, high)", "", id="bounds the wrong way"),
        pytest.param(f"a = {TURN} (planes)\n grid = Clip (a, less, half)", "", id="other bounds"),
        pytest.param(f"a = {TURN} (planes)\n grid = Clip (a, minus, one)", "", id="bounds of align_corners 1"),
        pytest.param(f"a = {TURN} (planes)\n b = Max (a, low)\n grid = Min (b, high)", "align_corners = 1", id="of 0"),
        pytest.param(f"a = {TURN} (planes)\n b = Clip (a, minus, one)\n grid = Mul (b, one)", "", id="moved"),
        pytest.param(f"a = {TURN} (planes)\n b = Max (a, low)\n grid = Min (b, mixed)", "", id="bounds of two signs"),
    ],
)  # fmt: skip
def test_a_grid_that_is_bound_otherwise_pads_with_zeros(steps: str, attributes: str) -> None:
    (warp,) = find_warps(_clamp(steps, attributes))
    assert (warp.padding_mode, warp.clamped) == ("zeros", False)


def test_bounds_of_height_and_width_in_the_wrong_order_are_not_taken_for_border() -> None:
    """x is bound to 1 - 1 / height and y to 1 - 1 / width: samples near the right edge fade to zero."""
    both = f"a = {TURN} (planes)\n b = Max (a, wrong)\n grid = Min (b, swapped)"
    model = _clamp(both)
    model.graph.initializer.append(onnx.helper.make_tensor("wrong", onnx.TensorProto.FLOAT, [2], [-0.875, -0.75]))
    (warp,) = find_warps(model)
    assert not warp.clamped


def test_a_layout_does_not_hide_the_places() -> None:
    (warp,) = find_warps(_clamp(f"a = {TURN} (planes)\n grid = Identity (a)", 'padding_mode = "border"'))
    assert (warp.places, warp.planar, warp.places_shape) == ("planes", True, (1, 2, 5, 7))
    (warp,) = find_warps(_clamp("grid = Identity (points)", places="float[1,5,7,2] points"))
    assert (warp.places, warp.planar, warp.grid) == ("grid", False, "grid")


def test_a_deformable_convolution_is_a_warp_whose_offsets_are_its_grid() -> None:
    model = onnx.parser.parse_model("""<ir_version: 9, opset_import: ["" : 19]>
    g (float[1,3,6,5] x, float[1,3,6,5] person, float[3,1,1,2] w, float[4,3,1,1] v, float[2,3,1,1] u)
      => (float[1,3,6,4] y) {
      [scores] scores = Conv <pads = [0, 0, 0, -1]> (person, u)
      [softmax] mask = Softmax <axis = 1> (scores)
      [head] flow = Conv <pads = [0, 0, 0, -1]> (person, v)
      [scale] offset = Tanh (flow)
      [warp] y = DeformConv <group = 3, kernel_shape = [1, 2]> (x, w, offset, , mask)
    }""")
    (warp,) = find_warps(model)
    assert (warp.op, warp.heads, warp.attention, warp.features) == ("DeformConv", 2, "mask", "x")
    assert (warp.grid, warp.grid_nodes, warp.flow_heads) == ("offset", ("head", "scale"), ("head",))
    assert list_grid_nodes([warp]) == ["head", "scale", "warp"]


def test_warps_inside_a_branch_come_with_its_name_and_reach_outside() -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
    g (bool flag, float[1,3,6,5] x, float[1,6,5,2] flow) => (float[1,3,6,5] y) {
      [tanh] grid = Tanh (flow)
      [outer] y = If (flag) <
        then_branch = a () => (float[1,3,6,5] p) { [inner] p = GridSample (x, grid) },
        else_branch = b () => (float[1,3,6,5] q) { [same] q = Identity (x) }>
    }""")
    (warp,) = find_warps(model)
    assert (warp.name, warp.subgraph, warp.grid_nodes) == ("inner", "outer", ("tanh",))


def test_a_grid_sample_of_a_foreign_domain_is_no_warp() -> None:
    model = _parse(WARP)
    model.graph.node[-2].domain = "com.acme"
    assert find_warps(model) == []


def test_a_volume_is_sampled_by_a_warp_too() -> None:
    model = onnx.parser.parse_model("""<ir_version: 9, opset_import: ["" : 20]>
    g (float[1,3,4,8,6] x, float[1,2,5,7,3] flow) => (float[1,3,2,5,7] y) {
      [tanh] grid = Tanh (flow)
      [warp] y = GridSample (x, grid)
    }""")
    (warp,) = find_warps(model)
    assert (warp.heads, warp.features_shape, warp.grid_nodes) == (1, (1, 3, 4, 8, 6), ("tanh",))


def test_a_grid_of_unknown_shape_is_not_taken_for_planes() -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17, "com.acme" : 1]>
    g (float[1,3,8,6] x, float[1,5,7,2] flow) => (float[1,3,H,W] y) {
      [own] free = com.acme.Bend (flow)
      [same] grid = Identity (free)
      [warp] y = GridSample <padding_mode = "border"> (x, grid)
    }""")
    (warp,) = find_warps(model)
    assert (warp.planar, warp.places) == (False, "grid")


HELD = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,16,12] clothes, bool flag, float[2,3,1,1] v) => (float[1,3,16,12] tryon) {
  [head] flow = Conv (clothes, v)
  [tanh] moved = Tanh (flow)
  [if] grid = If (flag) <
    then_branch = a () => (float[1,16,12,2] p) { [then] p = Transpose <perm = [0, 2, 3, 1]> (moved) },
    else_branch = b () => (float[1,16,12,2] q) {
      [tanh] still = Identity (moved)
      [else] q = Transpose <perm = [0, 2, 3, 1]> (still) }>
  [warp] tryon = GridSample (clothes, grid)
}"""


def test_a_grid_that_a_branch_makes_reaches_what_the_branch_reads() -> None:
    model = onnx.parser.parse_model(HELD)
    name_nodes(model)
    (warp,) = find_warps(model)
    assert warp.flow_heads == ("head",)
    assert {"head", "tanh", "if", "then", "else"} <= set(warp.grid_nodes)
    assert len(set(warp.grid_nodes)) == 6


def test_a_grid_that_enters_a_loop_reaches_what_went_in() -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
    g (float[1,3,16,12] clothes, float[2,3,1,1] v, int64 count, bool go) => (float[1,3,16,12] tryon) {
      [head] flow = Conv (clothes, v)
      [turn] start = Transpose <perm = [0, 2, 3, 1]> (flow)
      [loop] last, tryon = Loop (count, go, start, clothes) <
        body = b (int64 i, bool c, float[1,16,12,2] grid, float[1,3,16,12] x)
          => (bool again, float[1,16,12,2] same, float[1,3,16,12] y) {
          [more] again = Identity (c)
          [keep] same = Identity (grid)
          [warp] y = GridSample (x, grid) }>
    }""")
    (warp,) = find_warps(model)
    assert (warp.subgraph, warp.flow_heads) == ("loop", ("head",))
    assert "turn" in warp.grid_nodes


def test_onnxruntime_s_own_grid_sample_is_protected_too() -> None:
    model = _parse(WARP)
    model.graph.node[-2].domain = "com.microsoft"
    (warp,) = find_warps(model)
    assert (warp.op, warp.grid_nodes) == ("com.microsoft.GridSample", ("head", "tanh", "turn"))


def test_a_clamped_bicubic_grid_is_not_called_border() -> None:
    text = WARP.replace("[warp] warped = GridSample <ATTRIBUTES> (active, grid)",
                        """[low] above = Max (grid, least)
  [high] kept = Min (above, most)
  [warp] warped = GridSample <ATTRIBUTES> (active, kept)""")  # fmt: skip
    text = text.replace("=> (float[1,3,16,12] tryon) {",
                        """=> (float[1,3,16,12] tryon)
  <float[2] least = {-0.9166667, -0.9375}, float[2] most = {0.9166667, 0.9375}> {""")  # fmt: skip
    (bilinear,), (bicubic,) = (find_warps(_parse(text, f'mode = "{mode}"')) for mode in ("bilinear", "bicubic"))
    assert (bilinear.padding_mode, bilinear.clamped) == ("border", True)
    assert (bicubic.padding_mode, bicubic.clamped) == ("zeros", False)


def test_attention_of_unknown_height_is_no_crash() -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
    g (float[1,3,8,6] x, float[1,16,6,2] grid, float[1,2,h,6] attention) => (float[1,3,8,6] y)
      <int64[5] parts = {1, 3, 2, 8, 6}, int64[5] wide = {1, 1, 2, 8, 6}, int64[1] two = {2}> {
      [warp] sampled = GridSample (x, grid)
      [open] apart = Reshape (sampled, parts)
      [lift] weights = Reshape (attention, wide)
      [weigh] weighted = Mul (apart, weights)
      [sum] y = ReduceSum <keepdims = 0> (weighted, two)
    }""")
    (warp,) = find_warps(model)
    assert warp.heads == 1

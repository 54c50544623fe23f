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

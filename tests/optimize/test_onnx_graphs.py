"""Reading a graph for analysis: shapes that can be known are, and the model stays as it is."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from vtopt.optimize.onnx_graphs import (
    list_data_inputs,
    list_readers,
    list_scoped_nodes,
    read_constant,
    read_graph,
    read_shape,
    read_sides,
)

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N,3,8,6] x, float[3,1,1] overridable) => (float[N,A,B,C] y, int64[4] size)
  <float[3,1,1] overridable = {1, 2, 3}, float[3,1,1] fixed = {4, 5, 6}, int64[4] turn = {0, 2, 3, 1}> {
  [shape] size = Shape (x)
  [twice] doubled = Add (x, x)
  [constant] two = Constant <value = float {2}> ()
  [scale] scaled = Mul (doubled, two)
  [fix] moved = Add (scaled, fixed)
  [override] shifted = Add (moved, overridable)
  [layout] flat = Reshape (shifted, size)
  [out] y = Transpose <perm = [0, 2, 3, 1]> (flat)
}"""


@pytest.fixture
def graph() -> ir.Graph:
    return read_graph(onnx.parser.parse_model(TEXT)).graph


def _find(graph: ir.Graph, name: str) -> ir.Value:
    values = (*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs))
    return next(value for value in values if value.name == name)


def _find_node(graph: ir.Graph, name: str) -> ir.Node:
    return next(node for node in graph if node.name == name)


def test_shapes_are_known_and_a_batch_that_varies_is_two(graph: ir.Graph) -> None:
    assert read_shape(_find(graph, "x")) == (2, 3, 8, 6)
    assert read_shape(_find(graph, "shifted")) == (2, 3, 8, 6)


def test_a_shape_that_is_computed_from_another_is_known(graph: ir.Graph) -> None:
    assert read_shape(_find(graph, "flat")) == (2, 3, 8, 6)
    assert read_shape(_find(graph, "y")) == (2, 8, 6, 3)


def test_sides_that_vary_are_not_known() -> None:
    model = onnx.parser.parse_model(TEXT.replace("float[N,3,8,6] x", "float[N,3,H,W] x"))
    assert read_shape(_find(read_graph(model).graph, "scaled")) == (2, 3, None, None)
    assert read_shape(None) is None
    assert read_shape(ir.Value(name="unknown")) is None


def test_shapes_that_an_exporter_noted_for_its_own_batch_do_not_stay() -> None:
    model = onnx.parser.parse_model(TEXT)
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("scaled", onnx.TensorProto.FLOAT, ["N", 3, 8, 6]))
    assert read_shape(_find(read_graph(model).graph, "scaled")) == (2, 3, 8, 6)


def test_the_model_is_not_changed() -> None:
    model = onnx.parser.parse_model(TEXT)
    before = model.SerializeToString()
    read_graph(model)
    assert model.SerializeToString() == before


def test_constants_are_what_nothing_can_change(graph: ir.Graph) -> None:
    two, fixed = read_constant(_find(graph, "two")), read_constant(_find(graph, "fixed"))
    assert two is not None and fixed is not None
    assert two.tolist() == 2
    np.testing.assert_array_equal(fixed.ravel(), [4, 5, 6])
    assert read_constant(_find(graph, "overridable")) is None
    assert read_constant(_find(graph, "scaled")) is None
    assert read_constant(None) is None


def test_data_inputs_are_those_whose_numbers_go_in(graph: ir.Graph) -> None:
    def names(node: str) -> list[str | None]:
        return [value.name for value in list_data_inputs(_find_node(graph, node))]

    assert names("scale") == ["doubled"]
    assert names("override") == ["moved", "overridable"]
    assert names("layout") == ["shifted"]


def test_readers_are_named_once_and_shape_is_none(graph: ir.Graph) -> None:
    assert [node.name for node in list_readers(_find(graph, "x"))] == ["twice"]
    assert list_readers(_find(graph, "y")) == []


def test_nodes_inside_nodes_come_with_the_name_of_what_they_lie_in() -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
    g (bool c, float[2] x) => (float[2] y) {
      [if] y = If (c) <then_branch = a () => (float[2] p) { [in_a] p = Relu (x) },
                       else_branch = b () => (float[2] q) {
                         [inner] q = If (c) <then_branch = d () => (float[2] r) { [in_d] r = Neg (x) },
                                             else_branch = e () => (float[2] s) { [in_e] s = Abs (x) }> }>
    }""")
    nodes = list_scoped_nodes(read_graph(model).graph)
    assert [(scope.name if scope else "", node.name) for scope, node in nodes] == [
        *(("", "if"), ("if", "in_a"), ("if", "inner")),
        *(("inner", "in_d"), ("inner", "in_e")),
    ]


def test_sides_are_those_of_a_known_shape() -> None:
    assert read_sides((1, 2, 3)) == (1, 2, 3)
    with pytest.raises(AssertionError):
        read_sides((1, None))
    with pytest.raises(AssertionError):
        read_sides(None)

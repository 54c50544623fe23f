"""Read an ONNX graph for analysis: values that know their shapes, constants, who made them and who reads them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir
    from numpy.typing import NDArray
    from onnx import ModelProto

__all__ = [
    "LAYOUT_OPS",
    "SHAPE_OPS",
    "Shape",
    "list_bodies",
    "list_data_inputs",
    "list_readers",
    "list_scoped_nodes",
    "read_constant",
    "read_graph",
    "read_shape",
    "read_sides",
]

Shape = tuple[int | None, ...]

ANALYSIS_BATCH = 2
"""Stands for a batch that may vary, so that shapes can be compared; no network has two of one picture."""

LAYOUT_OPS = frozenset({"Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Tile", "Transpose", "Unsqueeze"})
"""These move and copy the numbers of their first input, and change none."""

SHAPE_OPS = frozenset({"Shape", "Size"})
"""These read no number of their input."""


def read_graph(model: ModelProto) -> ir.Model:
    """Return the model with every shape that can be inferred; a batch that may vary is taken as 2.

    The copy is for analysis: names are those of `model`, which is not changed, shapes of inputs may not be.
    """
    import onnx_ir as ir
    from onnx_ir.passes.common import ShapeInferencePass

    graph = ir.from_proto(model)
    for _, node in list_scoped_nodes(graph.graph):
        node.name = node.name or f"{node.op_type} of {node.outputs[0].name if node.outputs else ''}"
    varies = False
    for value in graph.graph.inputs:
        if value.shape is not None and len(value.shape) and not isinstance(value.shape[0], int):
            value.shape = ir.Shape([ANALYSIS_BATCH, *value.shape[1:]])
            varies = True
    if varies:
        for value in (output for _, node in list_scoped_nodes(graph.graph) for output in node.outputs):
            value.shape = None
    return ShapeInferencePass(data_prop=True, strict_mode=False)(graph).model


def list_scoped_nodes(graph: ir.Graph, holder: ir.Node | None = None) -> Iterator[tuple[ir.Node | None, ir.Node]]:
    """Yield every node behind the If, Loop or Scan whose body it lies in, None for those of the graph itself.

    Nodes of a graph come in its order, those inside one of them behind them all.
    """
    yield from ((holder, node) for node in graph)
    for node in graph:
        for body in list_bodies(node):
            yield from list_scoped_nodes(body, node)


def list_bodies(node: ir.Node) -> list[ir.Graph]:
    """Return the graphs inside an If, Loop or Scan; none for another node."""
    import onnx_ir as ir

    attributes = node.attributes.values()
    return [attribute.as_graph() for attribute in attributes if attribute.type == ir.AttributeType.GRAPH]


def read_shape(value: ir.Value | None) -> Shape | None:
    """Return the shape, None for a side or a rank that is not known."""
    if value is None or value.shape is None:
        return None
    return tuple(side if isinstance(side, int) else None for side in value.shape)


def read_sides(shape: Shape | None) -> tuple[int, ...]:
    """Return a shape that is known to be known."""
    assert shape is not None
    sides = tuple(side for side in shape if side is not None)
    assert len(sides) == len(shape)
    return sides


def read_constant(value: ir.Value | None) -> NDArray[np.generic] | None:
    """Return what an initializer or a Constant node holds, None for a value that is computed."""
    import onnx_ir as ir

    tensor = None if value is None or value.is_graph_input() else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def list_data_inputs(node: ir.Node) -> list[ir.Value]:
    """Return the inputs whose numbers go into what the node makes: not constants, and not sizes of a layout."""
    inputs = node.inputs[:1] if node.op_type in LAYOUT_OPS else node.inputs
    return [value for value in inputs if value is not None and read_constant(value) is None]


def list_readers(value: ir.Value) -> list[ir.Node]:
    """Return the nodes that read the value's numbers, each once; those that ask for its shape are left out."""
    return [node for node in dict.fromkeys(value.consumers()) if node.op_type not in SHAPE_OPS]

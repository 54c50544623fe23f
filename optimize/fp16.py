"""Cast a model to float16; grids and the arithmetic that makes them stay float32."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from .stored_weights import store_half
from .warp import find_warps, list_grid_nodes, list_nodes, name_nodes, separate_constants

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["cast_fp16"]

LARGEST = 65504.0
"""The largest float16; the converter's own default cuts constants off at 10000."""


def cast_fp16(model: ModelProto) -> ModelProto:
    """Return the model with float16 weights and activations, and float32 inputs and outputs.

    GridSample and every node upstream of a grid, flow heads included, compute in float32: half a unit in
    the last place of a float16 grid is 0.06 pixels at a width of 256. The weights of flow heads are still
    stored as float16 and cast when the model loads; other constants of a grid, its coordinates for instance,
    are not.
    """
    from onnxconverter_common import float16

    name_nodes(model)
    protected = list_grid_nodes(find_warps(model))
    separate_constants(model, protected)
    separated = _separate_outputs(model, protected)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the float32 number", category=UserWarning)
        cast = float16.convert_float_to_float16(
            model, max_finite_val=LARGEST, keep_io_types=True, node_block_list=[*protected, *_list_makers(model)]
        )
    _bypass_half(cast, protected, separated)
    return store_half(cast)


def _list_makers(model: ModelProto) -> list[str]:
    """Name the nodes that make float32 of something else, a mask for instance: the converter overlooks them."""
    from onnx import TensorProto, helper

    def makes_float(node: NodeProto) -> bool:
        if node.op_type == "Cast":
            return helper.get_node_attr_value(node, "to") == TensorProto.FLOAT
        return node.op_type == "ConstantOfShape"

    return [node.name for node in list_nodes(model.graph) if makes_float(node)]


def _separate_outputs(model: ModelProto, protected: Collection[str]) -> list[str]:
    """Let an Identity make every output that the converter would not do right, and return those nodes' names.

    They are outputs that nodes read too, which would read float32, and those of nodes that stay float32, which
    would come back as float16.
    """
    from onnx import helper
    from onnxconverter_common.float16 import DEFAULT_OP_BLOCK_LIST

    nodes = list(list_nodes(model.graph))
    read = {name for node in nodes for name in node.input}
    makers = {name: node for node in model.graph.node for name in node.output}
    taken = read.union(makers, (node.name for node in nodes))
    separated = []
    for output in model.graph.output:
        maker = makers.get(output.name)
        if maker is None or not (
            output.name in read or maker.name in protected or maker.op_type in DEFAULT_OP_BLOCK_LIST
        ):
            continue
        inner = f"{output.name}_inside"
        while inner in taken:
            inner += "_"
        for node in nodes:
            node.input[:] = [inner if name == output.name else name for name in node.input]
            node.output[:] = [inner if name == output.name else name for name in node.output]
        value = model.graph.value_info.add()
        value.CopyFrom(output)
        value.name = inner
        model.graph.node.append(helper.make_node("Identity", [inner], [output.name], name=inner))
        separated.append(inner)
    return separated


def _bypass_half(model: ModelProto, protected: Collection[str], separated: Collection[str]) -> None:
    """Let protected nodes, and outputs, have what protected nodes made, not its float16 cast back to float32."""
    from onnx import TensorProto, helper

    whole = {output for node in model.graph.node if node.name in protected for output in node.output}
    whole |= {value.name for value in model.graph.input}
    casts = {node.output[0]: node for node in model.graph.node if node.op_type == "Cast"}

    def find_source(name: str, to: int) -> str | None:
        node = casts.get(name)
        if node is None or helper.get_node_attr_value(node, "to") != to:
            return None
        return node.input[0]

    for node in model.graph.node:
        if node.name not in protected:
            continue
        for index, name in enumerate(node.input):
            half = find_source(name, TensorProto.FLOAT)
            source = half and find_source(half, TensorProto.FLOAT16)
            if source in whole:
                node.input[index] = source
    readers = {name: node for node in model.graph.node for name in node.input}
    for node in [node for node in model.graph.node if node.name in separated]:
        source = find_source(node.input[0], TensorProto.FLOAT16)
        if source in whole:
            back = readers[node.output[0]]
            node.input[0], node.output[0] = source, back.output[0]
            model.graph.node.remove(back)
            del casts[back.output[0]]
    _drop_unread(model, casts.values())


def _drop_unread(model: ModelProto, nodes: Iterable[NodeProto]) -> None:
    """Remove those of `nodes`, each after the one it reads, whose output nothing reads."""
    outputs = {output.name for output in model.graph.output}
    for node in reversed(list(nodes)):
        read = {name for reader in model.graph.node for name in reader.input}
        if not outputs.union(read).intersection(node.output):
            model.graph.node.remove(node)

"""Cast a model to float16; grids and the arithmetic that makes them stay float32."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from .warp import find_warps, list_grid_nodes, name_nodes, separate_constants

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["cast_fp16"]

SMALL_TENSOR = 256
"""Weights of fewer numbers stay float32 in flow heads: casting them costs more bytes than it saves."""
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
    warps = find_warps(model)
    protected = list_grid_nodes(warps)
    separate_constants(model, protected)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the float32 number", category=UserWarning)
        cast = float16.convert_float_to_float16(
            model, max_finite_val=LARGEST, keep_io_types=True, node_block_list=protected
        )
    _bypass_half(cast, protected)
    _store_half(cast, {name for warp in warps for name in warp.flow_heads})
    return cast


def _bypass_half(model: ModelProto, protected: Collection[str]) -> None:
    """Let protected nodes read what protected nodes made, not its float16 for others cast back to float32."""
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
    _drop_unread(model, casts.values())


def _drop_unread(model: ModelProto, nodes: Iterable[NodeProto]) -> None:
    """Remove those of `nodes`, each after the one it reads, whose output nothing reads."""
    outputs = {output.name for output in model.graph.output}
    for node in reversed(list(nodes)):
        read = {name for reader in model.graph.node for name in reader.input}
        if not outputs.union(read).intersection(node.output):
            model.graph.node.remove(node)


def _store_half(model: ModelProto, heads: Collection[str]) -> None:
    """Store the large float32 weights of `heads` as float16, cast back where they are used."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    casts = {}
    for node in model.graph.node:
        tensor = initializers.get(node.input[1]) if node.name in heads else None
        if tensor is None or tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < SMALL_TENSOR:
            continue
        name = tensor.name
        if name not in casts:
            half = numpy_helper.from_array(values.astype(np.float16), f"{name}_fp16")
            model.graph.initializer.append(half)
            casts[name] = helper.make_node(
                "Cast", [half.name], [f"{name}_fp32"], f"{name}_restore", to=TensorProto.FLOAT
            )
        node.input[1] = f"{name}_fp32"
    used = {name for node in model.graph.node for name in node.input}
    for name in casts:
        if name not in used:
            model.graph.initializer.remove(initializers[name])
    nodes = [*casts.values(), *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)

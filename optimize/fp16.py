"""Cast a model to float16; grids and the arithmetic that makes them stay float32."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from typing import TYPE_CHECKING

from .warp import find_warps, list_grid_nodes, name_nodes

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["cast_fp16"]

SMALL_TENSOR = 256
"""Constants of fewer numbers stay float32 beside the warps: casting them costs more bytes than it saves."""


def cast_fp16(model: ModelProto) -> ModelProto:
    """Return the model with float16 weights and activations, and float32 inputs and outputs.

    GridSample and every node upstream of a grid, flow heads included, compute in float32: half a unit in
    the last place of a float16 grid is 0.06 pixels at a width of 256. Their weights are still stored as
    float16 and cast when the model loads.
    """
    from onnxconverter_common import float16

    name_nodes(model)
    protected = list_grid_nodes(find_warps(model))
    _separate_constants(model, set(protected))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the float32 number", category=UserWarning)
        cast = float16.convert_float_to_float16(
            model, keep_io_types=True, node_block_list=protected
        )
    _store_half(cast, set(protected))
    return cast


def _separate_constants(model: ModelProto, protected: Collection[str]) -> None:
    """Give protected nodes constants of their own: one shared with a cast node would get the wrong type.

    Simplifiers merge equal constants, biases of zeros for instance.
    """
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    shared = {name for node in model.graph.node if node.name not in protected for name in node.input}
    for node in model.graph.node:
        if node.name not in protected:
            continue
        for index, name in enumerate(node.input):
            if name in shared and name in initializers:
                own = f"{name}_float32"
                if own not in initializers:
                    copy = model.graph.initializer.add()
                    copy.CopyFrom(initializers[name])
                    copy.name = own
                    initializers[own] = copy
                node.input[index] = own


def _store_half(model: ModelProto, nodes: Collection[str]) -> None:
    """Store the large float32 constants of `nodes` as float16, cast back where they are used."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    casts = {}
    for node in model.graph.node:
        if node.name not in nodes:
            continue
        for index, name in enumerate(node.input):
            tensor = initializers.get(name)
            if tensor is None or tensor.data_type != TensorProto.FLOAT:
                continue
            values = numpy_helper.to_array(tensor)
            if values.size < SMALL_TENSOR:
                continue
            if name not in casts:
                half = numpy_helper.from_array(values.astype(np.float16), f"{name}_fp16")
                model.graph.initializer.append(half)
                casts[name] = helper.make_node(
                    "Cast", [half.name], [f"{name}_fp32"], f"{name}_restore", to=TensorProto.FLOAT
                )
            node.input[index] = f"{name}_fp32"
    used = {name for node in model.graph.node for name in node.input}
    for name in casts:
        if name not in used:
            model.graph.initializer.remove(initializers[name])
    nodes_before = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts.values(), *nodes_before])

"""Store the weights of a model as int8; it computes in float32, as fast as before and a quarter of the size."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from ..stored_weights import Reader, Stored, store_weights
from ..warp import find_warps, list_grid_nodes, name_nodes

if TYPE_CHECKING:
    import numpy as np
    from onnx import ModelProto

__all__ = ["quantize_weights"]

LARGEST = 127
"""Symmetric: -128 is not used."""


def quantize_weights(model: ModelProto, *, float_nodes: Collection[str] = ()) -> ModelProto:
    """Return the model with int8 weights and a float32 scale per output channel; activations stay float32.

    Weights are the constants of Conv, ConvTranspose, Gemm and MatMul, restored by Cast and Mul when the model
    loads. Float32 stay the nodes that make grids, flow heads included, `float_nodes` (by name), and weights too
    small or oddly shared to save anything; `store_half` halves most of those.

    OpenVINO multiplies matrices (not convolutions) by int8 weights in int8, and rounds the activations as it goes.

    A channel's range is its largest number: ranges of least squared error gave no better pictures. Nothing is
    calibrated, `model` is not changed, and the same model gives the same bytes.
    """
    quantized = type(model)()
    quantized.CopyFrom(model)
    name_nodes(quantized)
    store_weights(quantized, {*list_grid_nodes(find_warps(quantized)), *float_nodes}, _encode_int8)
    return quantized


def _encode_int8(name: str, values: np.ndarray, readers: Sequence[Reader]) -> Stored | None:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    axes = {_find_summed_axes(reader, values.ndim) for reader in readers}
    if len(axes) > 1 or not np.isfinite(values).all():
        return None
    scales = np.abs(values).max(axis=axes.pop(), keepdims=True) / np.float32(LARGEST)
    scales[scales < np.finfo(np.float32).tiny] = 1
    if values.size + scales.nbytes >= values.nbytes // 2:
        return None
    tensors = [
        numpy_helper.from_array(np.rint(values / scales).astype(np.int8), f"{name}_int8"),
        numpy_helper.from_array(scales, f"{name}_scale"),
    ]
    whole = f"{name}_whole"
    nodes = [
        helper.make_node("Cast", [tensors[0].name], [whole], f"{name}_cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", [whole, tensors[1].name], [name], f"{name}_mul"),
    ]
    return Stored(tensors, nodes)


def _find_summed_axes(reader: Reader, rank: int) -> tuple[int, ...]:
    """Return the axes of a weight that share a scale: those that are summed over for one output channel.

    A ConvTranspose's weights are (I, O / groups, *kernel); with several groups each input channel has scales
    of its own too.
    """
    from onnx import helper

    node, slot = reader
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    match node.op_type:
        case "Conv":
            return tuple(range(1, rank))
        case "ConvTranspose":
            kernel = tuple(range(2, rank))
            return kernel if attributes.get("group", 1) > 1 else (0, *kernel)
        case "Gemm":
            return (1 if attributes.get("transB") else 0,)
        case _:  # MatMul
            return (rank - 1 if slot == 0 or rank == 1 else rank - 2,)

"""Store weights in fewer bytes than they are computed with: every runtime restores them once, when it loads.

What restores a weight is made of operators that onnxruntime and OpenVINO fold away, such as Cast and Mul, so a
run costs what it cost before. DequantizeLinear is none of them: onnxruntime keeps it, and runs it every time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .warp import find_warps, list_grid_nodes, name_nodes

if TYPE_CHECKING:
    import numpy as np
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

__all__ = ["SMALL_TENSOR", "Encode", "Reader", "Stored", "store_half", "store_weights"]

WEIGHT_SLOTS = {"Conv": (1,), "ConvTranspose": (1,), "Gemm": (1,), "MatMul": (0, 1)}
"""What multiplies by weights -> its inputs that may hold them."""

SMALL_TENSOR = 256
"""Weights of fewer numbers stay as they are: what restores them costs more bytes than they would save."""

HALF_ROUNDING = 2.0**-11
"""The relative error of a float16; a weight that would lose more, by its largest number, stays float32."""


class Reader(NamedTuple):
    """A node that multiplies by a weight."""

    node: NodeProto
    slot: int
    """Which of its inputs the weight is."""


class Stored(NamedTuple):
    """A weight as it lies in the file."""

    tensors: list[TensorProto]
    nodes: list[NodeProto]
    """These restore the weight, in order; the last makes a float32 tensor of the weight's name."""


Encode = Callable[[str, "np.ndarray", Sequence[Reader]], "Stored | None"]
"""(name, numbers, readers) -> how to store a weight, None to leave it as it is."""


def store_half(model: ModelProto) -> ModelProto:
    """Return the model with its weights stored as float16, to half the size; it computes in float32 as before.

    Takes float32 models, and what int8 has left float. Weights are the constants of Conv, ConvTranspose, Gemm
    and MatMul; small ones stay, and those that float16 cannot hold: beyond 65504, or all below 6e-5. What makes
    a grid stays but for the convolutions of its flow head. `model` is not changed.
    """
    half = type(model)()
    half.CopyFrom(model)
    name_nodes(half)
    warps = find_warps(half)
    heads = {name for warp in warps for name in warp.flow_heads}
    store_weights(half, set(list_grid_nodes(warps)) - heads, _encode_half)
    return half


def store_weights(model: ModelProto, left_out: set[str], encode: Encode) -> None:
    """Store in place what `encode` can of the float32 weights, each once however many nodes share it.

    Weights are initializers and Constant nodes. One that a node of `left_out` reads too stays as it is, else it
    would be stored twice; so do those that the body of an If, Loop or Scan reads, that the caller may feed, and
    those smaller than `SMALL_TENSOR`.
    """
    import numpy as np
    from onnx import numpy_helper

    graph = model.graph
    tensors = _list_constants(graph)
    uses = _count_uses(graph)
    restoring: list[NodeProto] = []
    replaced: set[str] = set()
    for name, readers in _list_readers(graph, left_out).items():
        if name not in tensors or uses[name] != len(readers):
            continue
        values = numpy_helper.to_array(tensors[name])
        if values.dtype != np.float32 or values.size < SMALL_TENSOR:
            continue
        stored = encode(name, values, readers)
        if stored is not None:
            graph.initializer.extend(stored.tensors)
            restoring += stored.nodes
            replaced.add(name)
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name in replaced:
            del graph.initializer[index]
    kept = [node for node in graph.node if node.op_type != "Constant" or node.output[0] not in replaced]
    nodes = [*restoring, *kept]
    del graph.node[:]
    graph.node.extend(nodes)


def _encode_half(name: str, values: np.ndarray, readers: Sequence[Reader]) -> Stored | None:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    with np.errstate(over="ignore", invalid="ignore"):
        half = values.astype(np.float16)
        loss = np.abs(half.astype(np.float32) - values).max()
    if not loss <= HALF_ROUNDING * np.abs(values).max():
        return None
    tensor = numpy_helper.from_array(half, f"{name}_fp16")
    return Stored([tensor], [helper.make_node("Cast", [tensor.name], [name], f"{name}_cast", to=TensorProto.FLOAT)])


def _list_readers(graph: GraphProto, left_out: set[str]) -> dict[str, list[Reader]]:
    """Return the places of weights in the graph by what is read there, in graph order."""
    readers: dict[str, list[Reader]] = defaultdict(list)
    for node in graph.node:
        if node.domain in {"", "ai.onnx"} and node.name not in left_out:
            for slot in WEIGHT_SLOTS.get(node.op_type, ()):
                readers[node.input[slot]].append(Reader(node, slot))
    return readers


def _list_constants(graph: GraphProto) -> dict[str, TensorProto]:
    """Return the constant tensors of the graph by name; an initializer that is an input has only a default."""
    fed = {value.name for value in graph.input}
    tensors = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in fed}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
    return tensors


def _count_uses(graph: GraphProto) -> Counter[str]:
    """Return how often each value is read, by nodes and as output of a graph, bodies of nodes included."""
    return Counter(
        name
        for each in _list_graphs(graph)
        for names in (*(node.input for node in each.node), [output.name for output in each.output])
        for name in names
    )


def _list_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _list_graphs(body)

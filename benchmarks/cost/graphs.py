"""Read an ONNX model or an OpenVINO IR as one plain list of nodes with shapes, for counting."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...optimize.errors import InputError
from ..engines.runtimes import DEFAULT_SIZE, Shape
from ..host import need, take_reason

if TYPE_CHECKING:
    import onnx
    import openvino

__all__ = ["Graph", "Node", "load_graph", "load_onnx"]


@dataclass(frozen=True)
class Node:
    """An operation: its type as the format calls it, its attributes, and the values it reads and makes."""

    op: str
    name: str
    inputs: tuple[str, ...]
    """Names of values; "" where an optional input is absent."""
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Graph:
    """Nodes in order, the shape of each value as far as it is known, and which values are constants."""

    nodes: tuple[Node, ...]
    shapes: Mapping[str, Shape]
    constants: Mapping[str, str]
    """Constant value -> its element type, lower case ("float", "float16", "int8", "f32", "i64", ...)."""
    batch: int = 1
    """Pictures that one run takes: the first side that all inputs (N, C, H, W) share, 1 where they differ."""


def load_graph(
    source: Path | onnx.ModelProto | openvino.Model, *, shapes: bool = True, size: tuple[int, int] | None = None
) -> Graph:
    """Read a model file, or a model in memory, as a `Graph`.

    A dynamic batch becomes 1, and a dynamic height and width those of `size`, by default 256x192. `shapes` False skips
    shape inference: only constants have shapes then. Models in memory are not changed.

    Raises InputError for weights and checkpoints, which hold no graph, and for damaged files.
    """
    if not isinstance(source, Path | str):
        return _read_model(source, shapes, size or DEFAULT_SIZE)
    from ...optimize.artifacts import detect_kind

    path = Path(source)
    kind = detect_kind(path)
    if kind not in ("onnx", "openvino"):
        raise InputError(f"{path}: {kind} hold no graph to count; export them first: vtopt export")
    model = load_onnx(path) if kind == "onnx" else _load_openvino(path)
    try:
        return _read_model(model, shapes, size or DEFAULT_SIZE)
    except Exception as error:  # onnx and OpenVINO raise nearly anything on a graph that makes no sense
        raise InputError(f"{path}: its shapes cannot be found: {take_reason(error)}; make it again") from error


def load_onnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX file without its external data; raises InputError for a damaged one."""
    onnx = need("onnx")
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(path, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise InputError(f"{path}: not a readable ONNX model: {take_reason(error)}; copy it again") from error


def _load_openvino(path: Path) -> openvino.Model:
    try:
        return need("openvino").Core().read_model(path)
    except RuntimeError as error:
        raise InputError(f"{path}: cannot be read: {take_reason(error)}; copy it again, with its .bin") from error


def _read_model(model: Any, shapes: bool, size: tuple[int, int]) -> Graph:
    if hasattr(model, "graph"):
        copy = type(model)()
        copy.CopyFrom(model)
        return _read_onnx(copy, shapes, size)
    return _read_openvino(model.clone(), shapes, size)


def _fix_shape(shape: Shape, size: tuple[int, int]) -> list[int]:
    """Return an input's shape with every dynamic side settled: `size` for a picture's, 1 for any other."""
    default = [1, 3, *size] if len(shape) == 4 else [1] * len(shape)
    return [free if side is None else side for side, free in zip(shape, default, strict=True)]


def _find_batch(inputs: Iterable[Shape]) -> int:
    batches = {shape[0] or 1 for shape in inputs if len(shape) == 4}
    return batches.pop() if len(batches) == 1 else 1


def _read_onnx(model: onnx.ModelProto, shapes: bool, size: tuple[int, int]) -> Graph:
    from onnx import TensorProto, inliner

    if model.functions:
        model = inliner.inline_local_functions(model)
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    tensors |= {sparse.values.name: sparse.values for sparse in graph.sparse_initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            tensors[node.output[0]] = node.attribute[0].t
    constants = {name: TensorProto.DataType.Name(tensor.data_type).lower() for name, tensor in tensors.items()}
    nodes = tuple(
        Node(node.op_type, node.name, tuple(node.input), tuple(node.output), dict(_read_attributes(node)))
        for node in graph.node
    )
    known: dict[str, Shape] = {name: tuple(tensor.dims) for name, tensor in tensors.items()}
    fed = [value for value in graph.input if value.name not in tensors]
    batch = _find_batch(map(_read_shape, fed))
    if shapes:
        known = dict(_infer_onnx_shapes(model, fed, size)) | known
    return Graph(nodes, known, constants, batch)


def _read_attributes(node: onnx.NodeProto) -> Iterator[tuple[str, Any]]:
    """Yield the attributes that are numbers and strings; tensors and graphs are left out."""
    from onnx import AttributeProto, helper

    skipped = {AttributeProto.TENSOR, AttributeProto.GRAPH, AttributeProto.SPARSE_TENSOR}
    for attribute in node.attribute:
        if attribute.type not in skipped:
            value = helper.get_attribute_value(attribute)
            yield attribute.name, value.decode() if isinstance(value, bytes) else value


STAND_INS: Mapping[str, tuple[str, slice]] = {
    "FusedConv": ("Conv", slice(0, 3)),
    "QGemm": ("Gemm", slice(0, 4, 3)),
    "QLinearAdd": ("Add", slice(0, 4, 3)),
    "QLinearAveragePool": ("AveragePool", slice(0, 1)),
    "QLinearConcat": ("Concat", slice(2, None, 3)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", slice(0, 1)),
    "QLinearLeakyRelu": ("Identity", slice(0, 1)),
    "QLinearMul": ("Mul", slice(0, 4, 3)),
    "QLinearSigmoid": ("Identity", slice(0, 1)),
    "QLinearSoftmax": ("Identity", slice(0, 1)),
}
"""onnxruntime's own ops, which onnx infers no shapes for -> an ONNX op of the same shapes, and its inputs."""


def _infer_onnx_shapes(
    model: onnx.ModelProto, fed: Sequence[onnx.ValueInfoProto], size: tuple[int, int]
) -> Iterator[tuple[str, Shape]]:
    """Yield every value's shape after inference, with pictures `fed` of this size; `model` is changed on the way.

    Shapes that the graph computes in ways that inference does not follow are worked out, where they are constant.
    """
    graph = model.graph
    if any(None in _read_shape(value) for value in fed):
        for value in itertools.chain(graph.output, graph.value_info):
            value.type.tensor_type.ClearField("shape")
    for value in fed:
        for dim, side in zip(value.type.tensor_type.shape.dim, _fix_shape(_read_shape(value), size), strict=True):
            dim.dim_value = side
    for node in graph.node:
        if node.op_type in STAND_INS:
            op, picks = STAND_INS[node.op_type]
            inputs = list(node.input)[picks]
            node.op_type, node.domain = op, ""
            del node.input[:]
            node.input.extend(inputs)
    known = dict(_infer_shapes(model))
    yield from known.items()
    if any(None in known.get(name, (None,)) for node in graph.node for name in node.output if name):
        yield from ((name, shape) for name, shape in _infer_shapes(_fold_constants(model)) if None not in shape)


def _fold_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with what constants and known shapes come to as constants; itself where that fails."""
    import onnx_ir
    from onnxscript import optimizer

    try:
        folded = onnx_ir.serde.deserialize_model(model)
        optimizer.fold_constants(folded, onnx_shape_inference=True)
        return onnx_ir.serde.serialize_model(folded)
    except Exception:  # it evaluates nodes of any kind
        return model


def _infer_shapes(model: onnx.ModelProto) -> Iterator[tuple[str, Shape]]:
    from onnx import shape_inference

    inferred = shape_inference.infer_shapes(model, strict_mode=False, data_prop=True).graph
    for value in itertools.chain(inferred.input, inferred.value_info, inferred.output):
        if value.type.tensor_type.HasField("shape"):
            yield value.name, _read_shape(value)


def _read_shape(value: onnx.ValueInfoProto) -> Shape:
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim)


def _read_openvino(model: openvino.Model, shapes: bool, size: tuple[int, int]) -> Graph:
    inputs = {index: _read_partial(port) for index, port in enumerate(model.inputs)}
    if shapes and any(None in shape for shape in inputs.values()):
        model.reshape({index: _fix_shape(shape, size) for index, shape in inputs.items()})
    nodes, known, constants = [], {}, {}
    for op in model.get_ordered_ops():
        made = tuple(_name_value(port) for port in op.outputs())
        known |= {name: _read_partial(port) for name, port in zip(made, op.outputs(), strict=True)}
        if op.get_type_name() == "Constant":
            constants[made[0]] = op.output(0).get_element_type().get_type_name().lower()
            continue
        taken = tuple(_name_value(port.get_source_output()) for port in op.inputs())
        nodes.append(Node(op.get_type_name(), op.get_friendly_name(), taken, made, op.get_attributes()))
    return Graph(tuple(nodes), known, constants, _find_batch(inputs.values()))


def _name_value(port: Any) -> str:
    """Return a value's name: its node's internal name, which is unique, and the port."""
    return f"{port.get_node().get_name()}:{port.get_index()}"


def _read_partial(port: Any) -> Shape:
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return (None,)
    return tuple(side.get_length() if side.is_static else None for side in shape)

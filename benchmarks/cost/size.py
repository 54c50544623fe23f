"""How big an artifact is: bytes on disk, and numbers in its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path

from ...optimize.errors import InputError
from .graphs import Graph, Node, load_graph

__all__ = ["count_graph_parameters", "count_parameters", "list_artifact_files", "measure_size"]


def measure_size(path: Path) -> int:
    """Return the artifact's bytes on disk: an IR with its .bin, ONNX with its external data files.

    Raises InputError when a file that belongs to it is missing.
    """
    return sum(file.stat().st_size for file in list_artifact_files(path))


def list_artifact_files(path: Path) -> list[Path]:
    """Return all files that belong to an artifact, itself the first; raises InputError when one is missing."""
    from ...optimize.artifacts import detect_kind
    from ...optimize.external_data import find_external_data

    path = Path(path)
    kind = detect_kind(path)
    files = [path]
    if kind == "openvino":
        files.append(path.with_suffix(".bin"))
    if kind == "onnx":
        files += find_external_data(path)
    missing = sorted(file.name for file in files if not file.is_file())
    if missing:
        raise InputError(f"{path}: {', '.join(missing)} is missing beside it; copy all its files together")
    return files


def count_parameters(path: Path, network: str | None = None) -> int:
    """Return the numbers in an artifact's weights, whatever their precision.

    Weights and checkpoints: the parameters of their network (no running statistics), as torch counts
    them; `network` names it where the file does not.

    ONNX and IR: the constants that act as weights, each once however often it is used:
    - kernels, matrices and their biases, also a bias that is added afterwards;
    - scale and shift of normalisations, also written as Mul and Add (running statistics are left out);
    - slopes of PRelu, if there are several.
    A constant counts through Cast, Reshape, Transpose, DequantizeLinear and the like. Shapes, indices,
    coordinate grids, quantisation scales and zero points are not weights.

    So an export has as many as its network, less what is folded: a normalisation behind a convolution
    leaves one bias per channel of its two numbers, and the exporter keeps equal tensors once.
    """
    from ...optimize.artifacts import detect_kind

    path = Path(path)
    if detect_kind(path) in ("onnx", "openvino"):
        return count_graph_parameters(load_graph(path, shapes=False))
    from ...optimize.weights import load_network

    return sum(parameter.numel() for parameter in load_network(path, network).module.parameters())


WEIGHT_SLOTS: Mapping[str, tuple[int, ...]] = {
    # ONNX
    "Conv": (1, 2),
    "FusedConv": (1, 2),
    "ConvTranspose": (1, 2),
    "ConvInteger": (1,),
    "QLinearConv": (3, 8),
    "Gemm": (0, 1, 2),
    "QGemm": (0, 3, 6),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearMatMul": (0, 3),
    "BatchNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "PRelu": (1,),
    # OpenVINO, where its name differs
    "Convolution": (1,),
    "GroupConvolution": (1,),
    "ConvolutionBackpropData": (1,),
    "GroupConvolutionBackpropData": (1,),
    "BatchNormInference": (1, 2),
}
"""Operation type -> the inputs that hold weights, when they are constant."""

ADDENDS = {"Add": (0, 1), "QLinearAdd": (0, 3)}
FACTORS = {"Mul": (0, 1), "Multiply": (0, 1), "QLinearMul": (0, 3)}

_THROUGH = frozenset(
    [
        "Cast",
        "Convert",
        "Identity",
        "Reshape",
        "Transpose",
        "Unsqueeze",
        "Squeeze",
        "Flatten",
        "QuantizeLinear",
        "DequantizeLinear",
        "FakeQuantize",
        "Subtract",
        "Mul",
        "Multiply",
    ]
)
"""Operations whose result is a weight where their first input is one."""
_KERNELS = frozenset(op for op in WEIGHT_SLOTS if "Conv" in op or "MatMul" in op)
_INTEGER_KERNELS = frozenset({"ConvInteger", "MatMulInteger"})


def count_graph_parameters(graph: Graph) -> int:
    """Return the numbers in the constants of a graph that act as weights (see `count_parameters`)."""
    makers = {name: node for node in graph.nodes for name in node.outputs}
    found: set[str] = set()
    for node in graph.nodes:
        for slot in WEIGHT_SLOTS.get(node.op, ()):
            weight = _find_constant(_pick(node, slot), graph, makers)
            if weight and not (node.op == "PRelu" and _size(weight, graph) == 1):
                found.add(weight)
        if node.op in ADDENDS:
            found.update(_find_shift(node, graph, makers))
    return sum(_size(name, graph) for name in found)


def _find_shift(add: Node, graph: Graph, makers: Mapping[str, Node]) -> Iterator[str]:
    """Yield the bias that `add` adds to a kernel's result, or a normalisation's shift and scale."""
    shift, data = _split(add, ADDENDS[add.op], graph, makers)
    source = _find_source(data, makers)
    if shift is None or source is None:
        return
    if source.op in _KERNELS:
        yield shift
    elif source.op in FACTORS:
        scale, scaled = _split(source, FACTORS[source.op], graph, makers)
        below = _find_source(scaled, makers)
        if below is not None and below.op in _INTEGER_KERNELS:
            yield shift  # the factor is a quantisation scale
        elif scale is not None:
            yield from (shift, scale)


def _split(node: Node, slots: tuple[int, ...], graph: Graph, makers: Mapping[str, Node]) -> tuple[str | None, str]:
    """Return a binary node's constant operand, if that is a vector along one axis, and the other operand."""
    first, second = (_pick(node, slot) for slot in slots)
    for operand, other in ((first, second), (second, first)):
        constant = _find_constant(operand, graph, makers)
        if constant and _is_vector(graph.shapes[constant]):
            return constant, other
    return None, first


def _find_source(name: str, makers: Mapping[str, Node]) -> Node | None:
    """Return the node that makes a value, looking through casts, reshapes and quantisation."""
    node = makers.get(name)
    while node is not None and node.op in _THROUGH and node.op not in FACTORS:
        node = makers.get(node.inputs[0])
    return node


def _find_constant(name: str, graph: Graph, makers: Mapping[str, Node]) -> str | None:
    """Return the constant that a value is made of, looking through `_THROUGH`; None for computed values."""
    if name in graph.constants:
        return name
    node = makers.get(name)
    if node is None or node.op not in _THROUGH:
        return None
    decoding = node.op in ("Subtract", "Mul", "Multiply")  # zero point and scale of compressed weights
    sources = [_find_constant(source, graph, makers) for source in node.inputs[: 2 if decoding else 1]]
    return None if None in sources else sources[0]


def _pick(node: Node, slot: int) -> str:
    return node.inputs[slot] if slot < len(node.inputs) else ""


def _is_vector(shape: tuple[int | None, ...]) -> bool:
    return sum(side != 1 for side in shape) == 1


def _size(name: str, graph: Graph) -> int:
    return prod(side or 0 for side in graph.shapes[name])

"""Whether the attention weights of warps sum to one at every pixel, by how the graph makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from .onnx_graphs import read_constant, read_shape

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["find_softmax"]

CHANNELS = 1


class _Part(NamedTuple):
    """Channels `start` to `stop` of a softmax, resized in one way or not at all."""

    softmax: ir.Node
    start: int
    stop: int
    resized: tuple[object, ...]


def find_softmax(attentions: Sequence[ir.Value]) -> ir.Node | None:
    """Return the softmax over channels whose every channel is in just one of `attentions`; None if there is none.

    Each is (N, K, H, W): a slice of the softmax, resized alike. Interpolation mixes neighbours with weights that
    sum to one, so what sums to one before does so after.
    """
    parts = [_trace(attention) for attention in attentions]
    if not parts or None in parts:
        return None
    found = sorted((part for part in parts if part), key=lambda part: part.start)
    first = found[0]
    if any(part.softmax is not first.softmax or part.resized != first.resized for part in found):
        return None
    width = _count_channels(first.softmax.outputs[0])
    edges = [0, *(part.stop for part in found)]
    contiguous = all(part.start == edge for part, edge in zip(found, edges, strict=False))
    return first.softmax if contiguous and edges[-1] == width else None


def _trace(attention: ir.Value) -> _Part | None:
    """Follow attention up to its softmax."""
    start, stop = 0, _count_channels(attention)
    resized: list[object] = []
    value = attention
    while stop is not None and (node := value.producer()) is not None:
        if node.op_type == "Softmax":
            return _Part(node, start, stop, tuple(resized)) if _over_channels(node) else None
        if node.op_type == "Resize" and (signature := _sign_resize(node)):
            resized.append(signature)
        elif node.op_type in {"Slice", "Split"} and (offset := _find_offset(node, value)) is not None:
            start, stop = start + offset, stop + offset
        elif node.op_type != "Identity":
            return None
        source = node.inputs[0]
        if source is None:
            return None
        value = source
    return None


def _over_channels(softmax: ir.Node) -> bool:
    rank = len(read_shape(softmax.inputs[0]) or ())
    return rank == 4 and softmax.attributes.get_int("axis", -1) in (CHANNELS, CHANNELS - rank)


def _sign_resize(node: ir.Node) -> tuple[object, ...] | None:
    """Return all that says how a Resize mixes pixels; None for one whose weights need not sum to one."""
    before, after = read_shape(node.inputs[0]), read_shape(node.outputs[0])
    settings = {name: attribute.value for name, attribute in node.attributes.items()}
    if before is None or after is None or before[:2] != after[:2]:
        return None
    if settings.get("mode", "nearest") not in {"nearest", "linear"} or settings.get("antialias"):
        return None
    if settings.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        return None
    scales = node.inputs[2] if len(node.inputs) > 2 else None
    factors = read_constant(scales)
    if scales is not None and factors is None:
        return None
    by = () if factors is None else tuple(factors.ravel().tolist())  # 2 and 2.2 times four rows are both eight rows
    return (before[2:], after[2:], by, *sorted((name, str(value)) for name, value in settings.items()))


def _find_offset(node: ir.Node, made: ir.Value) -> int | None:
    """Return the first channel of what a Slice or Split of channels takes; None for one of another kind."""
    source = read_shape(node.inputs[0])
    if source is None or len(source) != 4:
        return None
    if node.op_type == "Split":
        sizes = [_count_channels(output) for output in node.outputs]
        if node.attributes.get_int("axis", 0) not in (CHANNELS, CHANNELS - 4) or None in sizes:
            return None
        return sum(size for size in sizes[: node.outputs.index(made)] if size)
    constants = [read_constant(value) for value in node.inputs[1:]]
    if any(constant is None or constant.size != 1 for constant in constants) or len(constants) < 3:
        return None
    start, _, axis, *step = (int(constant.flat[0]) for constant in constants if constant is not None)
    if axis not in (CHANNELS, CHANNELS - 4) or step not in ([], [1]):
        return None
    return start if start >= 0 else start + (source[CHANNELS] or 0)


def _count_channels(value: ir.Value) -> int | None:
    shape = read_shape(value)
    return shape[CHANNELS] if shape is not None and len(shape) == 4 else None

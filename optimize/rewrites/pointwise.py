"""1x1 convolutions moved from before a warp to behind it, where fewer channels are then warped.

A warp is linear in its features and mixes no channels, as a 1x1 convolution mixes no pixels: the two commute. The
bias goes along unchanged where all weights of a sample sum to one: bilinear weights inside the features do, with
padding `border` everywhere, and attention does where it is a whole softmax, of one warp or of several that are
added. Where another 1x1 convolution follows, the two become one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..onnx_graphs import list_readers, read_constant, read_graph
from ..warp import Warp, find_warps
from ..warp_attention import find_softmax
from .editing import Editor
from .forms import sample_once
from .heads import choose_portable_form, find_obstacle
from .sites import Rewriting, Runtime, Site

if TYPE_CHECKING:
    import onnx_ir as ir
    from onnx import ModelProto

__all__ = ["sink_convolutions"]


class _Group(NamedTuple):
    """Warps whose outputs are added, of features that equal 1x1 convolutions make."""

    warps: tuple[Warp, ...]
    total: ir.Value
    """What all of them add up to."""
    convolutions: tuple[ir.Node, ...]
    softmaxes: tuple[ir.Node, ...]
    """What the attention of the warps is made of, where their weights have to sum to one."""
    sums: int
    """What all weights of a sample sum to, where the bias asks."""
    after: ir.Node | None
    """The 1x1 convolution that alone reads the total."""


def sink_convolutions(model: ModelProto, runtime: Runtime, skip: Collection[str]) -> Rewriting:
    """Move 1x1 convolutions that do not narrow the features of a warp behind it, and merge them with one that follows.

    On the way the warp takes a form that copies no features.
    """
    graph = read_graph(model).graph
    made = (value for node in graph for value in node.outputs)
    values = {value.name: value for value in (*graph.inputs, *graph.initializers.values(), *made)}
    editor = Editor(model)
    sites, left = [], []
    for warps, total in _group_by_sum(find_warps(model), values):
        convolutions = [values[warp.features].producer() for warp in warps]
        samples = all(warp.op == "GridSample" for warp in warps)
        if not samples or _join_names(warps) in skip or not all(_is_widening(node) for node in convolutions):
            continue
        group = _make_group(warps, total, convolutions, values)
        if isinstance(group, str):
            left.append(f"{_join_names(warps)}: {group}")
            continue
        if not _is_gain(group):
            continue
        editor.prefix = warps[0].name
        sites.append(_describe(group))
        _sink(editor, group, runtime)
    return Rewriting(editor.finish(), tuple(sites), tuple(left))


def _join_names(warps: Sequence[Warp]) -> str:
    return "+".join(warp.name for warp in warps)


def _group_by_sum(
    warps: Sequence[Warp], values: Mapping[str | None, ir.Value]
) -> Iterator[tuple[tuple[Warp, ...], ir.Value]]:
    """Yield warps that are added to each other and to nothing else first, and what they add up to."""
    waiting = {warp.output: warp for warp in warps if warp.output in values and not warp.subgraph}
    while waiting:
        output = next(iter(waiting))
        members, total = [waiting.pop(output)], values[output]
        while (readers := list_readers(total)) and len(readers) == 1 and readers[0].op_type == "Add":
            others = [value for value in readers[0].inputs if value is not total and value is not None]
            if len(others) != 1 or others[0].name not in waiting or list_readers(others[0]) != readers:
                break
            if any(value.is_graph_output() for value in (total, *others)) or readers[0].outputs[0].name not in values:
                break
            members.append(waiting.pop(str(others[0].name)))
            total = readers[0].outputs[0]
        yield tuple(members), total


def _is_pointwise(node: ir.Node | None) -> bool:
    """Tell whether a node is a 1x1 convolution that keeps the size, with constant weights."""
    if node is None or node.op_type != "Conv":
        return False
    weight = read_constant(node.inputs[1])
    plain = node.attributes.get_int("group", 1) == 1 and not any(node.attributes.get_ints("pads", [0]))
    plain = plain and all(step == 1 for step in node.attributes.get_ints("strides", [1]))
    constant = len(node.inputs) < 3 or node.inputs[2] is None or read_constant(node.inputs[2]) is not None
    return plain and constant and weight is not None and weight.shape[2:] == (1, 1) and weight.dtype == np.float32


def _is_widening(node: ir.Node | None) -> bool:
    return node is not None and _is_pointwise(node) and len(_read_weight(node)) >= _read_weight(node).shape[1]


def _read_weight(node: ir.Node) -> np.ndarray:
    """Return the weights as a matrix (outputs, inputs)."""
    weight = read_constant(node.inputs[1])
    assert weight is not None
    return weight[:, :, 0, 0].astype(np.float64)


def _read_bias(node: ir.Node) -> np.ndarray:
    bias = read_constant(node.inputs[2]) if len(node.inputs) > 2 else None
    return np.zeros(len(_read_weight(node))) if bias is None else bias.astype(np.float64)


def _make_group(
    warps: tuple[Warp, ...],
    total: ir.Value,
    convolutions: Sequence[ir.Node | None],
    values: Mapping[str | None, ir.Value],
) -> _Group | str:
    """Return what can be moved together, or why it cannot."""
    found = tuple(node for node in convolutions if node is not None)
    first = found[0]
    if reasons := [reason for warp in warps if (reason := find_obstacle(warp))]:
        return reasons[0]
    if any(len(list_readers(node.outputs[0])) > 1 or node.outputs[0].is_graph_output() for node in found):
        return "something else reads its features too"
    same = [_read_weight(node).tolist() == _read_weight(first).tolist() for node in found]
    same += [_read_bias(node).tolist() == _read_bias(first).tolist() for node in found]
    if not all(same):
        return "the warps that are added have features of different convolutions"
    softmaxes, sums = (), 1
    if _read_bias(first).any():
        if any(warp.padding_mode == "zeros" for warp in warps):
            return "pads with zeros, so the weights of a sample do not always sum to one"
        counted = _count_sums(warps, values)
        if counted is None:
            return "its attention is not known to sum to one"
        softmaxes, sums = counted
    readers = list_readers(total)
    after = readers[0] if len(readers) == 1 and _is_pointwise(readers[0]) and not total.is_graph_output() else None
    if after is not None and after.outputs[0].name not in values:  # it lies in an If, Loop or Scan
        after = None
    return _Group(warps, total, found, softmaxes, sums, after)


def _count_sums(warps: Sequence[Warp], values: Mapping[str | None, ir.Value]) -> tuple[tuple[ir.Node, ...], int] | None:
    """Return the softmaxes that attention is made of and what all weights of a sample sum to, None if not known."""
    together = find_softmax([values[warp.attention] for warp in warps if warp.attention])
    if together is not None and all(warp.attention for warp in warps):
        return (together,), 1
    alone = [find_softmax([values[warp.attention]]) for warp in warps if warp.attention]
    if None in alone:
        return None
    return tuple(dict.fromkeys(node for node in alone if node)), len(warps)


def _is_gain(group: _Group) -> bool:
    """Tell whether fewer channels are warped, or fewer convolutions are left."""
    outputs, inputs = _read_weight(group.convolutions[0]).shape
    return inputs < outputs or len(group.convolutions) > 1 or group.after is not None


def _describe(group: _Group) -> Site:
    output = group.after.outputs[0] if group.after else group.total
    features = [str(value.name) for node in group.convolutions if (value := node.inputs[0])]
    if not group.softmaxes:  # attention may be any number then
        features += [warp.attention for warp in group.warps if warp.attention]
    return Site(
        tuple(warp.name for warp in group.warps),
        str(output.name),
        features=tuple(dict.fromkeys(features)),
        grids=tuple(warp.places for warp in group.warps),
        attention=tuple(str(node.outputs[0].name) for node in group.softmaxes),
    )


def _sink(editor: Editor, group: _Group, runtime: Runtime) -> None:
    """Warp what the convolutions read, add, and convolve the sum once."""
    total: ir.Value | None = None
    for warp, node in zip(group.warps, group.convolutions, strict=True):
        form = sample_once if warp.heads == 1 else choose_portable_form(runtime)
        channels = _read_weight(node).shape[1]
        warped = form(editor, warp, editor.find(str(node.inputs[0].name)), channels)  # type: ignore[union-attr]
        total = warped if total is None else editor.add("Add", total, warped)
    assert total is not None
    first, old = group.convolutions[0], group.total
    weight, bias = _read_weight(first), _read_bias(first) * group.sums
    if group.after is not None:
        second = _read_weight(group.after)
        weight, bias, old = second @ weight, second @ bias + _read_bias(group.after), group.after.outputs[0]
    made = editor.add("Conv", total, weight[:, :, None, None].astype(np.float32), bias.astype(np.float32))
    editor.replace(editor.find(str(old.name)), made)

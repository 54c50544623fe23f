"""Recognise a warp with K heads by what it reads and makes, whatever operators an exporter put between.

Written with repeat_interleave, features are copied K times along the batch (Tile or Expand, and Reshape), and
attention C times along the channels; samples are multiplied, split and added. Written well, K grids are stacked
along the height, and nothing is copied. Both are: features (N, C, h, w), K grids, attention (N, K, H, W) in; their
weighted sum (N, C, H, W) out, with nothing but layout, one product and sums between.

The shapes leave doubt (which axis is K's?); a rewrite settles it by running the nodes found against the formula.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, NamedTuple

from .onnx_graphs import LAYOUT_OPS, Shape, list_data_inputs, list_readers, read_shape, read_sides

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Heads", "find_heads"]

SUM_OPS = LAYOUT_OPS | {"Add", "Concat", "ReduceSum", "Slice", "Split", "Sum"}
"""What the sum over heads is written with, behind the product with attention."""

MAX_SUM_NODES = 200
"""Where adding K heads takes more nodes than this, it is something else."""


class Heads(NamedTuple):
    """A warp of K heads, from the features before they are copied to the sum of what was sampled."""

    heads: int
    features: ir.Value
    attention: ir.Value | None
    output: ir.Value


def find_heads(sampler: ir.Node) -> Heads | None:
    """Return the heads of a GridSample whose samples are weighted and added, None for one that warps once."""
    copies, sampled = sampler.inputs[0], sampler.outputs[0]
    shape, copied = read_shape(sampled), read_shape(copies)
    if copies is None or shape is None or copied is None or None in shape or None in copied or len(shape) != 4:
        return None
    product = _find_product(sampled)
    if product is None:
        return None
    weights, weighted = product
    for attention, features in _pair_candidates(weights, copies, shape, copied):
        wanted = _expect_output(read_shape(attention), read_shape(features))
        output = _find_sum(weighted, wanted)
        if output is not None:
            heads = read_shape(attention)
            assert heads is not None and heads[1] is not None
            return Heads(heads[1], features, attention, output)
    return None


def _find_product(sampled: ir.Value) -> tuple[ir.Value, ir.Value] | None:
    """Return the other factor of the product that samples go into, and the product."""
    value = sampled
    while True:
        readers = list_readers(value)
        if len(readers) != 1 or value.is_graph_output():
            return None
        (node,) = readers
        if node.graph is not sampled.producer().graph:  # type: ignore[union-attr]
            return None
        if node.op_type == "Mul":
            others = [factor for factor in node.inputs if factor is not value]
            return (others[0], node.outputs[0]) if len(others) == 1 and others[0] is not None else None
        if node.op_type not in LAYOUT_OPS or node.inputs[0] is not value:
            return None
        value = node.outputs[0]


def _walk_layout(value: ir.Value) -> Iterator[ir.Value]:
    """Yield the value, and what it was before each operator that only moves or copies numbers."""
    current: ir.Value | None = value
    while current is not None:
        yield current
        node = current.producer()
        current = node.inputs[0] if node is not None and node.op_type in LAYOUT_OPS else None


def _pair_candidates(
    weights: ir.Value, copies: ir.Value, sampled: Shape, copied: Shape
) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Yield attention (N, K, H, W) and features (N, C, h, w) that together explain the shape of the samples."""
    batch, channels, height, width = sampled
    for attention in _walk_layout(weights):
        shape = read_shape(attention)
        if shape is None or len(shape) != 4 or None in shape or shape[3] != width or shape[1] == 1:
            continue
        images, heads, rows, _ = read_sides(shape)
        if batch == images and heads * rows == height and copied[1] == channels:
            yield attention, copies
        if rows == height and batch == images * heads:
            for features in _walk_layout(copies):
                if read_shape(features) == (images, *copied[1:]):
                    yield attention, features


def _expect_output(attention: Shape | None, features: Shape | None) -> Shape:
    assert attention is not None and features is not None
    return (features[0], features[1], attention[2], attention[3])


def _find_sum(weighted: ir.Value, wanted: Shape) -> ir.Value | None:
    """Return the first value of shape `wanted` that all of `weighted` has gone into, by sums alone.

    None where anything else reads a part of it.
    """
    open_values = {weighted}
    for node in _order_readers(weighted):
        if node.op_type not in SUM_OPS or node.graph is not weighted.producer().graph:  # type: ignore[union-attr]
            return None
        added = set(list_data_inputs(node))
        if not added <= open_values or any(value.is_graph_output() or list_readers(value) != [node] for value in added):
            return None
        open_values -= added
        open_values |= {value for value in node.outputs if value.consumers() or value.is_graph_output()}
        if len(open_values) == 1:
            (only,) = open_values
            if read_shape(only) == wanted:
                return only
    return None


def _order_readers(value: ir.Value) -> Iterator[ir.Node]:
    """Yield the nodes downstream of a value, each after those it reads."""
    pending, seen = list_readers(value), {value}
    taken: set[ir.Node] = set()
    while pending and len(taken) < MAX_SUM_NODES:
        ready = next((node for node in pending if _is_ready(node, seen)), pending[0])
        pending.remove(ready)
        taken.add(ready)
        yield ready
        for output in ready.outputs:
            seen.add(output)
            pending += [node for node in list_readers(output) if node not in taken and node not in pending]


def _is_ready(node: ir.Node, seen: Collection[ir.Value]) -> bool:
    return all(value in seen for value in list_data_inputs(node))

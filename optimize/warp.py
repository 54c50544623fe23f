"""The one analysis of warps in an ONNX graph: what each samples, where, and the arithmetic that makes its grid.

A rounding error in a feature dims a picture a little; the same error in a grid moves it. So casts and
quantisers leave these nodes in float32; rewrites make them fast. Used by rewrite, fp16, int8 and inspection.

A warp with K heads samples the same features at K places per pixel and adds them, weighted by attention
(Bai et al., "Single Stage Virtual Try-on via Deformable Attention Flows", ECCV 2022); `warp_heads` finds it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from .onnx_graphs import (
    LAYOUT_OPS,
    SHAPE_OPS,
    Shape,
    list_bodies,
    list_data_inputs,
    list_scoped_nodes,
    read_constant,
    read_graph,
    read_shape,
)
from .warp_heads import Heads, find_heads

if TYPE_CHECKING:
    import onnx_ir as ir
    from onnx import GraphProto, ModelProto, NodeProto

__all__ = [
    "FEATURE_OPS",
    "WARP_OPS",
    "Warp",
    "find_warps",
    "list_grid_nodes",
    "list_nodes",
    "name_nodes",
    "separate_constants",
]

FEATURE_OPS = frozenset({"Conv", "ConvTranspose"})
"""A grid's arithmetic begins at the first of these upstream of it: the head that estimates the flow."""

WARP_OPS = {"GridSample": 1, "DeformConv": 2}
"""What samples -> which of its inputs says where."""

CONTRIB_DOMAIN = "com.microsoft"
"""Where onnxruntime keeps the GridSample of exports below opset 16: to be protected; rewrites leave it alone."""

MODES = {"linear": "bilinear", "cubic": "bicubic"}
"""Opset 20 renamed the modes; a warp has the old name, which most runtimes know."""

CLAMP_OPS = frozenset({"Clip", "Max", "Min"})
CLIP_UPPER = 2
"""Which input of a Clip is its upper bound."""
LIMIT_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Warp:
    """One warp: features (N, C, h, w) sampled where a grid says, at one place per pixel or at `heads` of them.

    Nodes and values are given by name, so that a warp found in one copy of a model is known in another.
    """

    name: str
    """The node that samples."""
    op: str
    mode: str
    padding_mode: str
    """What lies outside the features. A clamped grid with padding `zeros` is as good as `border`, and called that."""
    align_corners: bool
    features: str
    """The value that is sampled, before copies."""
    grid: str
    """What the node reads: (N, H, W, 2), with heads (N K, H, W, 2) or (N, K H, W, 2); a DeformConv's offsets."""
    places: str
    """The grid before it was laid out and clamped: (N K, 2, H, W) where that is found, else as `grid` is."""
    output: str
    """What the warp makes: (N, C, H, W)."""
    features_shape: Shape | None
    output_shape: Shape | None
    grid_shape: Shape | None
    places_shape: Shape | None
    planar: bool = False
    """Whether the places are (N K, 2, H, W)."""
    clamped: bool = False
    """Whether the node pads with zeros, and its grid never leaves the features."""
    heads: int = 1
    attention: str = ""
    """With heads, their weights (N, K, H, W)."""
    grid_nodes: tuple[str, ...] = ()
    """The nodes upstream of the grid, up to and with the convolutions that estimate the flow, in graph order."""
    flow_heads: tuple[str, ...] = ()
    """Those of `grid_nodes` that are convolutions."""
    subgraph: str = ""
    """The If, Loop or Scan that holds the warp."""


def find_warps(model: ModelProto) -> list[Warp]:
    """Return the warps of the graph in its order; nodes must have names (see `name_nodes`).

    Warps inside If, Loop and Scan come after those of the graph. `model` is not changed.
    """
    nodes = list(list_scoped_nodes(read_graph(model).graph))
    return [_read_warp(node, scope, nodes) for scope, node in nodes if _is_warp(node)]


def _is_warp(node: ir.Node) -> bool:
    return node.op_type in WARP_OPS and node.domain in {"", "ai.onnx", CONTRIB_DOMAIN}


def _read_warp(node: ir.Node, scope: ir.Node | None, nodes: Sequence[tuple[ir.Node | None, ir.Node]]) -> Warp:
    grid = node.inputs[WARP_OPS[node.op_type]]
    assert grid is not None
    holders = {holder for holder, _ in nodes if holder is not None}
    upstream = _walk_upstream(grid, holders)
    found = [each for _, each in nodes if each in upstream]
    return Warp(
        name=str(node.name),
        op=f"{node.domain}.{node.op_type}" if node.domain == CONTRIB_DOMAIN else node.op_type,
        grid=str(grid.name),
        grid_shape=read_shape(grid),
        grid_nodes=tuple(str(each.name) for each in found),
        flow_heads=tuple(str(each.name) for each in found if each.op_type in FEATURE_OPS),
        subgraph=str(scope.name) if scope else "",
        **(_read_deform(node) if node.op_type == "DeformConv" else _read_grid_sample(node)),
    )


def _read_grid_sample(node: ir.Node) -> dict[str, Any]:
    features, grid = node.inputs[0], node.inputs[1]
    assert features is not None and grid is not None
    mode = node.attributes.get_string("mode", "bilinear")
    padding_mode = node.attributes.get_string("padding_mode", "zeros")
    align_corners = bool(node.attributes.get_int("align_corners", 0))
    found = find_heads(node) or Heads(1, features, None, node.outputs[0])
    shape = read_shape(found.features)
    limits = _find_limits(shape, align_corners) if MODES.get(mode, mode) == "bilinear" else None
    places = _find_places(grid, found, limits if padding_mode == "zeros" else None)
    return {
        "mode": MODES.get(mode, mode),
        "padding_mode": "border" if places.clamped else padding_mode,
        "clamped": places.clamped,
        "align_corners": align_corners,
        "features": str(found.features.name),
        "places": str(places.value.name),
        "planar": places.planar,
        "output": str(found.output.name),
        "heads": found.heads,
        "attention": str(found.attention.name) if found.attention else "",
        "features_shape": shape,
        "output_shape": read_shape(found.output),
        "places_shape": read_shape(places.value),
    }


def _read_deform(node: ir.Node) -> dict[str, Any]:
    """Read a deformable convolution: its taps are heads, its mask their attention."""
    features, weight, offsets = node.inputs[:3]
    attention = node.inputs[4] if len(node.inputs) > 4 else None
    assert features is not None and offsets is not None
    kernel = read_shape(weight)
    taps = (kernel[2] or 1) * (kernel[3] or 1) if kernel and len(kernel) == 4 else 1
    return {
        "mode": "bilinear",
        "padding_mode": "zeros",
        "align_corners": False,
        "features": str(features.name),
        "places": str(offsets.name),
        "output": str(node.outputs[0].name),
        "heads": taps,
        "attention": str(attention.name) if attention else "",
        "features_shape": read_shape(features),
        "output_shape": read_shape(node.outputs[0]),
        "places_shape": read_shape(offsets),
    }


def _find_limits(shape: Shape | None, align_corners: bool) -> tuple[float, ...] | None:
    """Return the largest normalised x and y that still lie on the features, None unless those are (N, C, h, w)."""
    _, _, height, width = shape if shape is not None and len(shape) == 4 else (None,) * 4
    if not height or not width:
        return None
    return (1.0, 1.0) if align_corners else (1 - 1 / width, 1 - 1 / height)


class _Places(NamedTuple):
    value: ir.Value
    planar: bool
    clamped: bool


def _find_places(grid: ir.Value, warp: Heads, limits: tuple[float, ...] | None) -> _Places:
    """Return the grid before it was laid out as the node reads it, and clamped to `limits`."""
    shape = read_shape(warp.output)
    batch, _, height, width = shape if shape is not None and len(shape) == 4 else (None,) * 4
    planes = (batch * warp.heads, 2, height, width) if batch and height and width else None
    current, found, bounds = grid, _Places(grid, False, False), set[int]()
    while (node := current.producer()) is not None and len(inputs := list_data_inputs(node)) == 1:
        if node.op_type in CLAMP_OPS and limits:
            more = _read_bounds(node, limits)
            if not more:
                break
            bounds |= more
        elif node.op_type not in LAYOUT_OPS:
            break
        current, clamped = inputs[0], len(bounds) == 2
        if clamped or not bounds:
            shape = read_shape(current)
            if planes is not None and shape == planes:
                found = _Places(current, True, clamped)
            elif clamped and not found.planar and shape is not None and shape == read_shape(grid):
                found = _Places(current, False, True)
    return found


def _read_bounds(node: ir.Node, limits: tuple[float, ...]) -> set[int]:
    """Return which bounds a clamp sets at the limits: 1 the upper, -1 the lower; none for another clamp."""
    signs: set[int] = set()
    for index, value in enumerate(node.inputs):
        constant = read_constant(value)
        if constant is None:
            continue
        sign = {"Max": -1, "Min": 1}.get(node.op_type, 1 if index == CLIP_UPPER else -1)
        numbers = [sign * float(number) for number in constant.flat]
        bounds = numbers * 2 if len(numbers) == 1 else numbers
        if len(bounds) != 2 or any(
            abs(bound - limit) > 2 * LIMIT_TOLERANCE for bound, limit in zip(bounds, limits, strict=True)
        ):
            return set()
        signs.add(sign)
    return signs


def _walk_upstream(value: ir.Value, holders: Collection[ir.Node]) -> set[ir.Node]:
    """Return the nodes that make a value, not going beyond feature convolutions.

    `holders` are the If, Loop and Scan nodes: what comes out of one is made by its bodies, and what goes into a
    body by anything that goes into the node.
    """
    entered = {given: holder for holder in holders for body in list_bodies(holder) for given in body.inputs}
    found: set[ir.Node] = set()
    pending: list[ir.Value | None] = [value]
    while pending:
        current = pending.pop()
        if current in entered:
            pending.extend(entered[current].inputs)
        node = None if current is None else current.producer()
        if node is None or node in found or node.op_type in SHAPE_OPS:
            continue
        found.add(node)
        if node.op_type not in FEATURE_OPS:
            pending.extend(node.inputs)
            pending.extend(made for body in list_bodies(node) for made in body.outputs)
    return found


def list_grid_nodes(warps: Iterable[Warp]) -> list[str]:
    """Return the names of all warps and of every node that makes a grid: what must stay float32."""
    names = {name for warp in warps for name in (warp.name, *warp.grid_nodes)}
    return sorted(names)


def name_nodes(model: ModelProto) -> None:
    """Give every node without a name, or with one taken already, a name of its own; in If, Loop and Scan too."""
    nodes = list(list_nodes(model.graph))
    taken = {node.name for node in nodes}
    seen: set[str] = set()
    for index, node in enumerate(nodes):
        if not node.name or node.name in seen:
            name = f"{node.op_type}_{index}"
            while name in taken:
                name += "_"
            node.name = name
            taken.add(name)
        seen.add(node.name)


def list_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Yield the nodes of a graph, then those of the bodies of its If, Loop and Scan nodes."""
    yield from graph.node
    for node in graph.node:
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from list_nodes(body)


def separate_constants(model: ModelProto, protected: Collection[str]) -> None:
    """Give protected nodes constants of their own, where others share them and will change their type.

    A layer that is used twice shares its weights, and simplifiers merge equal constants, biases of zeros for
    instance.
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

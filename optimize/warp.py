"""The one analysis of warps in an ONNX graph: every GridSample, and the arithmetic that makes its grid.

A rounding error in a feature dims a picture a little; the same error in a grid moves it. So casts and
quantisers leave these nodes in float32. Used by fp16, int8 and inspection.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["FEATURE_OPS", "Warp", "find_warps", "list_grid_nodes", "name_nodes", "separate_constants"]

FEATURE_OPS = frozenset({"Conv", "ConvTranspose"})
"""A grid's arithmetic begins at the first of these upstream of it: the head that estimates the flow."""

SHAPE_OPS = frozenset({"Shape", "Size"})
"""What is upstream of these lends a grid its size and none of its values."""

MODES = {"linear": "bilinear", "cubic": "bicubic"}
"""Opset 20 renamed the modes; a warp has the old name, which most runtimes know."""


@dataclass(frozen=True)
class Warp:
    """One GridSample, and what makes its grid."""

    name: str
    mode: str
    padding_mode: str
    align_corners: bool
    grid_nodes: tuple[str, ...]
    """Names of the nodes upstream of the grid, up to and with the flow heads, in graph order."""
    heads: tuple[str, ...]
    """Those of `grid_nodes` that are convolutions."""


def name_nodes(model: ModelProto) -> None:
    """Give every node without a name, or with one taken already, a name of its own."""
    taken = {node.name for node in model.graph.node}
    seen: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            name = f"{node.op_type}_{index}"
            while name in taken:
                name += "_"
            node.name = name
            taken.add(name)
        seen.add(node.name)


def find_warps(model: ModelProto) -> list[Warp]:
    """Return the warps of the graph in its order; nodes must have names (see `name_nodes`)."""
    from onnx import helper

    producers = {output: node for node in model.graph.node for output in node.output}
    order = {node.name: index for index, node in enumerate(model.graph.node)}
    warps = []
    for node in model.graph.node:
        if node.op_type != "GridSample":
            continue
        settings: dict[str, Any] = {
            attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute
        }
        mode: str = settings.get("mode", b"bilinear").decode()
        upstream = _walk_upstream(node.input[1], producers)
        names = sorted(upstream, key=order.__getitem__)
        warps.append(
            Warp(
                name=node.name,
                mode=MODES.get(mode, mode),
                padding_mode=settings.get("padding_mode", b"zeros").decode(),
                align_corners=bool(settings.get("align_corners", 0)),
                grid_nodes=tuple(names),
                heads=tuple(name for name in names if upstream[name].op_type in FEATURE_OPS),
            )
        )
    return warps


def _walk_upstream(tensor: str, producers: dict[str, NodeProto]) -> dict[str, NodeProto]:
    """Return the nodes that make `tensor`, by name, not going beyond feature convolutions."""
    found: dict[str, NodeProto] = {}
    pending = [tensor]
    while pending:
        node = producers.get(pending.pop())
        if node is None or node.name in found or node.op_type in SHAPE_OPS:
            continue
        found[node.name] = node
        if node.op_type not in FEATURE_OPS:
            pending.extend(node.input)
    return found


def list_grid_nodes(warps: Iterable[Warp]) -> list[str]:
    """Return the names of all warps and of every node that makes a grid: what must stay float32."""
    names = {name for warp in warps for name in (warp.name, *warp.grid_nodes)}
    return sorted(names)


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

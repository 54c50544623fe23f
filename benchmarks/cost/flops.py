"""Count the multiply-adds of a graph. One multiply-add is one MAC; 1 MAC = 2 FLOPs (see `mac_rules`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .graphs import Graph, Node, load_graph
from .mac_rules import FREE, RULES, Sides

if TYPE_CHECKING:
    import onnx
    import openvino

__all__ = ["FLOPS_PER_MAC", "MacReport", "count_graph_macs", "count_macs", "describe_uncounted"]

FLOPS_PER_MAC = 2


@dataclass
class MacReport:
    """Multiply-adds of one picture in all, by operation type and by node; and what could not be counted."""

    macs: int
    by_op: dict[str, int]
    """Operation type -> MACs, largest first."""
    by_node: dict[str, int]
    """Node -> MACs, in the graph's order; nodes that take none are left out."""
    uncounted: dict[str, int]
    """Operation type without a rule, or "TYPE (unknown shape)" -> how many nodes; `macs` lacks them."""

    @property
    def flops(self) -> int:
        return FLOPS_PER_MAC * self.macs


def describe_uncounted(uncounted: Mapping[str, int]) -> str:
    """Return what could not be counted as text: "LRN (1), If (2)"; empty where all was."""
    return ", ".join(f"{op} ({number})" for op, number in uncounted.items())


def count_macs(source: Path | onnx.ModelProto | openvino.Model, size: tuple[int, int] | None = None) -> MacReport:
    """Count the multiply-adds that an ONNX model or OpenVINO IR takes for one picture of a batch.

    One multiply-add is one MAC; 1 MAC = 2 FLOPs. Convolutions, matrix products, sampling and averages
    count as `mac_rules` says; elementwise operations are not MACs; an operation with no rule is listed
    under `uncounted`. Of a fixed batch of N, what a run takes is divided by N; a dynamic height and width are those of
    `size`, by default 256x192.

    Raises InputError for weights and checkpoints: export them first.
    """
    return count_graph_macs(load_graph(source, size=size))


def count_graph_macs(graph: Graph) -> MacReport:
    """Count the multiply-adds of one picture in a graph that was loaded with its shapes (see `count_macs`)."""
    by_op: Counter[str] = Counter()
    by_node: dict[str, int] = {}
    uncounted: Counter[str] = Counter()
    for node in graph.nodes:
        if node.op in FREE:
            continue
        macs, problem = _count_node(node, graph)
        if macs is None:
            uncounted[node.op + problem] += 1
        elif macs:
            by_op[node.op] += macs // graph.batch
            by_node[_name_node(node, by_node)] = macs // graph.batch
    return MacReport(sum(by_op.values()), dict(by_op.most_common()), by_node, dict(uncounted))


def _count_node(node: Node, graph: Graph) -> tuple[int | None, str]:
    """Return a node's MACs, or None and why not, as words to put behind its type."""
    rule = RULES.get(node.op)
    if rule is None:
        return None, ""
    inputs = [_settle(graph, name) for name in node.inputs]
    made = _settle(graph, node.outputs[0])
    if made is None or None in inputs:
        return None, " (unknown shape)"
    macs = rule([shape for shape in inputs if shape is not None], made, node.attributes)
    return macs, " (unknown form)"


def _settle(graph: Graph, name: str) -> Sides | None:
    """Return the shape of a value when all of it is known; () for an absent input."""
    shape = graph.shapes.get(name) if name else ()
    if shape is None:
        return None
    sides = tuple(side for side in shape if side is not None)
    return sides if len(sides) == len(shape) else None


def _name_node(node: Node, taken: dict[str, int]) -> str:
    """Return the node's name, or that of its output where it has none or shares it."""
    return node.name if node.name and node.name not in taken else node.outputs[0]

"""One float32 model in which each unit can be switched to int8: any mixture runs without being built.

Every unit becomes an If whose branches are the unit in int8, as `insert_qdq` writes it, and the unit as it was. What
it makes is what the model with just these units in int8 makes, on the same integer kernels; a last bit of the float
ones may turn an int8 value.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..cpu_target import CpuTarget
from .qdq import insert_qdq
from .ranges import Range
from .units import Unit

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

__all__ = ["SWITCH", "add_switches", "make_switch_feeds"]

SWITCH = "int8 of "
"""The name of a unit's switch, an input of one bool: this, and the unit's name."""


def add_switches(
    model: ModelProto,
    units: Sequence[Unit],
    ranges: Mapping[str, Range],
    target: CpuTarget,
    means: Mapping[str, NDArray] | None = None,
) -> ModelProto:
    """Return the model with a switch for every unit, an input that is true for int8; else as `insert_qdq` takes it."""
    from onnx import ModelProto, TensorProto, helper

    switched = ModelProto()
    switched.CopyFrom(model)
    graph = switched.graph
    named = {unit.name: unit for unit in units}
    fused = {unit.output for unit in units}
    nodes: list[NodeProto] = []
    for node in graph.node:
        unit = named.get(node.name)
        if unit is not None:
            parts = [part for part in graph.node if part is node or unit.output in part.output]
            constants = [tensor for tensor in graph.initializer if tensor.name in (unit.weight, unit.bias)]
            alone = _take_unit(switched, unit, parts, constants)
            int8 = insert_qdq(alone, [unit], ranges, target, means)
            nodes.append(_make_switch(unit, int8.graph, alone.graph))
        elif not fused.intersection(node.output):
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.input.extend(helper.make_tensor_value_info(SWITCH + unit.name, TensorProto.BOOL, []) for unit in units)
    read = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    read |= {name for node in nodes if not node.name.startswith(SWITCH) for name in _list_captured(node)}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return switched


def make_switch_feeds(units: Sequence[Unit], int8: Collection[str]) -> dict[str, np.ndarray]:
    """Return the switches' inputs for a mixture: the named units in int8, the others float."""
    return {SWITCH + unit.name: np.asarray(unit.name in int8) for unit in units}


def _take_unit(
    model: ModelProto, unit: Unit, parts: Sequence[NodeProto], constants: Sequence[TensorProto]
) -> ModelProto:
    """Return a model of one unit; what it reads is not an input of it, but comes from outside."""
    from onnx import ModelProto, TensorProto, helper

    output = helper.make_tensor_value_info(unit.output, TensorProto.FLOAT, None)
    alone = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    alone.graph.CopyFrom(helper.make_graph(parts, "unit", [], [output], constants))
    return alone


def _make_switch(unit: Unit, int8: GraphProto, alone: GraphProto) -> NodeProto:
    from onnx import helper

    return helper.make_node(
        "If",
        [SWITCH + unit.name],
        [unit.output],
        SWITCH + unit.name,
        then_branch=_rename(int8, f"{unit.name} int8 ", unit.source),
        else_branch=_rename(alone, f"{unit.name} float ", unit.source),
    )


def _rename(graph: GraphProto, prefix: str, source: str) -> GraphProto:
    """Give everything in a branch names of its own; only what it reads from outside keeps its name."""
    for node in graph.node:
        node.name = node.name and prefix + node.name
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name and name != source:
                    names[index] = prefix + name
    for values in (graph.initializer, graph.output):
        for value in values:
            value.name = prefix + value.name
    graph.name = prefix
    return graph


def _list_captured(node: NodeProto) -> set[str]:
    """Return every name that the bodies of a node read."""
    bodies = [body for attribute in node.attribute for body in (attribute.g, *attribute.graphs)]
    found: set[str] = set()
    for inner in (inner for body in bodies for inner in body.node):
        found |= {*inner.input, *_list_captured(inner)}
    return found

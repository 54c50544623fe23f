"""The convolutions that may be quantised, each with the activation that the runtime fuses into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["Unit", "find_units", "list_tensors"]

FUSED_OPS = frozenset({"Relu"})
"""What cuts off below zero costs a range that begins there nothing: its output is quantised, not the convolution's."""


@dataclass(frozen=True)
class Unit:
    """A convolution and what is quantised around it: the tensor it reads, its constants, and the tensor it makes."""

    name: str
    source: str
    weight: str
    bias: str
    """Empty for a convolution without one."""
    output: str
    """What the convolution makes, or the activation behind it where nothing else reads that."""


def find_units(model: ModelProto, protected: Sequence[str]) -> list[Unit]:
    """Return the convolutions of the graph that are not protected and whose weights are constants, in its order."""
    constants = {tensor.name for tensor in model.graph.initializer} - {value.name for value in model.graph.input}
    outputs = {value.name for value in model.graph.output}
    readers: dict[str, list] = {}
    for node in model.graph.node:
        for name in dict.fromkeys(node.input):
            readers.setdefault(name, []).append(node)
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                for name in {name for inner in body.node for name in inner.input}:
                    readers.setdefault(name, []).append(node)
    fenced = set(protected)
    units = []
    for node in model.graph.node:
        if node.op_type != "Conv" or node.name in fenced or not constants.issuperset(filter(None, node.input[1:])):
            continue
        made = node.output[0]
        following = readers.get(made, [])
        fuses = len(following) == 1 and following[0].op_type in FUSED_OPS and made not in outputs
        units.append(
            Unit(
                name=node.name,
                source=node.input[0],
                weight=node.input[1],
                bias=node.input[2] if len(node.input) > 2 else "",
                output=following[0].output[0] if fuses else made,
            )
        )
    return units


def list_tensors(units: Sequence[Unit]) -> list[str]:
    """Return the tensors whose ranges the units need, each once."""
    return list(dict.fromkeys(name for unit in units for name in (unit.source, unit.output)))

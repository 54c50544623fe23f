"""The ONNX graph of a torch network in which convolutions are known by the names of their modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..artifacts import Size
from ..errors import InputError
from ..networks import Network

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["trace_named"]

OPSET = 17


def trace_named(network: Network, size: Size) -> ModelProto:
    """Return the network as ONNX, for one picture of a size; weights keep the names that torch has for them.

    Raises InputError where the dynamo exporter cannot: the other one renames weights.
    """
    from ...benchmarks.host import take_reason
    from ..export import make_example, trace_dynamo
    from ..repeat_interleave import exportable_repeat_interleave

    examples = [make_example(network, size, 1, seed) for seed in (0, 1)]
    with exportable_repeat_interleave(network.module, examples):
        try:
            return trace_dynamo(network, examples[0], OPSET)
        except Exception as error:  # an exporter may raise anything
            raise InputError(
                f"network '{network.name}': training for int8 needs the dynamo exporter, which fails: "
                f"{take_reason(error)}; see which operator it names, and replace it in the network"
            ) from error

"""What people do without vtopt to a network that they have in torch: export, simplify, convert."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...optimize.errors import VtoptError
from ...optimize.onnx_files import save_onnx
from ...optimize.provenance import read_metadata
from ..host import need, take_reason
from ..studies.plain_warp import plain_warps

if TYPE_CHECKING:
    from onnx import ModelProto

    from ...optimize.networks import Network
    from ..studies.int8_tools import Samples

__all__ = ["convert_plainly", "export_by_torch", "quantize_public_code", "save_model_of"]

OPSET = 18
"""What torch.onnx.export writes where it is not told."""


def export_by_torch(network: Network) -> ModelProto:
    """Return what torch.onnx.export makes of a network with the warps of the public code, by its default exporter.

    Raises VtoptError when it cannot be exported so.
    """
    from ...optimize.artifacts import Size
    from ...optimize.export import make_example, trace_dynamo

    with plain_warps():
        try:
            return trace_dynamo(network, make_example(network, Size(*network.size), 1, 0), OPSET)
        except Exception as error:  # an exporter may raise anything
            raise VtoptError(
                f"network '{network.name}': torch.onnx cannot export it as it is ({take_reason(error)}); "
                "measure another --network"
            ) from error


def save_model_of(network: Network, model: ModelProto, path: Path) -> None:
    """Write a tool's model, and in it which pictures its inputs are fed."""
    from ...optimize.weights import describe_network

    save_onnx(model, path, describe_network(network.name, network))


def convert_plainly(plain: Path, path: Path) -> None:
    """Write ONNX as OpenVINO's IR with OpenVINO's defaults: weights are stored in 16 bits."""
    from ..studies.int8_tools import save_ir

    save_ir(need("openvino").convert_model(plain), path, read_metadata(plain), fp16=True)


def quantize_public_code(network: Network, plain: Path, samples: Samples, path: Path) -> None:
    """Quantise the torch network with the warps of the public code by neural-compressor's defaults."""
    from ..studies import int8_tools

    with plain_warps():
        int8_tools.quantize_by_neural_compressor(network, plain, samples, path)

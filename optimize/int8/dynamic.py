"""Int8 with ranges found anew at every inference: for size only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .prepare import QUANTIZED_OPS, open_workspace, prepare_model

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["quantize_dynamic"]


def quantize_dynamic(model: ModelProto) -> ModelProto:
    """Return the model with uint8 convolution weights and ranges found anew at every inference.

    Weights are uint8, for onnxruntime does not load a ConvInteger of uint8 by int8.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with open_workspace() as folder:
        prepared = prepare_model(model)
        onnx.save(prepared.model, folder / "prepared.onnx")
        quantize_dynamic(
            folder / "prepared.onnx",
            folder / "int8.onnx",
            op_types_to_quantize=list(QUANTIZED_OPS),
            nodes_to_exclude=prepared.protected,
            weight_type=QuantType.QUInt8,
        )
        return onnx.load(folder / "int8.onnx")

"""Quantise the convolutions of an ONNX model to int8; warps and flow heads stay float32."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..cpu_target import CpuTarget
from .prepare import QUANTIZED_OPS, open_workspace, prepare_model

if TYPE_CHECKING:
    import numpy as np
    from onnx import ModelProto
    from onnxruntime.quantization import CalibrationDataReader

__all__ = ["quantize_dynamic", "quantize_static"]

Feeds = dict[str, "np.ndarray"]


def quantize_static(model: ModelProto, calibration: Iterable[Feeds], target: CpuTarget) -> ModelProto:
    """Return the model with Q/DQ around its convolutions, ranges calibrated by minimum and maximum.

    Weights are int8 per output channel, activations 8 bits per tensor. Flow heads keep float32 with the
    rest of what makes a grid. `calibration` is read one sample at a time.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with open_workspace() as folder:
        prepared, protected = _write(model, folder)
        quantize_static(
            prepared,
            folder / "int8.onnx",
            _make_reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED_OPS),
            nodes_to_exclude=protected,
            per_channel=True,
            reduce_range=target.reduce_range,
            activation_type=QuantType.QInt8 if target.signed_activations else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"ActivationSymmetric": target.signed_activations},
        )
        quantized = onnx.load(folder / "int8.onnx")
    _feed_float(quantized, protected)
    return quantized


def quantize_dynamic(model: ModelProto) -> ModelProto:
    """Return the model with uint8 convolution weights and ranges found anew at every inference.

    Weights are uint8, for onnxruntime does not load a ConvInteger of uint8 by int8.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with open_workspace() as folder:
        prepared, protected = _write(model, folder)
        quantize_dynamic(
            prepared,
            folder / "int8.onnx",
            op_types_to_quantize=list(QUANTIZED_OPS),
            nodes_to_exclude=protected,
            weight_type=QuantType.QUInt8,
        )
        return onnx.load(folder / "int8.onnx")


def _make_reader(samples: Iterable[Feeds]) -> CalibrationDataReader:
    """Return onnxruntime's view of an iterable of feeds: get_next, None at the end."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._samples = iter(samples)

        def get_next(self) -> Feeds | None:  # type: ignore[override]
            return next(self._samples, None)

    return Reader()


def _write(model: ModelProto, folder: Path) -> tuple[Path, list[str]]:
    """Prepare and write the model; return it and the nodes to leave alone."""
    import onnx

    prepared = prepare_model(model)
    onnx.save(prepared.model, folder / "prepared.onnx")
    return folder / "prepared.onnx", prepared.protected


def _feed_float(model: ModelProto, protected: Collection[str]) -> None:
    """Let protected nodes read a tensor itself where it was quantised for a convolution that reads it too.

    What a quantised convolution makes is left alone: it has no float form, the runtime fuses the two.
    """
    producers = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.name not in protected:
            continue
        for index, name in enumerate(node.input):
            dequantize = producers.get(name)
            quantize = producers.get(dequantize.input[0]) if dequantize else None
            if dequantize is None or quantize is None or quantize.op_type != "QuantizeLinear":
                continue
            maker = producers.get(quantize.input[0])
            if maker is None or maker.op_type not in QUANTIZED_OPS or maker.name in protected:
                node.input[index] = quantize.input[0]

"""Quantise the convolutions of an ONNX model to int8; warps and flow heads stay float32."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .cpu_target import CpuTarget
from .warp import find_warps, list_grid_nodes, name_nodes

if TYPE_CHECKING:
    import numpy as np
    from onnx import ModelProto

__all__ = ["quantize_dynamic", "quantize_static"]

Feeds = dict[str, "np.ndarray"]

QUANTIZED_OPS = ("Conv",)
"""Convolutions are where the time goes; quantising the cheap operators between them only costs quality."""


def quantize_static(model: ModelProto, calibration: Iterable[Feeds], target: CpuTarget) -> ModelProto:
    """Return the model with Q/DQ around its convolutions, ranges calibrated by minimum and maximum.

    Weights are int8 per output channel, activations 8 bits per tensor. Flow heads keep float32 with the
    rest of what makes a grid. `calibration` is read one sample at a time.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with _workspace() as folder:
        prepared, protected = _prepare(model, folder)
        quantize_static(
            prepared,
            folder / "int8.onnx",
            _CalibrationReader(calibration),
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
        return _read(folder / "int8.onnx")


def quantize_dynamic(model: ModelProto) -> ModelProto:
    """Return the model with uint8 convolution weights and ranges found anew at every inference.

    Weights are uint8, for onnxruntime does not load a ConvInteger of uint8 by int8.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _workspace() as folder:
        prepared, protected = _prepare(model, folder)
        quantize_dynamic(
            prepared,
            folder / "int8.onnx",
            op_types_to_quantize=list(QUANTIZED_OPS),
            nodes_to_exclude=protected,
            weight_type=QuantType.QUInt8,
        )
        return _read(folder / "int8.onnx")


class _CalibrationReader:
    """onnxruntime's view of an iterable of feeds: get_next, None at the end."""

    def __init__(self, samples: Iterable[Feeds]) -> None:
        self._samples = iter(samples)

    def get_next(self) -> Feeds | None:
        return next(self._samples, None)


@contextmanager
def _workspace() -> Iterator[Path]:
    """Give a temporary folder, and keep onnxruntime's advice off the user's terminal."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory(prefix="vtopt-int8-") as folder:
            yield Path(folder)
    finally:
        logger.setLevel(level)


def _prepare(model: ModelProto, folder: Path) -> tuple[Path, list[str]]:
    """Fold batch-norms into convolutions and write the model; return it and the nodes to leave alone."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    plain, path = folder / "plain.onnx", folder / "prepared.onnx"
    onnx.save(model, plain)
    quant_pre_process(plain, path, skip_symbolic_shape=True)
    prepared = onnx.load(path)
    name_nodes(prepared)
    onnx.save(prepared, path)
    return path, list_grid_nodes(find_warps(prepared))


def _read(path: Path) -> ModelProto:
    import onnx

    return onnx.load(path)

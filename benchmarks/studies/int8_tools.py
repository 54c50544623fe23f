"""int8 as others make it, with the settings that they come with: what vtopt's own int8 is measured against."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...optimize.onnx_files import save_onnx
from ...optimize.provenance import read_metadata
from ...optimize.quiet import keep_quiet
from ..host import need

if TYPE_CHECKING:
    from ...optimize.networks import Network

__all__ = [
    "quantize_by_neural_compressor",
    "quantize_by_nncf",
    "quantize_by_onnxruntime",
    "quantize_ir_by_nncf",
    "quantize_per_tensor",
    "save_ir",
]

Samples = Sequence[Mapping[str, np.ndarray]]
"""What a model is fed for each calibration pair."""


def quantize_per_tensor(plain: Path, samples: Samples, path: Path) -> None:
    """Quantise every operation per tensor, as is: uint8 activations, int8 weights, ranges from least to largest."""
    tool = need("onnxruntime.quantization")
    _quantize_static(
        plain,
        samples,
        path,
        read_metadata(plain),
        quant_format=tool.QuantFormat.QDQ,
        per_channel=False,
        activation_type=tool.QuantType.QUInt8,
        weight_type=tool.QuantType.QInt8,
        calibrate_method=tool.CalibrationMethod.MinMax,
    )


def quantize_by_onnxruntime(plain: Path, samples: Samples, path: Path) -> None:
    """Quantise with onnxruntime's defaults, after the preparation that it asks for."""
    prepare = need("onnxruntime.quantization.shape_inference").quant_pre_process
    with tempfile.TemporaryDirectory(prefix="vtopt-prepared-") as folder, _quiet():
        prepared = Path(folder) / "prepared.onnx"
        prepare(str(plain), str(prepared))
        _quantize_static(prepared, samples, path, read_metadata(plain))


def _quantize_static(
    source: Path, samples: Samples, path: Path, metadata: Mapping[str, str], **settings: object
) -> None:
    import onnx

    tool = need("onnxruntime.quantization")
    with tempfile.TemporaryDirectory(prefix="vtopt-static-") as folder, _quiet():
        made = Path(folder) / "int8.onnx"
        tool.quantize_static(str(source), str(made), _Reader(samples), **settings)
        save_onnx(onnx.load(made), path, dict(metadata))


class _Reader:
    """Gives onnxruntime one sample at a time, then None."""

    def __init__(self, samples: Samples) -> None:
        self._left = iter(samples)

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        return next(self._left, None)


def quantize_by_nncf(plain: Path, samples: Samples, path: Path) -> None:
    """Quantise ONNX with NNCF's defaults."""
    import onnx

    save_onnx(_run_nncf(onnx.load(plain), samples), path, read_metadata(plain))


def quantize_ir_by_nncf(plain: Path, samples: Samples, path: Path, *, fp16: bool = False) -> None:
    """Quantise what OpenVINO makes of the ONNX with NNCF's defaults; `path` is that of an IR.

    `fp16` stores what stays float in 16 bits, as OpenVINO does by default.
    """
    made = _run_nncf(need("openvino").convert_model(plain), samples)
    save_ir(made, path, read_metadata(plain), fp16=fp16)


def save_ir(model: Any, path: Path, metadata: Mapping[str, str], *, fp16: bool) -> None:
    """Write OpenVINO's model to `path`, with entries that say what it is of."""
    for key, value in metadata.items():
        model.set_rt_info(value, key.split("."))
    need("openvino").save_model(model, path, compress_to_fp16=fp16)


def _run_nncf(model: Any, samples: Samples) -> Any:
    nncf: Any = need("nncf")
    with _quiet():
        # What the decorator that sends telemetry wraps.
        return nncf.quantize.__wrapped__(model, nncf.Dataset(samples))


def quantize_by_neural_compressor(network: Network, plain: Path, samples: Samples, path: Path) -> None:
    """Quantise the torch network with neural-compressor's defaults, and export that; `plain` says what it is of."""
    import torch

    from ...optimize.artifacts import Size
    from ...optimize.export import make_example, trace_dynamo
    from ...optimize.int8.neural_compressor_engine import EXTRA, OPSET, export_graph, fold_weights

    examples = [make_example(network, Size(*network.size), 1, seed) for seed in (0, 1)]
    with _quiet(), torch.no_grad():
        need("torchao.quantization.pt2e", extra=EXTRA)
        tool: Any = need("neural_compressor.torch.quantization", extra=EXTRA)
        graph = export_graph(network, examples)
        prepared = tool.prepare(graph, tool.StaticQuantConfig(), example_inputs=examples[0])
        for sample in samples:
            prepared(*(torch.from_numpy(sample[spec.name]) for spec in network.inputs))
        model = trace_dynamo(replace(network, module=tool.convert(prepared)), examples[0], OPSET)
    fold_weights(model)
    save_onnx(model, path, read_metadata(plain))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep logs, warnings and progress bars of the tools off the terminal."""
    bars = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    try:
        with keep_quiet():
            yield
    finally:
        if bars is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = bars

"""int8 as others make it, with the settings that they come with: what vtopt's own int8 is measured against."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..optimize.errors import VtoptError
from ..optimize.onnx_files import save_onnx
from ..optimize.provenance import read_metadata
from ..optimize.quiet import keep_quiet
from .host import need

__all__ = [
    "find_onnx_part",
    "quantize_by_neural_compressor",
    "quantize_by_nncf",
    "quantize_by_onnxruntime",
    "quantize_ir_by_nncf",
    "quantize_mission",
]

Samples = Sequence[Mapping[str, np.ndarray]]
"""What a model is fed for each calibration pair."""


def quantize_mission(plain: Path, samples: Samples, path: Path) -> None:
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


def quantize_ir_by_nncf(plain: Path, samples: Samples, path: Path) -> None:
    """Quantise what OpenVINO makes of the ONNX with NNCF's defaults; `path` is that of an IR."""
    openvino = need("openvino")
    made = _run_nncf(openvino.convert_model(plain), samples)
    for key, value in read_metadata(plain).items():
        made.set_rt_info(value, key.split("."))
    openvino.save_model(made, path, compress_to_fp16=False)


def _run_nncf(model: Any, samples: Samples) -> Any:
    nncf: Any = need("nncf")
    with _quiet():
        # What the decorator that sends telemetry wraps.
        return nncf.quantize.__wrapped__(model, nncf.Dataset(samples))


def quantize_by_neural_compressor(plain: Path, samples: Samples, path: Path) -> None:
    """Quantise with neural-compressor's defaults; raises VtoptError for versions without ONNX, as 3.x are."""
    import onnx

    need("neural_compressor")
    if not find_onnx_part():
        found = version("neural_compressor")
        raise VtoptError(f"neural-compressor {found} quantises no ONNX; its last versions that do are 2.x")
    tool, config = need("neural_compressor.quantization"), need("neural_compressor.config")
    with _quiet():
        loader = _Loader(samples)
        made = tool.fit(str(plain), config.PostTrainingQuantConfig(), calib_dataloader=loader)
        if made is None:
            raise VtoptError("neural-compressor gives nothing back")
        with tempfile.TemporaryDirectory(prefix="vtopt-inc-") as folder:
            kept = Path(folder) / "int8.onnx"
            made.save(str(kept))
            save_onnx(onnx.load(kept), path, read_metadata(plain))


def find_onnx_part() -> bool:
    """Tell whether the neural-compressor that is installed quantises ONNX."""
    return find_spec("neural_compressor.quantization") is not None


class _Loader:
    """Batches of inputs and labels, as neural-compressor wants them."""

    batch_size = 1

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def __iter__(self) -> Iterator[tuple[Mapping[str, np.ndarray], int]]:
        return ((sample, 0) for sample in self._samples)


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

"""Static int8 by NNCF, around the same convolutions as the project's own engine.

NNCF (Kozlov et al., "Neural Network Compression Framework for fast model inference", 2020, arXiv:2002.08679) finds
the ranges and places Q/DQ. It is told which nodes stay float, and what it would leave to the runtime is settled here.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...benchmarks.host import need, take_reason
from ..errors import InputError, UsageError, VtoptError
from ..rewrites.sites import Runtime
from .calibration import Feeds
from .prepare import Prepared, prepare_model
from .settings import Int8Settings, RangeMethod

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["quantize_nncf"]

LEAST_OPSET = 13
"""Below it ONNX has no scale per output channel."""

NNCF_RANGES: Mapping[RangeMethod, str] = {"minmax": "MINMAX", "percentile": "MEAN_QUANTILE", "mse": "HISTOGRAM"}
"""What NNCF calls them; its histogram looks for the least squared error. It has nothing like entropy."""

ANY_NUMBER = 2**31 - 1
"""NNCF wants to know how many samples to read; it stops where they end."""

MARK = "vtopt_output_of_"
"""Begins the name of a node that makes NNCF quantise what a convolution makes."""


def quantize_nncf(
    model: ModelProto, calibration: Iterable[Feeds], settings: Int8Settings, *, runtime: Runtime = "onnxruntime"
) -> ModelProto:
    """Return the model with Q/DQ around its convolutions where NNCF puts it; what makes a grid stays float32.

    Weights are int8 per output channel, activations 8 bits per tensor of the target's sign. NNCF counts on a runtime
    that fuses an activation with the convolution before it, as OpenVINO does, and quantises behind the two. For
    onnxruntime, which would compute those convolutions in float, it is made to quantise what comes between as well.
    Biases are not corrected: on a trained SDAFN_plus that costs 2 dB. Either file runs on both runtimes.

    `calibration` is read once, one sample at a time. NNCF's output and telemetry are kept in; `model` is not changed.

    Raises UsageError for ranges that NNCF does not have and for `float_nodes` that are no convolutions of the model,
    InputError for a model that is int8 already, has an opset below 13 or that NNCF rejects, and for calibration
    samples that are missing or not finite.
    """
    _check(model, settings)
    prepared = prepare_model(model)
    chosen = _choose(prepared, settings)
    if not chosen:
        return prepared.model
    _tidy_opsets(prepared.model)
    marks = _mark_outputs(prepared.model, chosen) if runtime == "onnxruntime" else set()
    try:
        quantized = _run(prepared.model, _check_samples(calibration), settings, chosen | marks)
    except VtoptError:
        raise
    except Exception as error:  # NNCF, onnx and onnxruntime each have exceptions of their own
        raise InputError(
            f"NNCF cannot quantise the model: {take_reason(error)}; use vtopt's own engine, or export the model again"
        ) from error
    _drop_marks(quantized)
    if not settings.target.signed_activations:
        _make_unsigned(quantized)
    return quantized


def _check(model: ModelProto, settings: Int8Settings) -> None:
    if settings.ranges not in NNCF_RANGES:
        raise UsageError(f"NNCF has no ranges by {settings.ranges}; it takes {', '.join(NNCF_RANGES)}")
    if any(node.op_type in {"QuantizeLinear", "DequantizeLinear", "QLinearConv"} for node in model.graph.node):
        raise InputError("the model is int8 already; quantise the float32 model that it was made from")
    opset = next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 1)
    if opset < LEAST_OPSET:
        raise InputError(
            f"the model has opset {opset}; NNCF gives every output channel its scale from opset {LEAST_OPSET} on: "
            "export it again with --opset 17"
        )


def _choose(prepared: Prepared, settings: Int8Settings) -> set[str]:
    """Return the convolutions to quantise."""
    unknown = set(settings.float_nodes).difference(prepared.quantizable, prepared.protected)
    if unknown:
        raise UsageError(
            f"{', '.join(sorted(unknown))}: no convolution of the model; it has {', '.join(prepared.quantizable)}"
        )
    return set(prepared.quantizable).difference(settings.float_nodes)


def _check_samples(calibration: Iterable[Feeds]) -> Iterator[Feeds]:
    count = 0
    for count, feeds in enumerate(calibration, 1):
        for name, values in feeds.items():
            if not np.isfinite(values).all():
                raise InputError(
                    f"calibration sample {count}: NaN or infinite values in input '{name}'; correct or remove that pair"
                )
        yield feeds
    if not count:
        raise InputError("there are no samples to calibrate on; give at least one pair")


def _run(model: ModelProto, calibration: Iterator[Feeds], settings: Int8Settings, kept: Collection[str]) -> ModelProto:
    """Let NNCF quantise the nodes named in `kept`, and no other."""
    with _quiet():
        nncf: Any = need("nncf")
        from nncf.common.quantization.structs import QuantizationScheme
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, QuantizationParameters
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        signed = settings.target.signed_activations
        return nncf.quantize.__wrapped__(  # without the decorator that sends telemetry
            model,
            nncf.Dataset(calibration),
            target_device=nncf.TargetDevice.CPU,
            subset_size=ANY_NUMBER,
            ignored_scope=nncf.IgnoredScope(
                names=[node.name for node in model.graph.node if node.name not in kept], validate=False
            ),
            advanced_parameters=AdvancedQuantizationParameters(
                overflow_fix=nncf.OverflowFix.ENABLE if settings.target.reduce_range else nncf.OverflowFix.DISABLE,
                disable_bias_correction=True,
                activations_quantization_params=QuantizationParameters(
                    mode=QuantizationScheme.SYMMETRIC if signed else QuantizationScheme.ASYMMETRIC,
                    signedness_to_force=True if signed else None,
                ),
                activations_range_estimator_params=getattr(
                    RangeEstimatorParametersSet, NNCF_RANGES[settings.ranges]
                ),
            ),
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what NNCF logs, warns of and draws from stdout: all of it goes there."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _tidy_opsets(model: ModelProto) -> None:
    """Keep the domains that nodes are of, ONNX's own first: NNCF takes the first entry for it."""
    used = {node.domain.replace("ai.onnx", "", 1) if node.domain == "ai.onnx" else node.domain for node in _walk(model.graph)}

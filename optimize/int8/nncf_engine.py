"""Static int8 by NNCF, around the same convolutions as the project's own engine.

NNCF (Kozlov et al., "Neural Network Compression Framework for fast model inference", 2020, arXiv:2002.08679) finds
the ranges and places Q/DQ. Here it is told what stays float, and what it leaves to its own runtime is made explicit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ...benchmarks.host import need, take_reason
from ..errors import InputError, UsageError, VtoptError
from ..onnx_files import find_precision
from ..quiet import keep_quiet
from ..rewrites.sites import Runtime
from .calibration import Feeds, check_samples
from .engines import ENGINE_RANGES
from .prepare import Prepared, prepare_model
from .settings import Int8Settings
from .units import Unit, find_units

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["quantize_nncf"]

RANGES = ENGINE_RANGES["nncf"]

LEAST_OPSET = 13
"""Below it ONNX has no scale per output channel."""

ANY_NUMBER = 2**31 - 1
"""NNCF wants to know how many samples to read; it stops where they end."""

MARK = "vtopt_int8_"
"""Begins the names of nodes that stand behind convolutions while NNCF works."""


def quantize_nncf(
    model: ModelProto, calibration: Iterable[Feeds], settings: Int8Settings, *, runtime: Runtime = "onnxruntime"
) -> ModelProto:
    """Return the model with Q/DQ around its convolutions where NNCF puts it; what makes a grid stays float32.

    Weights are int8 per output channel, activations 8 bits per tensor. NNCF counts on a runtime that fuses any
    activation with the convolution before it, as OpenVINO does, and quantises behind the two. onnxruntime would
    compute such a convolution in float, so for it NNCF is made to quantise what lies between as well, at some cost in
    quality. Either file loads in both. NNCF's bias correction is off: on a trained network it took away 0.5 to 2 dB.

    `calibration` is read once, one sample at a time. What NNCF prints is kept back, and its telemetry is not
    called. `model` is not changed.

    Raises UsageError for ranges that NNCF does not have and for `float_nodes` that are no convolutions of the model,
    InputError for a model that is int8 already, of an opset below 13 or that NNCF rejects, and for calibration
    samples that are missing or not finite.
    """
    _check(model, settings)
    prepared = prepare_model(model)
    units = _choose_units(prepared, settings)
    if not units:
        return prepared.model
    if runtime == "onnxruntime":
        _mark_outputs(prepared.model, units)
    try:
        quantized = _run(prepared.model, {unit.name for unit in units}, check_samples(calibration), settings)
    except VtoptError:
        raise
    except Exception as error:  # NNCF, onnx and onnxruntime have exceptions of their own
        raise InputError(
            f"NNCF cannot quantise the model: {take_reason(error)}; quantise it with the engine onnxruntime"
        ) from error
    _drop_marks(quantized)
    _unify_signs(quantized, settings.target.signed_activations)
    return quantized


def _check(model: ModelProto, settings: Int8Settings) -> None:
    if settings.ranges not in RANGES:
        raise UsageError(f"NNCF has no ranges by {settings.ranges}; it takes {', '.join(RANGES)}")
    if (precision := find_precision(model)) != "float32":
        raise InputError(f"the model is {precision} already; quantise the float32 model that it was made from")
    opset = next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 1)
    if opset < LEAST_OPSET:
        raise InputError(
            f"the model has opset {opset}, and NNCF needs {LEAST_OPSET} for a scale per output channel; "
            "export it again with --opset 17"
        )


def _choose_units(prepared: Prepared, settings: Int8Settings) -> list[Unit]:
    units = find_units(prepared.model, prepared.protected)
    unknown = set(settings.float_nodes).difference(prepared.quantizable, prepared.protected)
    if unknown:
        raise UsageError(
            f"not a convolution of the model: {', '.join(sorted(unknown))}; it has {', '.join(prepared.quantizable)}"
        )
    return [unit for unit in units if unit.name not in settings.float_nodes]


def _run(
    model: ModelProto, chosen: Collection[str], calibration: Iterable[Feeds], settings: Int8Settings
) -> ModelProto:
    """Let NNCF quantise what the `chosen` and the marks read, and nothing else."""
    nncf: Any = need("nncf")
    from nncf.common.quantization.structs import QuantizationScheme
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, QuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    left = [node.name for node in model.graph.node if node.name not in chosen and not node.name.startswith(MARK)]
    parameters = AdvancedQuantizationParameters(
        overflow_fix=nncf.OverflowFix.ENABLE if settings.target.reduce_range else nncf.OverflowFix.DISABLE,
        disable_bias_correction=True,
        activations_quantization_params=QuantizationParameters(mode=QuantizationScheme.ASYMMETRIC),
        activations_range_estimator_params=getattr(RangeEstimatorParametersSet, RANGES[settings.ranges]),
    )
    with keep_quiet():
        return nncf.quantize.__wrapped__(  # what the decorator that sends telemetry wraps
            model,
            nncf.Dataset(calibration),
            target_device=nncf.TargetDevice.CPU,
            subset_size=ANY_NUMBER,
            ignored_scope=nncf.IgnoredScope(names=left, validate=False),
            advanced_parameters=parameters,
        )


def _mark_outputs(model: ModelProto, units: Collection[Unit]) -> None:
    """Put behind each unit a node that changes no number and whose input NNCF quantises."""
    from onnx import helper

    makers = {output: node for node in model.graph.node for output in node.output}
    behind = {}
    for unit in units:
        maker = makers[unit.output]
        plain = f"{MARK}{unit.output}"
        maker.output[0] = plain
        behind[maker.name] = helper.make_node("AveragePool", [plain], [unit.output], plain, kernel_shape=[1, 1])
    nodes = [each for node in model.graph.node for each in (node, behind.get(node.name)) if each]
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)


def _drop_marks(model: ModelProto) -> None:
    """Take the marks out again: what fed one, with Q/DQ where NNCF put it, makes what it made."""
    del model.graph.value_info[:]
    makers = {output: node for node in model.graph.node for output in node.output}
    for mark in [node for node in model.graph.node if node.name.startswith(MARK) and node.op_type == "AveragePool"]:
        makers[mark.input[0]].output[0] = mark.output[0]
        model.graph.node.remove(mark)


def _unify_signs(model: ModelProto, signed: bool) -> None:
    """Make every activation int8, or every one uint8: onnxruntime fuses no convolution that reads one, makes the other.

    NNCF has int8 where numbers below zero occur, else uint8. The zero point moves by 128, and the numbers stand for
    what they stood for.
    """
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    wanted, shift = (np.int8, -128) if signed else (np.uint8, 128)
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear":
            continue
        tensor = tensors[node.input[2]]
        zero = numpy_helper.to_array(tensor)
        if zero.dtype != wanted:
            tensor.CopyFrom(numpy_helper.from_array((zero.astype(np.int16) + shift).astype(wanted), tensor.name))

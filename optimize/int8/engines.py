"""The one table of engines for static int8: each takes a model, calibration samples and the same settings.

What they take is an ONNX model, but for `TORCH_ENGINES`: those take the torch network. `trained` takes either, with
the ranges that its file carries.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from .settings import Int8Settings, RangeMethod

if TYPE_CHECKING:
    from onnx import ModelProto

    from .calibration import Feeds

__all__ = ["AUTO_RANGES", "ENGINES", "ENGINE_RANGES", "TORCH_ENGINES", "TRAINED", "EngineName", "load_engine"]

EngineName = Literal["onnxruntime", "nncf", "neural-compressor", "trained"]

Quantizer = Callable[[Any, Iterable["Feeds"], Int8Settings], "ModelProto"]

ENGINES: Mapping[EngineName, str] = {
    "onnxruntime": "static:quantize_static",
    "nncf": "nncf_engine:quantize_nncf",
    "neural-compressor": "neural_compressor_engine:quantize_neural_compressor",
    "trained": "trained_engine:quantize_trained",
}
"""Engine -> module:function beside this file."""

TORCH_ENGINES = frozenset[EngineName]({"neural-compressor"})
"""These quantise the torch network, so they read its weights and not ONNX."""

TRAINED: EngineName = "trained"
"""Calibrates nothing: the ranges are those of a quantisation-aware training. It reads weights and ONNX."""

ENGINE_RANGES: Mapping[EngineName, Mapping[RangeMethod, str]] = {
    "onnxruntime": {name: name for name in ("minmax", "percentile", "entropy", "mse")},
    "nncf": {"minmax": "MINMAX", "percentile": "MEAN_QUANTILE", "mse": "HISTOGRAM"},
    "neural-compressor": {"minmax": "minmax", "mse": "kl"},
    "trained": {},
}
"""Engine -> the ranges that it has -> what it calls them. NNCF's histogram and neural-compressor's `kl`, which is
torchao's histogram, look for the least squared error; neither has anything like entropy."""

AUTO_RANGES: Mapping[EngineName, RangeMethod] = {"nncf": "minmax", "neural-compressor": "mse", "trained": "minmax"}
"""What the ranges `auto` are for an engine that is not the project's own; neural-compressor's `minmax` forgets all but
the first samples, as it moves by 1 % for each. `trained` needs them for what rewrites made after the training."""


def load_engine(name: EngineName) -> Quantizer:
    """Import and return the function of an engine."""
    module, function = ENGINES[name].split(":")
    return getattr(importlib.import_module(f".{module}", __package__), function)

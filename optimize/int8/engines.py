"""The one table of engines for static int8: each takes a model, calibration samples and the same settings."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from .settings import Int8Settings

if TYPE_CHECKING:
    from onnx import ModelProto

    from .calibration import Feeds

__all__ = ["ENGINES", "EngineName", "load_engine"]

EngineName = Literal["onnxruntime", "nncf"]

Engine = Callable[["ModelProto", Iterable["Feeds"], Int8Settings], "ModelProto"]

ENGINES: Mapping[EngineName, str] = {
    "onnxruntime": "static:quantize_static",
    "nncf": "nncf_engine:quantize_nncf",
}
"""Engine -> module:function beside this file."""


def load_engine(name: EngineName) -> Engine:
    """Import and return the function of an engine."""
    module, function = ENGINES[name].split(":")
    return getattr(importlib.import_module(f".{module}", __package__), function)

"""The one table of steps; the command line, the recipes and the tests read it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["STEPS", "load_step"]

STEPS: Mapping[str, str] = {
    "strip": "strip:strip_checkpoint",
    "finetune": "finetune:finetune_network",
    "distill": "distill:distill_network",
    "prune": "prune:prune_network",
    "export": "export:export_onnx",
    "simplify": "simplify:simplify_onnx",
    "rewrite": "rewrite:rewrite_onnx",
    "quantize": "quantize:quantize_onnx",
    "convert": "openvino_ir:convert_openvino",
}
"""Step name -> module:function beside this file. The function's signature is its settings."""


def load_step(name: str) -> Callable[..., Path]:
    """Import and return the function of a step; raises KeyError for an unknown name."""
    module, function = STEPS[name].split(":")
    return getattr(importlib.import_module(f".{module}", __package__), function)

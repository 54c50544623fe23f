"""Rewrites of warps, one file each: exact algebra, for speed. REWRITES lists them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from .sites import Rewriting, Runtime, Site

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["REWRITES", "Rewrite", "Rewriting", "Runtime", "Site", "load_rewrite"]

Rewrite = Callable[["ModelProto", Runtime, Collection[str]], Rewriting]
"""(model, runtime, names of sites to leave alone) -> what it became. The model is not changed."""

REWRITES: Mapping[str, str] = {
    "pointwise": "pointwise:sink_convolutions",
    "heads": "heads:merge_heads",
    "padding": "padding:clamp_padding",
}
"""Name -> module:function beside this file, in the order they are applied: each knows what those before it leave."""


def load_rewrite(name: str) -> Rewrite:
    """Import and return a rewrite; raises KeyError for an unknown name."""
    module, function = REWRITES[name].split(":")
    return getattr(importlib.import_module(f".{module}", __package__), function)

"""Rewrites of warps, one file each: exact algebra, for speed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from .heads import merge_heads
from .padding import clamp_padding
from .pointwise import sink_convolutions
from .sites import Rewriting, Runtime, Site

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["REWRITES", "Rewrite", "Rewriting", "Runtime", "Site"]

Rewrite = Callable[["ModelProto", Runtime, Collection[str]], Rewriting]
"""(model, runtime, names of sites to leave alone) -> what it became. The model is not changed."""

REWRITES: Mapping[str, Rewrite] = {
    "pointwise": sink_convolutions,
    "heads": merge_heads,
    "padding": clamp_padding,
}
"""In the order they are applied: each knows the form that the one before leaves."""

"""Padding `border` and `reflection`, and align_corners 1: a clamped grid, zeros and align_corners 0 instead.

onnxruntime's fast kernel is for bilinear sampling with padding zeros and align_corners 0 only; any other takes
about ten times as long.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ..warp import Warp, find_warps
from .editing import Editor
from .grids import prepare_sampling
from .sites import IN_SUBGRAPH, Rewriting, Runtime, Site

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["clamp_padding"]


def clamp_padding(model: ModelProto, runtime: Runtime, skip: Collection[str]) -> Rewriting:
    """Give every bilinear GridSample padding zeros and align_corners 0, its grid clamped to sample the same.

    For OpenVINO too, which samples every padding at one speed, so that the file is fast on both. Features may have
    any size, fixed or not.
    """
    editor = Editor(model)
    sites, left = [], []
    for warp in find_warps(model):
        if warp.name in skip or warp.op != "GridSample" or _is_fast(warp):
            continue
        if reason := _find_obstacle(warp):
            left.append(f"{warp.name}: {reason}")
            continue
        editor.prefix = warp.name
        node = editor.find_node(warp.name)
        features, sampled = node.inputs[0], node.outputs[0]
        assert features is not None
        points, attributes = prepare_sampling(editor, warp)
        if warp.planar and warp.heads > 1 and warp.grid_shape:
            points = editor.reshape(points, -1, *(side or 0 for side in warp.grid_shape[1:]))
        sites.append(Site((warp.name,), str(sampled.name), (str(features.name),), grids=(warp.places,)))
        editor.replace(sampled, editor.add("GridSample", features, points, **attributes))
    return Rewriting(editor.finish(), tuple(sites), tuple(left))


def _is_fast(warp: Warp) -> bool:
    zeros = warp.padding_mode == "zeros" or warp.clamped
    return zeros and not warp.align_corners and warp.mode == "bilinear"


def _find_obstacle(warp: Warp) -> str:
    """Return why a warp is to be left alone, "" where it is not."""
    if warp.subgraph:
        return IN_SUBGRAPH.format(warp.subgraph)
    if warp.mode != "bilinear":
        return f"samples {warp.mode}; only bilinear has a fast kernel"
    if warp.features_shape is None or len(warp.features_shape) != 4:
        return "its features are not known to be pictures (N, C, H, W)"
    if warp.places_shape is None:
        return "the shape of its grid is not known"
    return ""

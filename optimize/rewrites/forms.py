"""The forms of a warp with K heads that copy no features; which is fastest depends on the runtime.

Each function adds nodes for features (N, C, h, w), places and attention (N, K, H, W) of the warp, and returns the
weighted sum (N, C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..onnx_graphs import read_sides
from .grids import prepare_sampling

if TYPE_CHECKING:
    import onnx_ir as ir

    from ..warp import Warp
    from .editing import Editor

__all__ = ["FORMS", "Form"]

Form = Callable[["Editor", "Warp", "ir.Value", int], "ir.Value"]
"""(editor, warp, features, their channels) -> the warped features."""


def sample_once(editor: Editor, warp: Warp, features: ir.Value, channels: int) -> ir.Value:
    """One head: one GridSample."""
    points, attributes = prepare_sampling(editor, warp)
    return editor.add("GridSample", features, points, **attributes)


def stack_heads(editor: Editor, warp: Warp, features: ir.Value, channels: int) -> ir.Value:
    """Stack the K grids along the height: one GridSample makes (N, C, K H, W), which is weighted and added."""
    _, _, height, width = read_sides(warp.output_shape)
    points, attributes = prepare_sampling(editor, warp)
    points = editor.reshape(points, -1, warp.heads * height, width, 2)
    sampled = editor.add("GridSample", features, points, **attributes)
    sampled = editor.reshape(sampled, -1, channels, warp.heads, height * width)
    attention = editor.reshape(editor.find(warp.attention), -1, 1, warp.heads, height * width)
    summed = editor.add("ReduceSum", editor.add("Mul", sampled, attention), np.array([2], np.int64), keepdims=0)
    return editor.reshape(summed, -1, channels, height, width)


def separate_heads(editor: Editor, warp: Warp, features: ir.Value, channels: int) -> ir.Value:
    """Sample once per head and add as they come: no more than one head's samples are in memory."""
    _, _, height, width = read_sides(warp.output_shape)
    ones = np.ones(warp.heads, np.int64)
    points, attributes = prepare_sampling(editor, warp)
    points = editor.reshape(points, -1, warp.heads, height, width * 2)
    grids = editor.add_outputs("Split", warp.heads, points, ones, axis=1)
    weights = editor.add_outputs("Split", warp.heads, editor.find(warp.attention), ones, axis=1)
    total: ir.Value | None = None
    for grid, weight in zip(grids, weights, strict=True):
        sampled = editor.add("GridSample", features, editor.reshape(grid, -1, height, width, 2), **attributes)
        weighted = editor.add("Mul", sampled, weight)
        total = weighted if total is None else editor.add("Add", total, weighted)
    assert total is not None
    return total


def deform_heads(editor: Editor, warp: Warp, features: ir.Value, channels: int) -> ir.Value:
    """Write the warp as a modulated deformable convolution with a kernel of 1 x K ones for each channel.

    Its taps are the heads, its offsets lead from pixel and tap to where the head looks, its mask is attention
    (Zhu et al., "Deformable ConvNets v2", CVPR 2019). It pads with zeros: a warp with border is clamped.
    """
    _, _, height, width = read_sides(warp.output_shape)
    _, _, rows, columns = read_sides(warp.features_shape)
    taps = warp.heads
    planes = editor.find(warp.places)
    if not warp.planar:
        planes = editor.reshape(planes, -1, height, width, 2)
        planes = editor.add("Transpose", planes, perm=[0, 3, 1, 2])
    planes = editor.reshape(planes, -1, taps, 2, height, width)
    x, y = editor.add_outputs("Split", 2, planes, np.ones(2, np.int64), axis=2)
    x = _find_pixels(editor, warp, x, columns)
    y = _find_pixels(editor, warp, y, rows)
    own_x = (np.arange(width) + np.arange(taps)[:, None]).astype(np.float32).reshape(1, taps, 1, 1, width)
    own_y = np.arange(height, dtype=np.float32).reshape(1, 1, 1, height, 1)
    x, y = editor.add("Sub", x, own_x), editor.add("Sub", y, own_y)
    offsets = editor.reshape(editor.add("Concat", y, x, axis=2), -1, 2 * taps, height, width)
    ones = np.ones((channels, 1, 1, taps), np.float32)
    return editor.add(
        "DeformConv",
        *(features, ones, offsets, None, editor.find(warp.attention)),
        kernel_shape=[1, taps],
        pads=[0, 0, height - rows, width - columns + taps - 1],
        group=channels,
        offset_group=1,
    )


def _find_pixels(editor: Editor, warp: Warp, coordinates: ir.Value, size: int) -> ir.Value:
    """Turn normalised coordinates into pixels, 0 the centre of the first; kept on the features for `border`."""
    scale = (size - 1) / 2 if warp.align_corners else size / 2
    pixels = editor.add("Mul", coordinates, np.array(scale, np.float32))
    pixels = editor.add("Add", pixels, np.array((size - 1) / 2, np.float32))
    if warp.padding_mode == "zeros":
        return pixels
    return editor.add("Clip", pixels, np.array(0, np.float32), np.array(size - 1, np.float32))


FORMS: Mapping[str, Form] = {"stacked": stack_heads, "separate": separate_heads, "deformable": deform_heads}

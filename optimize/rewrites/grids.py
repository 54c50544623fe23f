"""Arithmetic on sampling grids: other conventions, other layouts, the same places.

Normalised as `torch.nn.functional.grid_sample` has it: x before y; with align_corners 0 the features span -1 to 1
from edge to edge of their outer pixels, with 1 from centre to centre.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

    from ..warp import Warp
    from .editing import Editor

__all__ = ["Sampling", "pad_by_clamping", "prepare_sampling"]


class Sampling(NamedTuple):
    """A grid (.., 2) as GridSample reads it, and the attributes it is to be sampled with."""

    points: ir.Value
    attributes: dict[str, str | int]


def prepare_sampling(editor: Editor, warp: Warp) -> Sampling:
    """Return how the warp samples, in the form with a fast kernel where there is one (bilinear).

    Points are (N K, H, W, 2) where the warp's places are planes, else laid out as its node reads them.
    """
    places, padding, corners = editor.find(warp.places), warp.padding_mode, int(warp.align_corners)
    if warp.mode == "bilinear":
        places, padding, corners = pad_by_clamping(editor, warp, places), "zeros", 0
    points = editor.add("Transpose", places, perm=[0, 2, 3, 1]) if warp.planar else places
    mode = editor.find_node(warp.name).attributes.get_string("mode", "bilinear")
    return Sampling(points, {"mode": mode, "padding_mode": padding, "align_corners": corners})


def pad_by_clamping(editor: Editor, warp: Warp, places: ir.Value) -> ir.Value:
    """Return places at which padding with zeros and align_corners 0 samples what the warp does.

    Exact for bilinear sampling: `border` keeps pixel coordinates within [0, size - 1], which in the grid is
    +-(1 - 1 / size); `reflection` folds the grid at +-1 first; align_corners 1 only scales it by (size - 1) / size.
    """
    limits = _find_limits(editor, warp)
    if warp.padding_mode == "reflection":
        places = _fold(editor, places)
    if warp.align_corners:
        places = editor.add("Mul", places, limits)
    if warp.padding_mode == "zeros":
        return places
    low = -limits if isinstance(limits, np.ndarray) else editor.add("Neg", limits)
    return editor.add("Min", editor.add("Max", places, low), limits)


def _find_limits(editor: Editor, warp: Warp) -> np.ndarray | ir.Value:
    """Return 1 - 1 / size of the features, x before y, in the layout of the places; computed where it varies."""
    layout = (1, 2, 1, 1) if warp.planar else (2,)
    _, _, height, width = warp.features_shape or (None,) * 4
    if height and width:
        return np.array([1 - 1 / width, 1 - 1 / height], np.float32).reshape(layout)
    sides = editor.add("Gather", editor.add("Shape", editor.find(warp.features)), np.array([3, 2], np.int64))
    inverse = editor.add("Reciprocal", editor.add("Cast", sides, to=1))
    return editor.reshape(editor.add("Sub", np.array(1, np.float32), inverse), *layout)


def _fold(editor: Editor, places: ir.Value) -> ir.Value:
    """Reflect places at -1 and 1 until they lie between: 1 - |(g + 1) mod 4 - 2|."""
    one, two, four = (np.array(number, np.float32) for number in (1, 2, 4))
    shifted = editor.add("Add", places, one)
    periods = editor.add("Floor", editor.add("Div", shifted, four))
    within = editor.add("Sub", shifted, editor.add("Mul", periods, four))
    return editor.add("Sub", one, editor.add("Abs", editor.add("Sub", within, two)))

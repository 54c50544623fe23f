"""Warps with K heads without copies of their features, in the form that the runtime is fastest at."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ..onnx_graphs import read_sides
from ..warp import Warp, find_warps
from .deform_conv import DEFORM_OPSET, fits_deform, has_kernel, raise_opset
from .editing import Editor
from .forms import FORMS, Form
from .sites import IN_SUBGRAPH, Rewriting, Runtime, Site

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["choose_form", "choose_portable_form", "find_obstacle", "merge_heads"]


def merge_heads(model: ModelProto, runtime: Runtime, skip: Collection[str]) -> Rewriting:
    """Write every warp with several heads in the form of `choose_form`: features and attention are copied no more.

    Shapes must be known, but for the batch. Where a form needs it, the model's opset is raised to 19.
    """
    warps = [warp for warp in find_warps(model) if warp.heads > 1 and warp.op == "GridSample" and warp.name not in skip]
    left = [f"{warp.name}: {reason}" for warp in warps if (reason := find_obstacle(warp))]
    warps = [warp for warp in warps if not find_obstacle(warp)]
    forms = {warp.name: choose_form(warp, runtime) for warp in warps}
    if "deformable" in forms.values():
        model = raise_opset(model)
    editor, sites = Editor(model), []
    for warp in warps:
        node, form = editor.find_node(warp.name), forms[warp.name]
        if form == "deformable" and editor.opset < DEFORM_OPSET:
            left.append(f"{warp.name}: the opset cannot be raised to {DEFORM_OPSET}, so it is stacked")
            form = "stacked"
        if form == "stacked" and node.inputs[0] is editor.find(warp.features):
            continue
        editor.prefix = warp.name
        channels = read_sides(warp.features_shape)[1]
        made = FORMS[form](editor, warp, editor.find(warp.features), channels)
        sites.append(Site((warp.name,), warp.output, (warp.features, warp.attention), grids=(warp.places,)))
        editor.replace(editor.find(warp.output), made)
    return Rewriting(editor.finish(), tuple(sites), tuple(left))


def choose_portable_form(runtime: Runtime) -> Form:
    """Return the form that the runtime is fastest at among those of any opset."""
    return FORMS["separate" if runtime == "openvino" else "stacked"]


def choose_form(warp: Warp, runtime: Runtime) -> str:
    """Return the key in FORMS of the fastest, by measurement (`vtopt bench forms`, benchmarks/results/warp_forms.csv).

    On onnxruntime, at every size, a deformable convolution, where this installation has its kernel, else grids
    stacked along the height; on OpenVINO a GridSample for each head. Taps gathered from channel-last features beat
    that on OpenVINO at large sizes. They are no form yet: casts and quantisers would not know them as a warp.
    """
    if runtime == "openvino":
        return "separate"
    return "deformable" if fits_deform(warp) and has_kernel() else "stacked"


def find_obstacle(warp: Warp) -> str:
    """Return why a warp cannot be written in another form, "" where it can."""
    if warp.subgraph:
        return IN_SUBGRAPH.format(warp.subgraph)
    shapes = (warp.features_shape, warp.output_shape)
    if any(shape is None or len(shape) != 4 or None in shape for shape in shapes):
        return "its shapes are not known; export with a fixed height and width"
    return ""

"""One warp with K heads by itself, in every form it can be written: what `choose_form` rests on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from ...optimize.errors import UsageError
from ...optimize.onnx_graphs import read_sides
from ...optimize.rewrites.deform_conv import raise_opset
from ...optimize.rewrites.editing import Editor
from ...optimize.rewrites.forms import FORMS, Form
from ...optimize.rewrites.heads import choose_form
from ...optimize.rewrites.sites import Runtime
from ...optimize.warp import Warp, find_warps
from ..host import count_cpus
from .form_group import FormTask, measure_form_group
from .network_forms import PLAIN, Variant
from .rewrite_group import Group
from .single_warp import draw_feeds, make_plain, parse_case

if TYPE_CHECKING:
    import onnx_ir as ir
    from onnx import ModelProto

__all__ = ["DEFAULT_CASES", "NOTE", "measure_forms"]

DEFAULT_CASES = ("256x32x24", "256x64x48", "256x128x96", "64x256x192", "32x256x192")
"""Channels, height and width of the warps of SDAFN_plus."""
DEFAULT_THREADS = (1, 2, 4)
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)

NOTE = "Ratio: to plain on the same runtime. Difference: to plain on onnxruntime."


def measure_forms(
    cases: Sequence[str] = DEFAULT_CASES,
    *,
    heads: int = 6,
    threads: Sequence[int] | None = None,
    runs: int = 20,
    warmup: int = 3,
) -> Iterator[Group]:
    """Measure a warp in every form on every runtime, and yield a group for each case and thread count.

    A case is written CHANNELSxHEIGHTxWIDTH. A group's forms run in turns. `threads` defaults to 1, 2 and 4 as
    far as there are cores. A form that a runtime does not load, or that makes something else than the plain
    form does, is left out with a notice.

    Raises UsageError for a case that is none, or heads that are too few or too many to be recognised, and
    InputError when no runtime runs the plain form.
    """
    if heads < 2:
        raise UsageError(f"heads: {heads} is too few; a warp with one head has one form, give 2 or more")
    counts = dict.fromkeys(threads or [count for count in DEFAULT_THREADS if count <= count_cpus()])
    for case in [parse_case(text, heads) for text in dict.fromkeys(cases)]:
        with tempfile.TemporaryDirectory(prefix="vtopt-forms-") as folder:
            plain = make_plain(case)
            (warp,) = find_warps(plain)
            if warp.heads != heads:
                raise UsageError(f"{case}: a warp of {heads} heads is not recognised; give fewer")
            chosen = {str(runtime): choose_form(warp, runtime) for runtime in RUNTIMES}
            variants, feeds = _write_forms(plain, Path(folder)), draw_feeds(case)
            columns = {"case": str(case), "heads": heads}
            for count in counts:
                yield measure_form_group(FormTask(columns, feeds, PLAIN, chosen, count, runs, warmup), variants)


def gather_heads(editor: Editor, warp: Warp, features: ir.Value, channels: int) -> ir.Value:
    """Gather 4 neighbours for each head from features with channels last, and multiply them with their weights.

    It is measured to show why it is not shipped: what it gathers is 4 K times as large as the features.
    For one picture, places in planes, padding `border` and align_corners 0.
    """
    _, _, height, width = read_sides(warp.output_shape)
    _, _, rows, columns = read_sides(warp.features_shape)
    pixels, taps = height * width, 4 * warp.heads
    sides = np.array([columns, rows], np.float32).reshape(1, 2, 1, 1)
    zero, one, ones = np.array(0, np.float32), np.array(1, np.float32), np.ones(2, np.int64)
    places = editor.add("Mul", editor.find(warp.places), sides / 2)
    places = editor.add("Add", places, (sides - 1) / 2)
    places = editor.add("Min", editor.add("Max", places, zero), sides - 1)
    corners = editor.add("Min", editor.add("Floor", places), sides - 2)
    x, y = editor.add_outputs("Split", 2, editor.add("Sub", places, corners), ones, axis=1)
    column, row = editor.add_outputs("Split", 2, corners, ones, axis=1)

    first = editor.add("Add", editor.add("Mul", row, np.array(columns, np.float32)), column)
    steps = np.array([0, 1, columns, columns + 1], np.int32).reshape(1, 4, 1, 1)
    indices = editor.add("Add", editor.add("Cast", first, to=6), steps)
    indices = editor.reshape(editor.add("Transpose", indices, perm=[2, 3, 0, 1]), -1)

    attention = editor.add("Transpose", editor.find(warp.attention), perm=[1, 0, 2, 3])
    above = editor.add("Mul", attention, editor.add("Sub", one, y))
    below = editor.add("Mul", attention, y)
    factors = (editor.add("Sub", one, x), x)
    weights = editor.add("Concat", *(editor.add("Mul", side, by) for side in (above, below) for by in factors), axis=1)
    weights = editor.reshape(editor.add("Transpose", weights, perm=[2, 3, 0, 1]), pixels, 1, taps)

    table = editor.reshape(editor.add("Transpose", features, perm=[0, 2, 3, 1]), rows * columns, channels)
    gathered = editor.reshape(editor.add("Gather", table, indices, axis=0), pixels, taps, channels)
    summed = editor.reshape(editor.add("MatMul", weights, gathered), 1, height, width, channels)
    return editor.add("Transpose", summed, perm=[0, 3, 1, 2])


MEASURED: Mapping[str, Form] = {**FORMS, "gathered": gather_heads}
"""What is measured beside the plain form."""


def _write_forms(plain: ModelProto, folder: Path) -> list[Variant]:
    """Write the plain form and those it is rewritten to, each for every runtime."""
    import onnx

    for form, model in {PLAIN: plain, **{form: _rewrite(plain, form) for form in MEASURED}}.items():
        onnx.save(model, folder / f"{form}.onnx")
    return [Variant(form, runtime, folder / f"{form}.onnx") for runtime in RUNTIMES for form in (PLAIN, *MEASURED)]


def _rewrite(model: ModelProto, form: str) -> ModelProto:
    """Return the model with its one warp in this form, whatever a runtime prefers."""
    if form == "deformable":
        model = raise_opset(model)
    (warp,) = find_warps(model)
    editor = Editor(model)
    editor.prefix = warp.name
    made = MEASURED[form](editor, warp, editor.find(warp.features), read_sides(warp.features_shape)[1])
    editor.replace(editor.find(warp.output), made)
    return editor.finish()

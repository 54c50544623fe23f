"""One warp with K heads by itself, in every form it can be written: what `choose_form` rests on."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from ..optimize.errors import InputError, UsageError
from ..optimize.onnx_graphs import read_sides
from ..optimize.rewrites.deform_conv import raise_opset
from ..optimize.rewrites.editing import Editor
from ..optimize.rewrites.forms import FORMS, Form
from ..optimize.rewrites.heads import choose_form
from ..optimize.rewrites.sites import Runtime
from ..optimize.warp import Warp, find_warps
from .engines import Engine, open_engine
from .host import count_cpus, describe_host
from .latency import count_rounds, measure_latency
from .network_forms import PLAIN, Variant
from .report_files import save_csv
from .rewrite_group import Group
from .single_warp import Case, draw_feeds, make_plain, parse_case
from .tables import format_table, to_json_value

if TYPE_CHECKING:
    import onnx_ir as ir
    from onnx import ModelProto

__all__ = ["DEFAULT_CASES", "format_forms", "measure_forms", "write_forms_csv"]

DEFAULT_CASES = ("256x32x24", "256x64x48", "256x128x96", "64x256x192", "32x256x192")
"""Channels, height and width of the warps of SDAFN_plus."""
DEFAULT_THREADS = (1, 2, 4)
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)

TOLERANCE = 1e-4
"""A form that differs by more from the plain one, as a share of its largest value, is not the same warp."""

COLUMNS = (
    "case",
    "heads",
    "form",
    "runtime",
    "threads",
    "median ms",
    "p90 ms",
    "min ms",
    "ratio",
    "difference",
    "chosen",
)
HOW_COLUMNS = ("runs", "warmup")

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class _Task:
    case: Case
    threads: int
    runs: int
    warmup: int


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
            for count in counts:
                yield _measure_group(_Task(case, count, runs, warmup), variants, feeds, chosen)


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


def _measure_group(task: _Task, variants: Sequence[Variant], feeds: Arrays, chosen: Mapping[str, str]) -> Group:
    """Run the forms that load in turns; `chosen` has the form that `choose_form` takes on each runtime."""
    notices: list[str] = []
    engines, made = _open_engines(task, variants, feeds, notices)
    differences = _check_forms(task, made, notices)
    engines = {variant: engines[variant] for variant in differences}
    latency = measure_latency(
        engines,
        dict.fromkeys(engines, feeds),
        runs=task.runs,
        warmup=task.warmup,
        progress=count_rounds(f"{task.case} threads {task.threads}", task.runs + task.warmup),
    )
    plain = {variant.runtime: timing.median_ms for variant, timing in latency.items() if variant.form == PLAIN}
    rows = [
        {
            "case": str(task.case),
            "heads": task.case.heads,
            "form": variant.form,
            "runtime": variant.runtime,
            "threads": task.threads,
            "median ms": timing.median_ms,
            "p90 ms": timing.p90_ms,
            "min ms": timing.min_ms,
            "ratio": timing.median_ms / plain[variant.runtime] if variant.runtime in plain else None,
            "difference": differences[variant],
            "chosen": "yes" if chosen[variant.runtime] == variant.form else "no",
            "runs": timing.runs,
            "warmup": timing.warmup,
        }
        for variant, timing in latency.items()
    ]
    return Group(tuple(rows), (), tuple(notices))


def _open_engines(
    task: _Task, variants: Sequence[Variant], feeds: Arrays, notices: list[str]
) -> tuple[dict[Variant, Engine], dict[Variant, np.ndarray]]:
    """Return the engines of the variants that load and run, and what each makes."""
    engines, made = {}, {}
    for variant in variants:
        try:
            engine = open_engine(variant.path, runtime=variant.runtime, threads=task.threads)
            made[variant] = engine.run(feeds)["warped"]
        except InputError as error:
            notices.append(_leave_out(task, variant, str(error).removeprefix(f"{variant.path}: ").partition("; ")[0]))
            continue
        engines[variant] = engine
    return engines, made


def _check_forms(task: _Task, made: Mapping[Variant, np.ndarray], notices: list[str]) -> dict[Variant, float]:
    """Return how far each form is from plain on the first runtime; one that is another warp is left out."""
    plain = next((array for variant, array in made.items() if variant.form == PLAIN), None)
    if plain is None:
        raise InputError(f"{task.case}: no runtime runs the plain form; there is nothing to compare with")
    differences = {}
    for variant, array in made.items():
        alike = array.shape == plain.shape
        difference = float(np.abs(array - plain).max() / np.abs(plain).max()) if alike else math.inf
        if difference <= TOLERANCE:
            differences[variant] = difference
        else:
            notices.append(_leave_out(task, variant, f"it differs from plain by {difference:.1e}"))
    return differences


def _leave_out(task: _Task, variant: Variant, reason: str) -> str:
    return f"{task.case}: {variant.form} on {variant.runtime} is left out: {reason}"


def format_forms(groups: Sequence[Group], *, as_json: bool = False) -> str:
    """Return the figures of all groups as a table with notices and conditions, or as JSON."""
    rows = [row for group in groups for row in group.rows]
    notices = list(dict.fromkeys(notice for group in groups for notice in group.notices))
    conditions = describe_host()
    if as_json:
        data = {"rows": rows, "conditions": conditions, "notices": notices}
        return json.dumps(to_json_value(data), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    how = {column: ", ".join(dict.fromkeys(str(row[column]) for row in rows)) for column in HOW_COLUMNS}
    parts = [
        "".join(f"- **{notice}**\n" for notice in notices),
        format_table(rows, COLUMNS),
        f"Measured: {', '.join(f'{key} {value}' for key, value in {**how, **conditions}.items())}, in turns. "
        "Ratio: to plain on the same runtime. Difference: to plain on onnxruntime.\n",
    ]
    return "\n".join(part for part in parts if part)


def write_forms_csv(groups: Sequence[Group], path: Path) -> Path:
    """Write all rows to `path`, with the conditions as columns."""
    conditions = describe_host()
    rows = [{**row, **conditions} for group in groups for row in group.rows]
    return save_csv(rows, (*COLUMNS, *HOW_COLUMNS, *conditions), path)

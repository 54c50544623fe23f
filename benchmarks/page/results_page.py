"""The page of a results file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engines.sets import Key
from ..reports.results_report import make_results_report
from ..run.entry_figures import make_figures
from ..run.results import EntryKey, Model, Results, Shown, pick_baseline
from .content import Artifact, Page, Profile, View, choose_views, make_points

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["make_results_page"]

NOISE_TOLD = (
    "A process is one observation, and intervals are Student's t over the processes: 95 % of a median's hold it, and "
    "that of a speed holds what 95 % of other such runs find. Speed is the ratio of the fastest rounds of each "
    "process, which other work on the machine disturbs least, and so is not that of the medians. By it alone models "
    "are told apart: from the baseline where its interval does not hold 1, from each other where theirs do not overlap."
)


def make_results_page(results: Results, path: Path, baseline: str | None = None) -> Page:
    """Return the page of results that were read from `path`, speed as a ratio to `baseline`, by default the first.

    Pictures are read from where the results say, beside the file; those that are gone or no pictures are told.
    Raises InputError for a baseline that the results have not.
    """
    report = make_results_report(results, baseline)
    timed = [(row["model"], row["runtime"]) for row in report.rows if row.get("median ms") is not None]
    reference = _find_reference(results)
    compared = timed[0] if timed else reference
    views, missing = _read_views(results, path.parent)
    return Page(
        title=path.stem,
        table=report,
        points=make_points(report, reference, _make_all_figures(results, compared[0])),
        reference=reference,
        baseline=compared,
        profiles=tuple(Profile(each.model, each.runtime, each.threads, each.by_op) for each in results.op_times),
        views=choose_views(views, reference),
        artifacts=tuple(map(_describe, results.models)),
        conditions={**report.conditions, **_describe_machine(results)},
        notices=(*report.notices, *missing),
        noise=NOISE_TOLD,
    )


def _find_reference(results: Results) -> Key:
    if results.quality:
        return results.quality[0].model, results.quality[0].runtime
    return results.entries[0].key[:2] if results.entries else (results.models[0].name, "")


def _make_all_figures(results: Results, baseline: str) -> dict[EntryKey, Mapping[str, Any]]:
    """Return the figures of every entry that was timed, speed as a ratio to the baseline with its threads and batch."""
    timed = [entry for entry in results.entries if entry.samples]
    return {entry.key: make_figures(entry, pick_baseline(timed, entry, baseline), timed) for entry in timed}


def _read_views(results: Results, folder: Path) -> tuple[list[View], list[str]]:
    views, missing = [], dict[str, None]()
    for shown in results.shown:
        pictures = [_read_picture(folder, name) for name in (shown.picture, shown.reference)]
        picture, reference = pictures
        if picture is None or reference is None or picture.size != reference.size:
            missing[f"the pictures of {shown.model} are not beside the results, or damaged: they are not shown"] = None
            continue
        views.append(_make_view(shown, picture, reference))
    return views, list(missing)


def _make_view(shown: Shown, picture: Image.Image, reference: Image.Image) -> View:
    return View(shown.model, shown.runtime, shown.role, shown.pair, shown.psnr, picture, reference)


def _read_picture(folder: Path, name: str) -> Image.Image | None:
    """Read a PNG in the folder; None for what is none, and for what lies outside."""
    from PIL import Image

    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        return None
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _describe(model: Model) -> Artifact:
    return Artifact(model.name, Path(model.path).name, model.sha256, model.bytes, model.history)


def _describe_machine(results: Results) -> Mapping[str, Any]:
    """Return what the machine offers, and when the run began and ended."""
    machine = {name: value for name, value in results.machine.items() if name != "flags"}
    times = [results.conditions.get(when, {}).get("time") for when in ("begin", "end")]
    return {
        **machine,
        "CPU flags": ", ".join(results.machine.get("flags", ())),
        "measured": " to ".join(time for time in times if time),
    }

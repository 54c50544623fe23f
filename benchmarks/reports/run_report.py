"""The report of a run: its artifacts measured side by side, kept in the run's folder as text, JSON and a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ...optimize.artifacts import SUFFIXES, write_picture
from ...optimize.errors import InputError
from ...optimize.provenance import read_history
from ...optimize.run_state import read_run, recall_run
from ..page.content import Profile
from ..page.document import format_page
from ..page.models_page import make_models_page, profile_models
from ..quality.comparison import ShownPair
from ..quality.sheets import make_difference_sheet
from .files import save_text
from .quick_measure import measure_models
from .rendering import render_report
from .report import Report
from .tables import to_json_value

__all__ = ["list_last_run", "write_run_report"]


def list_last_run() -> tuple[dict[str, Path], Path | None, str | None]:
    """Return the last run's reported artifacts by name, its pairs and its network.

    Raises InputError when there was none.
    """
    folder = recall_run()
    if folder is None:
        raise InputError("bench: no models are named and no run is remembered; name models, or vtopt run a recipe")
    return _list_run(folder)


def _list_run(folder: Path) -> tuple[dict[str, Path], Path | None, str | None]:
    state = read_run(folder)
    models = {name: folder / file for name, file in state.reported.items() if _is_measurable(folder / file)}
    return models, Path(state.pairs) if state.pairs else None, state.network


def _is_measurable(path: Path) -> bool:
    return path.suffix in {SUFFIXES[kind] for kind in ("weights", "onnx", "openvino")}


def write_run_report(
    folder: Path, *, count: int = 8, threads: int | None = None, fmt: Literal["md", "json"] = "md"
) -> str:
    """Measure a run's artifacts, write report.md, .json and .html and the worst pairs there, and return the text."""
    import json

    models, pairs, network = _list_run(folder)
    report = measure_models(models, folder=pairs, count=count, threads=threads, network=network)
    steps = [f"- {name}: {notice}" for name, path in models.items() for notice in _list_notices(path)]
    text = render_report(report) + ("\nFrom the steps:\n\n" + "\n".join(steps) + "\n" if steps else "")
    profiles = profile_models(report, models)
    data = json.dumps(_to_data(report, models, profiles), indent=2, allow_nan=False) + "\n"
    page = make_models_page(report, models, title=Path(read_run(folder).recipe).stem, profiles=profiles)
    for name, content in (("report.md", text), ("report.json", data), ("report.html", format_page(page))):
        save_text(content, folder / name)
    reference = next(iter(models))
    for name, worst in _pick_worst(report).items():
        sheet = make_difference_sheet(worst.picture, worst.reference, worst.pair, (name, reference))
        write_picture(sheet, folder / f"worst-{name}.png", force=True)
    return text if fmt == "md" else data


def _pick_worst(report: Report) -> dict[str, ShownPair]:
    """Return each model's worst pair on the runtime where it is worst."""
    worst: dict[str, ShownPair] = {}
    for (name, _), pairs in report.shown.items():
        worst[name] = min((*pairs, *([worst[name]] if name in worst else [])), key=lambda pair: pair.psnr)
    return worst


def _list_notices(path: Path) -> list[str]:
    """Return what the steps that made the artifact had to say, oldest first, each once."""
    said = [notice for record in read_history(path) for notice in record.notices]
    return list(dict.fromkeys(said))


def _to_data(report: Report, models: dict[str, Path], profiles: Sequence[Profile]) -> object:
    return to_json_value(
        {
            "rows": report.rows,
            "conditions": report.conditions,
            "notices": report.notices,
            "op_times": profiles,
            "steps": {name: [vars(record) for record in read_history(path)] for name, path in models.items()},
        }
    )

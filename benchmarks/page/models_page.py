"""The page of models that were measured quickly in one process, and of a run's artifacts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ...optimize.artifacts import hash_artifact, list_files
from ...optimize.progress import track
from ...optimize.provenance import Record, read_history
from ..cost.op_times import measure_op_times
from ..quality.sheets import make_picture
from ..reports.report import Report
from .content import SAME_SPEED_RATIO, Artifact, Page, Profile, View, choose_views, make_points

__all__ = ["make_models_page", "profile_models"]

RUNS = 3
NOISE_TOLD = (
    "Models ran in turns in one process, and speed is the ratio of their fastest runs, without intervals: speeds "
    f"within {SAME_SPEED_RATIO - 1:.0%} of each other are not told apart, and on a busy machine farther ones are not "
    "either. vtopt bench run measures in fresh processes, with intervals."
)


def profile_models(report: Report, models: Mapping[str, Path]) -> tuple[Profile, ...]:
    """Measure where the time of each graph goes on each runtime that the report has it on, with its threads."""
    graphs = [key for key in _list_keys(report) if key[1] in ("onnxruntime", "openvino")]
    threads = report.conditions["threads"]
    return tuple(
        Profile(
            name,
            runtime,
            threads,
            measure_op_times(models[name], runtime=runtime, threads=threads, runs=RUNS, warmup=1).by_op,
        )
        for name, runtime in track(graphs, "profile operations", total=len(graphs))
    )


def make_models_page(
    report: Report, models: Mapping[str, Path], *, title: str, profiles: Sequence[Profile] = ()
) -> Page:
    """Return the page of a report of models, whose files are read for their sha256 and their steps."""
    first = _list_keys(report)[0]
    histories = {name: read_history(path) for name, path in models.items()}
    views = [
        View(*key, pair.role, pair.pair, pair.psnr, make_picture(pair.picture), make_picture(pair.reference))
        for key, pairs in report.shown.items()
        for pair in pairs
    ]
    return Page(
        title=title,
        table=report,
        points=make_points(report, first),
        reference=first,
        baseline=first,
        profiles=tuple(profiles),
        views=choose_views(views, first),
        artifacts=tuple(_describe(name, path, histories[name]) for name, path in models.items()),
        conditions=report.conditions,
        notices=(*report.notices, *_join_notices(histories)),
        noise=NOISE_TOLD,
    )


def _list_keys(report: Report) -> list[tuple[str, str]]:
    return [(row["model"], row["runtime"]) for row in report.rows if "runtime" in row]


def _describe(name: str, path: Path, history: Iterable[Record]) -> Artifact:
    size = sum(file.stat().st_size for file in list_files(path))
    return Artifact(name, path.name, hash_artifact(path), size, tuple(vars(record) for record in history))


def _join_notices(histories: Mapping[str, Sequence[Record]]) -> list[str]:
    """Return what the steps had to say, each once with the models it was said of."""
    said: dict[str, dict[str, None]] = {}
    for name, history in histories.items():
        for notice in (notice for record in history for notice in record.notices):
            said.setdefault(notice, {})[name] = None
    return [f"{', '.join(names)}: {notice}" for notice, names in said.items()]

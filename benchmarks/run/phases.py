"""What a run does before it measures times: open the models, count what they cost, compare pictures, profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...optimize.progress import track
from ..cost.op_times import measure_op_times
from ..engines.sets import Key, feed_engines, find_size, shows_pictures
from ..host import describe_load, describe_machine, take_reason
from ..timing.processes import save_feeds
from .opening import Opened, Opening, describe_models, open_lots, open_models, plan_run, run_once
from .pictures import keep_shown, require_own_folder
from .quality import judge_pictures, open_measures
from .results import FORMAT, Entry, OperationTimes, Results, Settings, write_results

if TYPE_CHECKING:
    from ...optimize.data.pairs import Pair
    from .quality import Measures

__all__ = ["Feeds", "prepare_run"]

OP_RUNS = 3
RAN_ON_NOISE = "pictures are not compared: the models ran on noise, as their inputs are unknown"

Feeds = Mapping[tuple[str, str, int], Path]
"""Model, runtime and batch -> the file of its inputs."""


def prepare_run(
    models: Mapping[str, Path], settings: Settings, folder: Path, known: Results | None, output: Path
) -> tuple[Results, Feeds]:
    """Return results without times, and every model's inputs, saved in `folder`; write `output` after each phase.

    Of `known`, what an interrupted run left, only pending phases are done. Raises InputError for models that cannot be
    measured together, and for weights of LPIPS or of FID's network that are none, OutputError where `output` or its
    pictures cannot be written.
    """
    from ...optimize.data.pairs import open_pairs

    opened = open_models(models, settings)
    size = find_size(opened.engines)
    pairs = open_pairs(Path(settings.pairs) if settings.pairs else None, size, settings.pair_count)
    fed = feed_engines(opened.engines, pairs[0], settings.batches)
    feeds = {key: save_feeds(arrays, folder / f"{number}.npz") for number, (key, arrays) in enumerate(fed.items())}
    if known and not known.pending:
        return known, feeds
    measures = None
    if shows_pictures(opened.engines) and (known is None or "pictures" in known.pending):
        require_own_folder(output)
        measures = open_measures(settings, pairs)
    if known is None:
        largest = {key: fed[*key, max(settings.batches)] for key in opened.engines}
        opened = run_once(opened, largest)
        known = _begin(models, settings, opened, plan_run(opened.engines, largest), pairs, size)
        write_results(known, output)
    opening = open_lots(opened.engines, _read_lots(known), models, settings)
    if "pictures" in known.pending:
        known = _add_pictures(known, opening, measures, models, pairs, output)
        write_results(known, output)
    if "operations" in known.pending:
        known = _add_operations(known, models, feeds)
        write_results(known, output)
    return known, feeds


def _begin(
    models: Mapping[str, Path],
    settings: Settings,
    opened: Opened,
    lots: Sequence[Sequence[Key]],
    pairs: Sequence[Pair],
    size: tuple[int, int],
) -> Results:
    """Return results with what the models cost alone."""
    from ...optimize.data.pairs import hash_pairs

    begin = describe_load()
    costs, left_out = describe_models(models, settings, size, {name for name, _ in opened.engines})
    return Results(
        format=FORMAT,
        complete=False,
        settings=settings,
        machine=describe_machine(),
        conditions={
            "size": "x".join(map(str, size)),
            "pairs": len(pairs),
            "pairs_sha256": hash_pairs(Path(settings.pairs) if settings.pairs else None, size, settings.pair_count),
            "lots": [[[*key] for key in lot] for lot in lots],
            "begin": begin,
        },
        models=tuple(costs),
        entries=tuple(
            Entry(*key, threads, batch, failed=opened.failed.get(key, ""))
            for threads in settings.threads
            for batch in settings.batches
            for key in (*opened.engines, *opened.failed)
        ),
        notices=(*opened.notices, *_note_lots(lots), *left_out),
        pending=("pictures", "operations"),
    )


def _note_lots(lots: Sequence[Sequence[Key]]) -> list[str]:
    if len(lots) == 1:
        return []
    return [f"memory does not hold all models: they ran in {len(lots)} lots, each beside {' on '.join(lots[0][0])}"]


def _read_lots(results: Results) -> list[list[Key]]:
    return [[(model, runtime) for model, runtime in lot] for lot in results.conditions["lots"]]


def _add_pictures(
    results: Results,
    opening: Opening,
    measures: Measures | None,
    models: Mapping[str, Path],
    pairs: Sequence[Pair],
    output: Path,
) -> Results:
    pending = tuple(phase for phase in results.pending if phase != "pictures")
    if measures is None:
        keep_shown({}, output)
        return replace(results, pending=pending, notices=(*results.notices, RAN_ON_NOISE))
    judged = judge_pictures(opening, measures, models, pairs, results.settings, output)
    return replace(
        results,
        quality=judged.quality,
        unchanged=judged.unchanged,
        shown=judged.shown,
        pending=pending,
        notices=(*results.notices, *judged.notices),
    )


def _add_operations(results: Results, models: Mapping[str, Path], feeds: Feeds) -> Results:
    """Add where the time goes in each graph, with the first count of threads."""
    import numpy as np

    settings = results.settings
    keys = dict.fromkeys(key for lot in _read_lots(results) for key in lot if key[1] in ("onnxruntime", "openvino"))
    measured, notices = [], []
    for name, runtime in track(keys, "profile operations", total=len(keys)):
        asked = {"runtime": runtime, "threads": settings.threads[0], "runs": OP_RUNS, "warmup": 1}
        try:
            with np.load(feeds[name, runtime, settings.batches[0]]) as archive:
                times = measure_op_times(models[name], **asked, feeds=dict(archive))
        except Exception as error:  # each runtime has exceptions of its own
            notices.append(f"{name} on {runtime} has no times of operations: {take_reason(error)}")
            continue
        measured.append(OperationTimes(name, runtime, settings.threads[0], times.by_op))
    return replace(
        results,
        op_times=tuple(measured),
        pending=tuple(phase for phase in results.pending if phase != "operations"),
        notices=(*results.notices, *notices),
    )

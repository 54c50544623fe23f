"""`vtopt bench run`: measure models side by side, each in processes of its own, and keep every time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...optimize.artifacts import hash_artifact
from ...optimize.errors import InputError, OutputError, UsageError
from ...optimize.progress import track
from ..cost.flops import describe_uncounted
from ..cost.model_cost import measure_cost
from ..cost.op_times import measure_op_times
from ..engines.engine import Engine
from ..engines.sets import Key, feed_engines, find_size, open_engines, shows_pictures
from ..host import describe_load, describe_machine
from ..quality.comparison import UNCHANGED, compare_models, show_pairs
from ..timing.latency import count_rounds
from ..timing.processes import Job, save_feeds
from ..timing.sampling import Plan, measure_block, require_cpus
from .pictures import keep_shown
from .results import FORMAT, Comparison, Entry, Measured, Results, Settings, Shown, read_results, write_results

if TYPE_CHECKING:
    from ...optimize.data.pairs import Pair
    from ..quality.pictures import Quality

__all__ = ["measure_run"]

OP_RUNS = 3

Feeds = Mapping[tuple[str, str, int], Path]
"""Model, runtime and batch -> the file of its inputs."""


def measure_run(models: Mapping[str, Path], output: Path, settings: Settings, *, force: bool = False) -> Results:
    """Measure models, by name, and write `output`, anew after each block of rounds.

    A block is a fresh process for each model and runtime with the same threads and batch, timed in turns (see
    `measure_block`); blocks of all threads and batches come in turns too, so that a model's processes lie far apart.
    An interrupted run leaves whole blocks, and the same call goes on from them.

    Raises InputError for models that cannot be measured together, UsageError for more threads than CPUs,
    OutputError where `output` is there already and complete, or from another call; nothing is lost then.
    """
    if not models:
        raise UsageError("bench run: there are no models to measure; name at least one")
    require_cpus(max(settings.threads))
    known = None if force or not output.exists() else read_results(output)
    if known:
        _require_same_call(known, models, settings, output)
    with tempfile.TemporaryDirectory(prefix="vtopt-bench-") as folder:
        results, feeds = _prepare(models, settings, Path(folder), known, output)
        write_results(results, output)
        results = _measure_blocks(results, models, feeds, output)
    results = replace(results, complete=True, notices=(*results.notices, *_find_unsteady(results)))
    write_results(results, output)
    return results


def _require_same_call(known: Results, models: Mapping[str, Path], settings: Settings, output: Path) -> None:
    """Raise OutputError unless the file is what the same call left when it was interrupted."""
    if known.complete:
        raise OutputError(f"{output}: exists already; choose another name or pass --force")
    asked = vars(settings)
    differing = [name for name, value in vars(known.settings).items() if value != asked[name]]
    if {model.name: model.sha256 for model in known.models} != {n: hash_artifact(p) for n, p in models.items()}:
        differing.append("models")
    if dict(known.machine) != describe_machine():
        differing.append("machine or versions")
    if differing:
        raise OutputError(
            f"{output}: is of an interrupted run with other {', '.join(differing)}; give the same to go on with it, "
            "choose another name, or pass --force to measure anew"
        )


def _prepare(
    models: Mapping[str, Path], settings: Settings, folder: Path, known: Results | None, output: Path
) -> tuple[Results, Feeds]:
    """Return results without times, those of the interrupted run where there was one, and every model's inputs."""
    from ...optimize.data.pairs import hash_pairs, open_pairs

    engines, notices = open_engines(
        models, threads=max(settings.threads), network=settings.network, runtimes=settings.runtimes
    )
    size = find_size(engines)
    asked = Path(settings.pairs) if settings.pairs else None, size, settings.pair_count
    pairs = open_pairs(*asked)
    feeds = {
        key: save_feeds(fed, folder / f"{number}.npz")
        for number, (key, fed) in enumerate(feed_engines(engines, pairs[0], settings.batches).items())
    }
    if known:
        return known, feeds
    pictures = _compare_pictures(engines, pairs, output)
    costs = [
        measure_cost(name, path, network=settings.network, size=size)
        for name, path in track(models.items(), "count multiply-adds", total=len(models))
    ]
    left_out = [f"{cost.name}: MACs leave out {describe_uncounted(cost.uncounted)}" for cost in costs if cost.uncounted]
    return Results(
        format=FORMAT,
        complete=False,
        settings=settings,
        machine=describe_machine(),
        conditions={
            "size": "x".join(map(str, size)),
            "pairs": len(pairs),
            "pairs_sha256": hash_pairs(*asked),
            "begin": describe_load(),
        },
        models=tuple(costs),
        entries=tuple(
            Entry(name, runtime, threads, batch)
            for threads in settings.threads
            for batch in settings.batches
            for name, runtime in engines
        ),
        quality=pictures.quality,
        unchanged=pictures.unchanged,
        shown=pictures.shown,
        op_times=_profile(models, engines, feeds, settings),
        notices=(*notices, *left_out, *pictures.notices),
    ), feeds


@dataclass(frozen=True)
class _Pictures:
    quality: tuple[Comparison, ...] = ()
    unchanged: Quality | None = None
    shown: tuple[Shown, ...] = ()
    notices: tuple[str, ...] = ()


def _compare_pictures(engines: Mapping[Key, Engine], pairs: Sequence[Pair], output: Path) -> _Pictures:
    """Compare all models' pictures where they take and make pictures; else say why not.

    Those of the worst and the median pairs are kept in a folder beside `output`.
    """
    if not shows_pictures(engines):
        return _Pictures(notices=("pictures are not compared: the models ran on noise, as their inputs are unknown",))
    try:
        compared = compare_models(engines, pairs)
        shown = keep_shown(show_pairs(engines, pairs, compared.to_first), output)
    except InputError as error:
        return _Pictures(notices=(f"pictures are not compared: {error}",))
    quality = tuple(Comparison(*key, score, compared.to_truth.get(key)) for key, score in compared.to_first.items())
    return _Pictures(quality, compared.to_truth.get(UNCHANGED), shown)


def _profile(
    models: Mapping[str, Path], engines: Mapping[Key, Engine], feeds: Feeds, settings: Settings
) -> tuple[Measured, ...]:
    """Return where the time goes in each graph, with the first count of threads."""
    import numpy as np

    threads = settings.threads[0]
    graphs = [key for key in engines if key[1] in ("onnxruntime", "openvino")]
    measured = []
    for name, runtime in track(graphs, "profile operations", total=len(graphs)):
        with np.load(feeds[name, runtime, settings.batches[0]]) as archive:
            fed = dict(archive)
        times = measure_op_times(models[name], runtime=runtime, threads=threads, runs=OP_RUNS, warmup=1, feeds=fed)
        measured.append(Measured(name, runtime, threads, times.by_op))
    return tuple(measured)


def _measure_blocks(results: Results, models: Mapping[str, Path], feeds: Feeds, output: Path) -> Results:
    """Measure every block that the results lack, and write them after each."""
    settings = results.settings
    plan = Plan(settings.runs, settings.seconds, settings.processes)
    left = _list_blocks(results)
    advance = _count_rounds(len(left) * plan.rounds)
    for process, threads, batch in left:
        block = [entry for entry in results.entries if (entry.threads, entry.batch) == (threads, batch)]
        jobs = [
            Job(models[name], feeds[name, runtime, batch], runtime, threads, settings.network)
            for name, runtime, _, _ in (entry.key for entry in block)
        ]
        samples = measure_block(jobs, plan, process, advance=advance)
        measured = {
            entry.key: replace(entry, samples=(*entry.samples, sample))
            for entry, sample in zip(block, samples, strict=True)
        }
        results = replace(
            results,
            entries=tuple(measured.get(entry.key, entry) for entry in results.entries),
            conditions={**results.conditions, "end": describe_load()},
        )
        write_results(results, output)
    return results


def _list_blocks(results: Results) -> list[tuple[int, int, int]]:
    """Return process, threads and batch of what is still to measure."""
    settings = results.settings
    done = {(sample.process, entry.threads, entry.batch) for entry in results.entries for sample in entry.samples}
    blocks = [
        (process, threads, batch)
        for process in range(settings.processes)
        for threads in settings.threads
        for batch in settings.batches
    ]
    return [block for block in blocks if block not in done]


def _count_rounds(total: int) -> Callable[[], None]:
    """Return what is called after each round: it moves a progress bar with an ETA."""
    advance = count_rounds("measure", total)
    return lambda: advance(0, 0)


def _find_unsteady(results: Results) -> list[str]:
    """Say which models' times still moved when the warm-up was over."""
    return [
        f"{entry.model} on {entry.runtime}, {entry.threads} threads: still not steady after the warm-up in "
        f"{moving} of {len(entry.samples)} processes"
        for entry in results.entries
        if (moving := sum(not sample.steady for sample in entry.samples))
    ]

"""`vtopt bench run`: measure models side by side, each in processes of its own, and keep every time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...optimize.artifacts import hash_artifact
from ...optimize.errors import InputError, OutputError, UsageError
from ...optimize.progress import track
from ..cost.flops import describe_uncounted
from ..cost.op_times import measure_op_times
from ..engines.sets import Key, feed_engines, find_size, shows_pictures
from ..host import describe_load, describe_machine
from ..timing.latency import count_rounds
from ..timing.processes import Job, save_feeds
from ..timing.sampling import Failure, Plan, Sample, measure_block, require_cpus
from .opening import describe_model, open_lots, open_models, run_once
from .quality import Judged, judge_pictures
from .results import FORMAT, Entry, OperationTimes, Results, Settings, read_results, write_results

__all__ = ["measure_run"]

OP_RUNS = 3
RAN_ON_NOISE = "pictures are not compared: the models ran on noise, as their inputs are unknown"

Feeds = Mapping[tuple[str, str, int], Path]
"""Model, runtime and batch -> the file of its inputs."""


def measure_run(models: Mapping[str, Path], output: Path, settings: Settings, *, force: bool = False) -> Results:
    """Measure models, by name, and write `output`, anew after each block of rounds.

    A block is a fresh process for each model and runtime with the same threads and batch, timed in turns (see
    `measure_block`); blocks of all threads and batches come in turns too, so that a model's processes lie far apart.
    An interrupted run leaves whole blocks, and the same call goes on from them. A model that does not load or run, or
    whose process dies, has the reason in its entry, and the others go on.

    Raises InputError for models that cannot be measured together, and where none can be measured, UsageError for more
    threads than CPUs, OutputError where `output` is there already and complete, or from another call; nothing is lost
    then.
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
    results = replace(
        results, complete=True, notices=(*results.notices, *_find_failed(results), *_find_unsteady(results))
    )
    write_results(results, output)
    if not any(entry.samples for entry in results.entries):
        raise InputError(f"bench run: no model could be measured; {_find_failed(results)[0]}")
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
        raise _refuse_other(output, differing)


def _refuse_other(output: Path, differing: Sequence[str]) -> OutputError:
    return OutputError(
        f"{output}: is of an interrupted run with other {', '.join(differing)}; give the same to go on with it, "
        "choose another name, or pass --force to measure anew"
    )


def _prepare(
    models: Mapping[str, Path], settings: Settings, folder: Path, known: Results | None, output: Path
) -> tuple[Results, Feeds]:
    """Return results without times, those of the interrupted run where there was one, and every model's inputs."""
    from ...optimize.data.pairs import hash_pairs, open_pairs

    opened = open_models(models, settings)
    size, pictured = find_size(opened.engines), shows_pictures(opened.engines)
    asked = Path(settings.pairs) if settings.pairs else None, size, settings.pair_count
    pairs_sha256 = hash_pairs(*asked)
    if known and known.conditions.get("pairs_sha256") != pairs_sha256:
        raise _refuse_other(output, ["pairs"])
    pairs = open_pairs(*asked)
    fed = feed_engines(opened.engines, pairs[0], settings.batches)
    feeds = {key: save_feeds(arrays, folder / f"{number}.npz") for number, (key, arrays) in enumerate(fed.items())}
    if known:
        return known, feeds
    largest = {key: fed[*key, max(settings.batches)] for key in opened.engines}
    opened = run_once(opened, largest)
    keys = [*opened.engines]
    lots, open_each = open_lots(opened.engines, largest, models, settings)
    judged = Judged(notices=(RAN_ON_NOISE,))
    if pictured:
        judged = judge_pictures(open_each, models, pairs, settings, output)
    sound = {name for name, _ in keys}
    costs = [
        describe_model(name, path, settings, size, sound=name in sound)
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
            "pairs_sha256": pairs_sha256,
            "lots": [[[*key] for key in lot] for lot in lots],
            "begin": describe_load(),
        },
        models=tuple(costs),
        entries=tuple(
            Entry(*key, threads, batch, failed=opened.failed.get(key, ""))
            for threads in settings.threads
            for batch in settings.batches
            for key in (*keys, *opened.failed)
        ),
        quality=judged.quality,
        unchanged=judged.unchanged,
        shown=judged.shown,
        op_times=_profile(models, keys, feeds, settings),
        notices=(*opened.notices, *_note_lots(lots), *left_out, *judged.notices),
    ), feeds


def _note_lots(lots: Sequence[Sequence[Key]]) -> list[str]:
    if len(lots) == 1:
        return []
    return [f"memory does not hold all models: they ran in {len(lots)} lots, each beside {' on '.join(lots[0][0])}"]


def _profile(
    models: Mapping[str, Path], keys: Sequence[Key], feeds: Feeds, settings: Settings
) -> tuple[OperationTimes, ...]:
    """Return where the time goes in each graph, with the first count of threads."""
    import numpy as np

    threads = settings.threads[0]
    graphs = [key for key in keys if key[1] in ("onnxruntime", "openvino")]
    measured = []
    for name, runtime in track(graphs, "profile operations", total=len(graphs)):
        with np.load(feeds[name, runtime, settings.batches[0]]) as archive:
            fed = dict(archive)
        times = measure_op_times(models[name], runtime=runtime, threads=threads, runs=OP_RUNS, warmup=1, feeds=fed)
        measured.append(OperationTimes(name, runtime, threads, times.by_op))
    return tuple(measured)


def _measure_blocks(results: Results, models: Mapping[str, Path], feeds: Feeds, output: Path) -> Results:
    """Measure every block that the results lack, and write them after each."""
    settings = results.settings
    plan = Plan(settings.runs, settings.seconds, settings.processes)
    left = _list_blocks(results)
    advance = _count_rounds(len(left) * plan.rounds)
    for block in left:
        entries = [entry for entry in results.entries if entry.key in block.keys and not entry.failed]
        jobs = [
            Job(models[entry.model], feeds[entry.model, entry.runtime, entry.batch], *entry.key[1:3], settings.network)
            for entry in entries
        ]
        ends = measure_block(jobs, plan, block.process, advance=advance) if jobs else []
        measured = {entry.key: _add_end(entry, end, block.number) for entry, end in zip(entries, ends, strict=True)}
        results = replace(
            results,
            entries=tuple(measured.get(entry.key, entry) for entry in results.entries),
            conditions={**results.conditions, "end": describe_load()},
        )
        write_results(results, output)
    return results


def _add_end(entry: Entry, end: Sample | Failure, number: int) -> Entry:
    if isinstance(end, Failure):
        return replace(entry, failed=end.reason)
    return replace(entry, samples=(*entry.samples, replace(end, process=number)))


@dataclass(frozen=True)
class _Block:
    """Entries that run in turns, in fresh processes."""

    process: int
    number: int
    """Of the processes that ran in turns: each lot has its own, as others run beside it."""
    keys: frozenset[tuple[str, str, int, int]]


def _list_blocks(results: Results) -> list[_Block]:
    """Return what is still to measure."""
    settings = results.settings
    lots = results.conditions.get("lots") or [[entry.key[:2] for entry in results.entries]]
    blocks = [
        _Block(
            process,
            process * len(lots) + index,
            frozenset((model, runtime, threads, batch) for model, runtime in lot),
        )
        for process in range(settings.processes)
        for threads in settings.threads
        for batch in settings.batches
        for index, lot in enumerate(lots)
    ]
    done = {(entry.key, sample.process) for entry in results.entries for sample in entry.samples}
    return [block for block in blocks if not any((key, block.number) in done for key in block.keys)]


def _count_rounds(total: int) -> Callable[[], None]:
    """Return what is called after each round: it moves a progress bar with an ETA."""
    advance = count_rounds("measure", total)
    return lambda: advance(0, 0)


def _find_failed(results: Results) -> list[str]:
    """Say which models failed, and why."""
    return [
        f"{entry.model} on {entry.runtime}, threads {entry.threads}, batch {entry.batch}: failed"
        f"{f' after {len(entry.samples)} of {results.settings.processes} processes' if entry.samples else ''}"
        f": {entry.failed}"
        for entry in results.entries
        if entry.failed
    ]


def _find_unsteady(results: Results) -> list[str]:
    """Say which models' times still moved when the warm-up was over."""
    return [
        f"{entry.model} on {entry.runtime}, {entry.threads} threads: still not steady after the warm-up in "
        f"{moving} of {len(entry.samples)} processes"
        for entry in results.entries
        if (moving := sum(not sample.steady for sample in entry.samples))
    ]

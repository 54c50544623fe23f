"""`vtopt bench run`: measure models side by side, each in processes of its own, and keep every time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ...optimize.artifacts import hash_artifact
from ...optimize.errors import InputError, OutputError, UsageError, VtoptError
from ..host import describe_load, describe_machine
from ..timing.latency import count_rounds
from ..timing.processes import Job
from ..timing.sampling import Failure, Plan, Sample, measure_block, require_cpus
from .phases import Feeds, prepare_run
from .results import Entry, Results, Settings, read_results, write_results

__all__ = ["measure_run"]


def measure_run(models: Mapping[str, Path], output: Path, settings: Settings, *, force: bool = False) -> Results:
    """Measure models, by name, and write `output`, anew after each phase and each block of rounds.

    A block is a fresh process for each model and runtime with the same threads and batch, timed in turns (see
    `measure_block`); blocks of all threads and batches come in turns too, so that a model's processes lie far apart.
    An interrupted run leaves whole phases and blocks, and the same call goes on from them, with `force` too, which
    overwrites any other file. A model that does not load or run, or whose process dies, has the reason in its entry,
    and the others go on.

    Raises InputError for models that cannot be measured together, and where none can be measured, UsageError for more
    threads than CPUs, OutputError where `output` is there already and complete, or from another call, and where its
    pictures would go to a folder with other files; nothing is lost then.
    """
    if not models:
        raise UsageError("bench run: there are no models to measure; name at least one")
    require_cpus(max(settings.threads))
    known = _find_interrupted(models, settings, output, force=force)
    with tempfile.TemporaryDirectory(prefix="vtopt-bench-") as folder:
        results, feeds = prepare_run(models, settings, Path(folder), known, output)
        results = _measure_blocks(results, models, feeds, output)
    results = replace(
        results, complete=True, notices=(*results.notices, *_find_failed(results), *_find_unsteady(results))
    )
    write_results(results, output)
    if not any(entry.samples for entry in results.entries):
        raise InputError(f"bench run: no model could be measured; {_find_failed(results)[0]}")
    return results


def _find_interrupted(models: Mapping[str, Path], settings: Settings, output: Path, *, force: bool) -> Results | None:
    """Return what the same call left when it was interrupted; None where there is no file, or `force` overwrites it."""
    if not output.exists():
        return None
    try:
        known = read_results(output)
        _require_same_call(known, models, settings, output)
    except VtoptError:
        if force:
            return None
        raise
    return known


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
    if not differing and known.conditions.get("pairs_sha256") != _hash_pairs(settings, known.conditions["size"]):
        differing.append("pairs")
    if differing:
        raise OutputError(
            f"{output}: is of an interrupted run with other {', '.join(differing)}; give the same to go on with it, "
            "choose another name, or pass --force to measure anew"
        )


def _hash_pairs(settings: Settings, size: str) -> str:
    from ...optimize.data.pairs import hash_pairs

    height, width = map(int, size.split("x"))
    return hash_pairs(Path(settings.pairs) if settings.pairs else None, (height, width), settings.pair_count)


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

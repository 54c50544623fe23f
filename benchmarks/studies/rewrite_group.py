"""The forms of one network side by side: time, memory, operations, and the difference to the plain form's outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...optimize.errors import InputError
from ...optimize.progress import track
from ...optimize.warp import WARP_OPS
from ..cost.op_times import OpTimes, measure_op_times
from ..cost.size import measure_size
from ..engines.engine import Engine, open_engine
from ..host import need
from ..timing.latency import Latency, count_rounds, measure_latency
from ..timing.peak_memory import PeakMemory, measure_peak_memory
from .network_forms import ALL, EAGER, PLAIN, Variant
from .plain_warp import plain_warps

if TYPE_CHECKING:
    from ...optimize.networks import Network

__all__ = ["Group", "Task", "measure_group"]

OP_RUNS = 5

MEMORY_SHARE = 0.8
"""The part of the free memory that engines held open side by side may take."""

Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Group:
    """The figures of one network, batch and thread count, all taken in turns."""

    rows: tuple[Mapping[str, Any], ...]
    """One per form and runtime."""
    op_rows: tuple[Mapping[str, Any], ...]
    """One per operation type: its time on onnxruntime in the plain and in the rewritten model."""
    notices: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """What is measured in one group, and how."""

    network: Network
    size: tuple[int, int]
    batch: int
    threads: int
    runs: int
    warmup: int

    @property
    def title(self) -> str:
        return f"{self.network.name} batch {self.batch} threads {self.threads}"


def measure_group(task: Task, variants: Sequence[Variant], feeds: Feeds) -> Group:
    """Measure the variants of one network in turns, all fed with `feeds`.

    A variant that a runtime does not load or run is left out, with a notice.
    """
    notices: list[str] = []
    memory = _measure_memory(task, variants, feeds, notices)
    latency: dict[Variant, Latency] = {}
    differences: dict[Variant, float | None] = {}
    for lot in _split_lots(task, memory, notices):
        engines = _open_engines(task, lot, notices)
        differences |= _measure_differences(task, engines, feeds, notices)
        engines = {variant: engine for variant, engine in engines.items() if variant in differences}
        latency |= measure_latency(
            engines,
            dict.fromkeys(engines, feeds),
            runs=task.runs,
            warmup=task.warmup,
            progress=count_rounds(f"{task.title}: latency", task.runs + task.warmup),
        )
        del engines
    op_times = _measure_ops(task, latency, feeds)
    rows = [
        _make_row(task, variant, latency, differences[variant], memory[variant], op_times.get(variant))
        for variant in variants
        if variant in latency
    ]
    return Group(tuple(rows), tuple(_make_op_rows(task, op_times)), tuple(notices))


def _measure_memory(
    task: Task, variants: Sequence[Variant], feeds: Feeds, notices: list[str]
) -> dict[Variant, PeakMemory]:
    """Return the memory of the variants that load and run; what a fresh process cannot load is not loaded here."""
    memory = {}
    for variant in track(variants, f"{task.title}: memory", total=len(variants)):
        try:
            memory[variant] = measure_peak_memory(
                variant.path,
                feeds,
                runtime=variant.runtime,
                threads=task.threads,
                network=task.network.name if variant.form == EAGER else None,
                plain=variant.form == EAGER,
            )
        except InputError as error:
            notices.append(_leave_out(task, variant, error))
    return memory


def _leave_out(task: Task, variant: Variant, error: Exception) -> str:
    reason = str(error).removeprefix(f"{variant.path}: ").replace(str(variant.path), variant.path.name)
    return f"{task.title}: {variant.form} on {variant.runtime} is left out: {reason}"


def _split_lots(task: Task, memory: Mapping[Variant, PeakMemory], notices: list[str]) -> list[list[Variant]]:
    """Return the variants in one lot, or where they do not fit in memory together in one for each runtime."""
    wanted = sum(each.peak_mib - each.imported_mib for each in memory.values())
    free = need("psutil").virtual_memory().available / 2**20
    if wanted <= MEMORY_SHARE * free:
        return [list(memory)]
    notices.append(
        f"{task.title}: all models together take about {wanted:,.0f} MiB of {free:,.0f} free: "
        "onnxruntime and OpenVINO were measured one after the other, not in turns"
    )
    apart = [[variant for variant in memory if (variant.runtime == "openvino") is side] for side in (False, True)]
    return [lot for lot in apart if lot]


def _open_engines(task: Task, variants: Sequence[Variant], notices: list[str]) -> dict[Variant, Engine]:
    engines = {}
    for variant in variants:
        network = task.network.name if variant.form == EAGER else None
        try:
            engine = open_engine(variant.path, runtime=variant.runtime, threads=task.threads, network=network)
        except InputError as error:
            notices.append(_leave_out(task, variant, error))
            continue
        engines[variant] = replace(engine, run=_run_plainly(engine)) if variant.form == EAGER else engine
    return engines


def _run_plainly(engine: Engine) -> Callable[[Feeds], dict[str, np.ndarray]]:
    def run(feeds: Feeds) -> dict[str, np.ndarray]:
        with plain_warps():
            return engine.run(feeds)

    return run


def _measure_differences(
    task: Task, engines: Mapping[Variant, Engine], feeds: Feeds, notices: list[str]
) -> dict[Variant, float | None]:
    """Run every engine once; return how far each is from the plain form on its runtime, None without that form."""
    made: dict[Variant, dict[str, np.ndarray]] = {}
    for variant, engine in engines.items():
        try:
            made[variant] = engine.run(feeds)
        except InputError as error:
            notices.append(_leave_out(task, variant, error))
    expected = {variant: _find_plain(variant, made) for variant in made}
    return {
        variant: None if reference is None else _find_difference(made[reference], made[variant])
        for variant, reference in expected.items()
    }


def _find_plain(variant: Variant, known: Mapping[Variant, object]) -> Variant | None:
    """Return the variant that this one is compared with."""
    runtime = "onnxruntime" if variant.runtime == "torch" else variant.runtime
    return next((other for other in known if other.form == PLAIN and other.runtime == runtime), None)


def _find_difference(expected: Mapping[str, np.ndarray], made: Mapping[str, np.ndarray]) -> float:
    """Return the largest difference of any output, as a share of that output's largest value."""
    pairs = zip(expected.values(), made.values(), strict=True)
    return max(float(np.abs(a - b).max() / (np.abs(a).max() or 1.0)) for a, b in pairs)


def _measure_ops(task: Task, variants: Mapping[Variant, object], feeds: Feeds) -> dict[Variant, OpTimes]:
    chosen = [variant for variant in variants if variant.runtime == "onnxruntime"]
    runs = min(OP_RUNS, task.runs)
    return {
        variant: measure_op_times(variant.path, threads=task.threads, runs=runs, feeds=feeds)
        for variant in track(chosen, f"{task.title}: operations", total=len(chosen))
    }


def _make_row(
    task: Task,
    variant: Variant,
    latency: Mapping[Variant, Latency],
    difference: float | None,
    memory: PeakMemory,
    ops: OpTimes | None,
) -> dict[str, Any]:
    timing, plain = latency[variant], _find_plain(variant, latency)
    return {
        "network": task.network.name,
        "form": variant.form,
        "runtime": variant.runtime,
        "threads": task.threads,
        "batch": task.batch,
        "median ms": timing.median_ms,
        "p90 ms": timing.p90_ms,
        "min ms": timing.min_ms,
        "ratio": timing.median_ms / latency[plain].median_ms if plain else None,
        "difference": difference,
        "conv share": ops.share("Conv") if ops else None,
        "warp share": ops.share(*WARP_OPS) if ops else None,
        "memory MiB": memory.peak_mib,
        "imports MiB": memory.imported_mib,
        "file MiB": measure_size(variant.path) / 2**20,
        "size": f"{task.size[0]}x{task.size[1]}",
        "runs": timing.runs,
        "warmup": timing.warmup,
    }


def _make_op_rows(task: Task, op_times: Mapping[Variant, OpTimes]) -> Iterator[dict[str, Any]]:
    """Yield the time of every operation type in the plain model and in the one with all rewrites, largest first."""
    by_form = {variant.form: times for variant, times in op_times.items()}
    plain, rewritten = by_form.get(PLAIN), by_form.get(ALL)
    if plain is None or rewritten is None:
        return
    ops = dict.fromkeys([*plain.by_op, *rewritten.by_op])
    for op in sorted(ops, key=lambda op: -max(plain.by_op.get(op, 0), rewritten.by_op.get(op, 0))):
        yield _make_op_row(task, op, plain.by_op.get(op, 0.0), rewritten.by_op.get(op, 0.0))
    yield _make_op_row(task, "(all)", plain.total_ms, rewritten.total_ms)


def _make_op_row(task: Task, op: str, plain: float, rewritten: float) -> dict[str, Any]:
    where = {"network": task.network.name, "threads": task.threads, "batch": task.batch}
    return {**where, "operation": op, "plain ms": plain, "all rewrites ms": rewritten}

"""Time models in fresh processes, in rounds: one runs, then the next, so that a busy moment of the machine hits all."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...optimize.errors import InputError, UsageError
from .latency import PAUSE_SECONDS
from .processes import Job, Worker, start_workers

__all__ = [
    "BUSY",
    "Failure",
    "Plan",
    "Sample",
    "choose_cpus",
    "list_cpus",
    "measure_block",
    "require_cpus",
    "take_off_waiting",
]

BUSY = 0.05
"""A machine is busy when models wait for a CPU for this part of their time."""

MAX_ROUNDS = 10
"""Of one process; more runs, or more seconds, make its turns longer."""

WARMUP_WINDOW = 5
STEADY = 1.02
"""A process is warm when the medians of its last two windows of runs differ by less."""
WARMUP_SECONDS = 5.0
"""It is warm enough after so long; of slow models the windows are then shorter."""


@dataclass(frozen=True)
class Plan:
    """How much is measured of every model: at least so many runs and so many seconds, over so many processes."""

    runs: int = 50
    seconds: float = 5.0
    processes: int = 8

    @property
    def rounds(self) -> int:
        """Rounds of one process."""
        return min(MAX_ROUNDS, math.ceil(self.runs / self.processes))

    @property
    def turn_runs(self) -> int:
        return math.ceil(self.runs / (self.processes * self.rounds))

    @property
    def turn_seconds(self) -> float:
        return self.seconds / (self.processes * self.rounds)


@dataclass(frozen=True)
class Sample:
    """What one process measured of its model."""

    process: int
    """The number of its block; samples of one block ran in turns."""
    cpus: tuple[int, ...]
    """Those it was pinned to; none where the system has no such thing."""
    load_ms: float
    first_ms: float
    """The first run, which plans memory and may compile."""
    imported_mib: float
    """Resident memory with the runtime imported and the inputs there, before the model is loaded."""
    peak_mib: float
    """The most that was ever resident; the model's share is this less `imported_mib`."""
    warmup: int
    """Runs that do not count, the first not among them."""
    steady: bool
    rounds: tuple[tuple[tuple[float, float], ...], ...]
    """By round, each run's milliseconds on the clock, and those in which its threads, together, waited for a CPU."""


@dataclass(frozen=True)
class Failure:
    """Why a process measured nothing."""

    reason: str


def measure_block(
    jobs: Sequence[Job], plan: Plan, process: int = 0, *, advance: Callable[[], None] = lambda: None
) -> list[Sample | Failure]:
    """Start a process for each job, warm them up, time them in rounds, and end them.

    All are pinned to the same CPUs, others for the next `process`, and one at a time computes. The order turns by
    one from round to round. `advance` is called after each round. A model that does not load or run, or whose process
    is killed, has a failure, and the others go on.

    Raises UsageError for more threads than CPUs.
    """
    cpus = [choose_cpus(job.threads, process) for job in jobs]
    with start_workers(jobs) as workers:
        steps = [_measure(worker, plan, process, pinned) for worker, pinned in zip(workers, cpus, strict=True)]
        ends: dict[int, Sample | Failure] = {}
        for turn in range(-2, plan.rounds + 1):  # they load, warm up, take the rounds, and end
            first = max(turn, 0) % len(steps)
            for index in [*range(first, len(steps)), *range(first)]:
                if index not in ends and (end := _take_step(steps[index])):
                    ends[index] = end
                    workers[index].end()
            if 0 <= turn < plan.rounds:
                advance()
        return [ends[index] for index in range(len(steps))]


def _measure(worker: Worker, plan: Plan, process: int, cpus: tuple[int, ...]) -> Generator[None, None, Sample]:
    """Load, warm up and take rounds; others have their turns at each yield."""
    times = worker.load(cpus)
    yield
    warmup, steady = _warm_up(worker)
    yield
    rounds = []
    for _ in range(plan.rounds):
        time.sleep(PAUSE_SECONDS)
        rounds.append(tuple(worker.take_turn(plan.turn_runs, plan.turn_seconds)))
        yield
    return Sample(process, cpus, **times, **worker.ask("memory"), warmup=warmup, steady=steady, rounds=tuple(rounds))


def _take_step(steps: Generator[None, None, Sample]) -> Sample | Failure | None:
    """Go on to the next yield; return what it came to at its end."""
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    except InputError as error:
        return Failure(str(error))
    return None


def choose_cpus(threads: int, process: int) -> tuple[int, ...]:
    """Return a CPU for each thread among those of `list_cpus`, the next ones for the next process.

    Raises UsageError where there are fewer CPUs than threads.
    """
    require_cpus(threads)
    if not hasattr(os, "sched_getaffinity"):
        return ()
    allowed = list_cpus()
    start = process * threads % len(allowed)
    return tuple(sorted((allowed[start:] + allowed[:start])[:threads]))


def require_cpus(threads: int) -> None:
    """Raise UsageError where this process may use fewer CPUs than threads: those would wait for each other."""
    count = len(list_cpus())
    if threads > count:
        raise UsageError(f"threads: {threads} are more than the {count} CPUs that this process may use; ask for fewer")


def list_cpus() -> list[int]:
    """Return the CPUs that this process may use: one of each core first, then the others that share those cores."""
    if not hasattr(os, "sched_getaffinity"):
        return [*range(os.cpu_count() or 1)]
    met: Counter[str] = Counter()
    places = []
    for cpu in sorted(os.sched_getaffinity(0)):
        core = _read_siblings(cpu)
        places.append((met[core], cpu))
        met[core] += 1
    return [cpu for _, cpu in sorted(places)]


def _read_siblings(cpu: int) -> str:
    """Return the CPUs of this one's core as Linux lists them, or the CPU alone where it does not."""
    with suppress(OSError):
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    return str(cpu)


def take_off_waiting(time_ms: float, waited_ms: float, threads: int) -> float:
    """Return a run's time without that in which the system gave its CPU to others: of one thread.

    The time of several is left as the clock had it: they also wait for each other, and how much of the run that cost
    is not known.
    """
    return time_ms if threads > 1 else max(time_ms - waited_ms, 0.0) or time_ms


def _warm_up(worker: Worker) -> tuple[int, bool]:
    """Run until steady or for `WARMUP_SECONDS`, at least twice; return the runs, and whether it was steady."""
    times: list[float] = []
    while True:
        times += [take_off_waiting(*run, worker.job.threads) for run in worker.take_turn(1, 0, settle=False)]
        over = sum(times) >= WARMUP_SECONDS * 1e3
        window = min(WARMUP_WINDOW, len(times) // 2)
        if window == WARMUP_WINDOW or (over and window):
            before, after = (statistics.median(part) for part in (times[-2 * window : -window], times[-window:]))
            steady = max(before, after) < STEADY * min(before, after)
            if steady or over:
                return len(times), steady

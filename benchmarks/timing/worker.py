"""A process that holds one model and runs it when asked: requests come in as lines of JSON, answers go out so."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ...optimize.errors import VtoptError

__all__ = ["MAX_RUNS", "limit_waiting", "serve"]

MAX_RUNS = 10_000
"""A turn ends after so many runs, whatever time is left."""


def serve() -> None:
    """Answer requests on stdin until it ends; what libraries print goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that asks, which ends this process
    with suppress(OSError):  # where memory runs out, Linux is to end this process and not the one that asks
        Path("/proc/self/oom_score_adj").write_text("1000")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    model = _Model()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(model, request.pop("do"))(**request)
        except VtoptError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


class _Model:
    """The model between requests; each method answers the request of its name."""

    run: Callable[[Mapping[str, np.ndarray]], Any]
    feeds: Mapping[str, np.ndarray]
    cpus: int

    def __init__(self) -> None:
        self.held = ExitStack()
        """What stays open as long as the model is there."""

    def load(
        self, path: str, feeds: str, runtime: str, threads: int, cpus: list[int], network: str | None, plain: bool
    ) -> dict[str, float]:
        """Load the model on these CPUs and run it for the first time; times in milliseconds, memory in MiB."""
        self.cpus = len(cpus)
        if cpus:
            os.sched_setaffinity(0, cpus)
        from ..engines.runtimes import Settings, load_model
        from ..studies.plain_warp import plain_warps
        from .memory import import_runtime, read_memory, reset_peak

        import_runtime(runtime)
        with np.load(feeds) as archive:
            self.feeds = {name: archive[name] for name in archive.files}
        imported = read_memory("VmRSS")
        reset_peak()
        begin = time.perf_counter_ns()
        if plain:
            self.held.enter_context(plain_warps())
        self.run = load_model(Path(path), runtime, Settings(threads, network)).run
        loaded = time.perf_counter_ns()
        self.run(self.feeds)
        first = time.perf_counter_ns()
        gc.collect()
        gc.disable()
        return {"imported_mib": imported, "load_ms": (loaded - begin) / 1e6, "first_ms": (first - loaded) / 1e6}

    def turn(self, runs: int, seconds: float, settle: bool) -> dict[str, list[list[float]]]:
        """Run at least so often and so long; return milliseconds of each run, and of how long it waited for a CPU.

        With `settle` one run more goes first and does not count: it finds the caches as another model left them.
        """
        times: list[list[float]] = []
        if settle:
            self.run(self.feeds)
        with _open_tasks() as tasks:
            while len(times) < MAX_RUNS and (len(times) < runs or sum(time for time, _ in times) < seconds * 1e3):
                times.append(self._time_run(tasks))
        return {"times_ms": times}

    def memory(self) -> dict[str, float]:
        """Return the most memory that was resident so far."""
        from .memory import read_memory

        return {"peak_mib": read_memory("VmHWM")}

    def _time_run(self, tasks: Sequence[int]) -> list[float]:
        begin, ran = time.perf_counter_ns(), time.process_time_ns()
        waited = _read_waiting(tasks)  # between the clock's readings, as the process may be interrupted here too
        self.run(self.feeds)
        waited = _read_waiting(tasks) - waited
        taken, ran = time.perf_counter_ns() - begin, time.process_time_ns() - ran
        return [taken / 1e6, limit_waiting(waited, taken, ran, self.cpus) / 1e6]


def limit_waiting(waited: int, taken: int, ran: int, cpus: int) -> int:
    """Return how long threads waited without what they waited for each other, at most: of a run on so many CPUs.

    While a thread of this process has a CPU no other process has it, so others had what the run took of all its CPUs
    less the time that its threads ran. 0 CPUs are any, of which nothing is known.
    """
    return min(waited, max(cpus * taken - ran, 0)) if cpus else waited


@contextmanager
def _open_tasks() -> Iterator[list[int]]:
    """Open Linux's account of each thread of this process; nothing elsewhere."""
    tasks = []
    for task in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError):  # the thread has ended since
            tasks.append(os.open(task, os.O_RDONLY))
    try:
        yield tasks
    finally:
        for task in tasks:
            os.close(task)


def _read_waiting(tasks: Sequence[int]) -> int:
    """Return the nanoseconds that these threads, together, were ready to run while others had the CPU."""
    waited = 0
    for task in tasks:
        with suppress(OSError):
            waited += int(os.pread(task, 80, 0).split()[1])
    return waited


if __name__ == "__main__":
    serve()

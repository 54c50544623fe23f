"""Start workers, each a fresh process with one model, and ask them things."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...optimize.errors import InputError

__all__ = ["Job", "Worker", "save_feeds", "start_worker", "start_workers"]


@dataclass(frozen=True)
class Job:
    """What a worker holds: a model, the runtime that runs it, and the file of its inputs."""

    path: Path
    feeds: Path
    runtime: str
    threads: int
    network: str | None = None
    plain: bool = False
    """A network in torch warps as its public code does (see `plain_warps`)."""


@dataclass(frozen=True)
class Worker:
    """A running process; one worker at a time is asked, so that one alone computes."""

    job: Job
    process: subprocess.Popen[str]
    errors: IO[str]

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Return the worker's answer; raises InputError with its reason, or with that of its end."""
        try:
            assert self.process.stdin
            assert self.process.stdout
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise InputError(f"{self.job.path}: {self._find_end()}")
        found = json.loads(answer)
        if "error" in found:
            raise InputError(found["error"])
        return found

    def load(self, cpus: Sequence[int]) -> dict[str, float]:
        """Load the model on these CPUs, or wherever the system likes where there are none, and run it once."""
        job = self.job
        return self.ask(
            "load",
            path=str(job.path),
            feeds=str(job.feeds),
            runtime=job.runtime,
            threads=job.threads,
            cpus=list(cpus),
            network=job.network,
            plain=job.plain,
        )

    def take_turn(self, runs: int, seconds: float, *, settle: bool = True) -> list[tuple[float, float]]:
        """Run at least so often and so long; return each run's milliseconds, and those it waited for a CPU.

        With `settle` one run more goes first and does not count.
        """
        answer = self.ask("turn", runs=runs, seconds=seconds, settle=settle)
        return [(time, waited) for time, waited in answer["times_ms"]]

    def end(self) -> None:
        """End the process, and free its memory for others; it may have ended by itself."""
        self.process.kill()
        self.process.wait()

    def _find_end(self) -> str:
        code = self.process.wait()
        self.errors.seek(0)
        said = [line for line in self.errors.read().splitlines() if line.strip()]
        if code == -9:
            return f"the process that ran it on {self.job.runtime} was killed, perhaps for want of memory"
        return f"the process that ran it on {self.job.runtime} ended with {code}: {said[-1] if said else 'no word'}"


@contextmanager
def start_worker(job: Job) -> Iterator[Worker]:
    """Give a worker that has loaded nothing yet; it is ended when the block is left."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            yield Worker(job, process, errors)
        finally:
            process.kill()
            process.communicate()


@contextmanager
def start_workers(jobs: Sequence[Job]) -> Iterator[list[Worker]]:
    with ExitStack() as stack:
        yield [stack.enter_context(start_worker(job)) for job in jobs]


def save_feeds(feeds: Mapping[str, np.ndarray], path: Path) -> Path:
    """Write a model's inputs where its worker reads them."""
    np.savez(path, **dict(feeds))  # type: ignore[arg-type]
    return path

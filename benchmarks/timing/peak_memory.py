"""How much memory a model takes while it runs: the peak of a fresh process that loads it and runs it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .processes import Job, save_feeds, start_worker

__all__ = ["PeakMemory", "measure_peak_memory"]

RUNS = 3


@dataclass(frozen=True)
class PeakMemory:
    """Resident memory of a process that does nothing but run one model, in MiB."""

    imported_mib: float
    """With Python and the runtime imported and the inputs there, before the model is loaded."""
    peak_mib: float
    """The most it ever was, loading and three runs included; the model's share is this less `imported_mib`."""


def measure_peak_memory(
    path: Path,
    feeds: Mapping[str, np.ndarray],
    *,
    runtime: str,
    threads: int,
    network: str | None = None,
    plain: bool = False,
) -> PeakMemory:
    """Load a model in a fresh process, run it three times on `feeds`, and return its resident memory.

    `network` names the architecture of weights that do not say it; `plain` gives a network in torch the
    warps of the public code (see `plain_warps`).

    Raises InputError when the model does not load or run there, or when the process is killed.
    """
    with tempfile.TemporaryDirectory(prefix="vtopt-memory-") as folder:
        job = Job(path, save_feeds(feeds, Path(folder) / "feeds.npz"), runtime, threads, network, plain)
        with start_worker(job) as worker:
            imported = worker.load(())["imported_mib"]
            worker.take_turn(RUNS - 1, 0, settle=False)
            return PeakMemory(imported, worker.ask("memory")["peak_mib"])

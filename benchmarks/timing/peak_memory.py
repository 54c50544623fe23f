"""How much memory a model takes while it runs: the peak of a fresh process that loads it and runs it."""

from __future__ import annotations

import contextlib
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...optimize.errors import InputError, VtoptError

__all__ = ["PeakMemory", "import_runtime", "measure_peak_memory", "read_memory", "reset_peak"]

RUNS = 3


@dataclass(frozen=True)
class PeakMemory:
    """Resident memory of a process that does nothing but run one model, in MiB."""

    imported_mib: float
    """With Python and the runtime imported, before the model is loaded."""
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
        archive = Path(folder) / "feeds.npz"
        np.savez(archive, **dict(feeds))  # type: ignore[arg-type]
        request = _Request(str(path), str(archive), runtime, threads, network, plain)
        command = [sys.executable, "-m", __name__, json.dumps(request)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"]
        reason = lines[-1].removeprefix(f"{path}: ")
        raise InputError(f"{path}: {reason}")
    return PeakMemory(**json.loads(done.stdout.splitlines()[-1]))


class _Request(NamedTuple):
    """What the fresh process is asked, as it travels on its command line."""

    path: str
    feeds: str
    runtime: str
    threads: int
    network: str | None
    plain: bool


def _measure_here(request: _Request) -> PeakMemory:
    """Run the model in this process and return its memory."""
    from ..engines.runtimes import Settings, load_model
    from ..studies.plain_warp import plain_warps

    import_runtime(request.runtime)
    with np.load(request.feeds) as archive:
        feeds = {name: archive[name] for name in archive.files}
    imported = read_memory("VmRSS")
    reset_peak()
    with plain_warps() if request.plain else contextlib.nullcontext():
        loaded = load_model(Path(request.path), request.runtime, Settings(request.threads, request.network))
        for _ in range(RUNS):
            loaded.run(feeds)
    return PeakMemory(imported, read_memory("VmHWM"))


def import_runtime(runtime: str) -> None:
    """Import a runtime, and what else loading a model on it imports, so that neither counts as the model's."""
    from ..host import need

    need(runtime.partition("-")[0])
    if runtime == "torch":
        for module in ("...optimize.weights", "...optimize.checkpoint", "safetensors.torch"):
            importlib.import_module(module, __package__)


def reset_peak() -> None:
    """Let the most memory that was ever resident begin anew at what is now; where the system does not, it stays."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def read_memory(entry: str) -> float:
    """Return an entry of Linux's process status in MiB; elsewhere the peak so far, the best there is.

    Not ru_maxrss on Linux: a new process starts with that of the process it came from.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{entry}:"):
                return int(line.split()[1]) / 2**10
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    try:
        print(json.dumps(vars(_measure_here(_Request(*json.loads(sys.argv[1]))))))
    except VtoptError as error:
        sys.exit(str(error))

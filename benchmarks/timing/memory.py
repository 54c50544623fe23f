"""Resident memory of this process: now, and the most it ever was."""

from __future__ import annotations

import contextlib
import importlib
import sys
from pathlib import Path

__all__ = ["import_runtime", "read_memory", "reset_peak"]


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

"""What this machine and this installation offer: cores, heavy packages, and what their errors say."""

from __future__ import annotations

import importlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

from ..optimize.errors import MissingExtraError

__all__ = ["count_cpus", "describe_host", "need", "take_reason"]

_NOISE = ("Exception from ", "Check '", "FrontEnd API failed", "Model wasn't fully converted")
"""How OpenVINO's messages begin: with places in its own source, and headings."""

_CAUSE = "No conversion rule found"
"""Where OpenVINO says this, the lines before it are consequences."""


def count_cpus() -> int:
    """Return the cores this process may use: the allowed CPUs, at most one per physical core where known."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        import psutil
    except ImportError:
        return allowed
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


def need(name: str, *, extra: str = "") -> ModuleType:
    """Import a heavy package; raises MissingExtraError with the install command where it is absent.

    `extra` is that of vtopt which brings it, where one does.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        install = f"'vtopt[{extra}]'" if extra else package
        raise MissingExtraError(f"{package} cannot be imported ({error}); run: pip install {install}") from error


def take_reason(error: BaseException) -> str:
    """Return the first line of a runtime's error that tells something; the error's type where none does."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(_NOISE)]
    causes = [line for line in telling if _CAUSE in line]
    return (causes or telling or lines or [type(error).__name__])[0].lstrip("- ").rstrip(".!")


def describe_host() -> dict[str, str]:
    """Return what a figure depends on beside the model: the processor and the versions of the runtimes."""
    return {
        "cpu": _name_cpu(),
        **{name: _find_version(name) for name in ("torch", "onnxruntime", "openvino")},
    }


def _name_cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _find_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"

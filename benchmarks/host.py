"""What this machine and this installation offer: cores, heavy packages, and what their errors say."""

from __future__ import annotations

import importlib
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from ..optimize.errors import MissingExtraError

__all__ = [
    "HOST",
    "count_cpus",
    "describe_host",
    "describe_load",
    "describe_machine",
    "find_version",
    "need",
    "take_reason",
]

HOST = ("cpu", "torch", "onnxruntime", "openvino")
"""What a figure depends on most, beside the model."""

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
    """Return what of `describe_machine` stands beside a figure: the processor and the versions of the runtimes."""
    machine = describe_machine()
    return {name: machine[name] for name in HOST}


def describe_machine() -> dict[str, Any]:
    """Return what stays the same from run to run: the processor, what it can do, the system and the versions."""
    flags = _read_cpuinfo("flags") or _read_cpuinfo("Features")
    return {
        "cpu": _name_cpu(),
        "cpus": count_cpus(),
        "flags": [flag for flag in _TOLD_FLAGS if flag in flags.split()],
        "governor": _read_line(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")) or "unknown",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: find_version(name) for name in ("vtopt", "numpy", "torch", "onnxruntime", "openvino")},
    }


def describe_load() -> dict[str, Any]:
    """Return how busy the machine is now: the load average of a minute, free memory in MiB, and the time."""
    import psutil

    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": round(psutil.getloadavg()[0], 2),
        "memory_free_mib": psutil.virtual_memory().available // 2**20,
    }


_TOLD_FLAGS = (
    *("avx", "f16c", "fma", "avx2", "avx512f", "avx512vl", "avx512_bf16", "avx512_fp16", "avx512_vnni", "avx_vnni"),
    *("amx_bf16", "amx_int8", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve"),
)
"""What kernels for floats and int8 are chosen by, as Linux calls it."""


def _name_cpu() -> str:
    return _read_cpuinfo("model name") or platform.processor() or platform.machine()


def _read_cpuinfo(entry: str) -> str:
    """Return an entry of the first processor in Linux's list; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    found = (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == entry)
    return next(found, "")


def _read_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def find_version(package: str) -> str:
    """Return the version of a package; absent where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"

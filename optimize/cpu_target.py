"""What a CPU does with int8, and the quantisation settings that follow from it."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["TARGETS", "CpuTarget", "TargetName", "detect_target", "resolve_target"]

TargetName = Literal["auto", "avx2", "vnni", "arm64"]


@dataclass(frozen=True)
class CpuTarget:
    """How to quantise for one kind of CPU."""

    name: str
    reduce_range: bool
    """Weights of 7 bits: vpmaddubsw adds two u8 x s8 products in 16 bits and saturates on 8-bit weights."""
    signed_activations: bool


TARGETS = {
    "avx2": CpuTarget("avx2", reduce_range=True, signed_activations=False),
    "vnni": CpuTarget("vnni", reduce_range=False, signed_activations=False),
    "arm64": CpuTarget("arm64", reduce_range=False, signed_activations=True),
}


def detect_target() -> str:
    """Return the target that this machine is: vnni or avx2 on x86, arm64 on Arm."""
    if platform.machine().lower() in {"aarch64", "arm64"}:
        return "arm64"
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").lower()
    except OSError:
        # Without the flags, the settings that are right everywhere on x86.
        return "avx2"
    return "vnni" if "avx512_vnni" in flags or "avx_vnni" in flags else "avx2"


def resolve_target(name: TargetName) -> tuple[CpuTarget, tuple[str, ...]]:
    """Return the target's settings, and a notice where this machine is another one."""
    here = detect_target()
    if name == "auto":
        return TARGETS[here], ()
    if name == here:
        return TARGETS[name], ()
    return TARGETS[name], (
        f"quantised for {name}, but this machine is {here}: pictures and times measured here do not speak for it",
    )

"""Which settings a CPU needs, and which CPU this is."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from vtopt.optimize import cpu_target
from vtopt.optimize.cpu_target import TARGETS, TargetName, detect_target, resolve_target


@pytest.mark.parametrize(
    ("machine", "flags", "target"),
    [
        pytest.param("x86_64", "avx2 avx512f", "avx2", id="x86 without VNNI"),
        pytest.param("x86_64", "avx2 avx512_vnni", "vnni", id="x86 with VNNI of AVX-512"),
        pytest.param("AMD64", "avx2 avx_vnni", "vnni", id="x86 with VNNI of AVX"),
        pytest.param("x86_64", None, "avx2", id="x86 that does not say"),
        pytest.param("aarch64", "asimd", "arm64", id="Arm on Linux"),
        pytest.param("arm64", None, "arm64", id="Arm on a Mac"),
    ],
)
def test_the_machine_is_detected(machine: str, flags: str | None, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path, **_: str) -> str:
        if flags is None:
            raise FileNotFoundError(path)
        return f"flags\t: {flags}\n"

    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(Path, "read_text", read)
    assert detect_target() == target


@pytest.mark.parametrize("here", TARGETS)
@pytest.mark.parametrize("name", ["auto", *TARGETS])
def test_a_target_that_is_not_this_machine_is_noted(
    name: TargetName, here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_target, "detect_target", lambda: here)
    target, notices = resolve_target(name)
    assert target == TARGETS[here if name == "auto" else name]
    expected = [] if name in {"auto", here} else [f"quantised for {name}, but this machine is {here}"]
    assert [notice.partition(":")[0] for notice in notices] == expected


def test_only_avx2_gives_up_a_bit() -> None:
    assert [name for name, target in TARGETS.items() if target.reduce_range] == ["avx2"]
    assert [name for name, target in TARGETS.items() if target.signed_activations] == ["arm64"]

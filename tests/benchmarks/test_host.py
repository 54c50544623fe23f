"""The host: cores, packages that are absent, and what a runtime's error tells."""

from __future__ import annotations

import math
import os
import sys
from importlib.metadata import version

import pytest

from vtopt.benchmarks import host
from vtopt.benchmarks.host import count_cpus, describe_host, need, take_reason
from vtopt.optimize.errors import MissingExtraError


@pytest.mark.parametrize(
    ("allowed", "physical", "cpus"),
    [
        pytest.param(8, 4, 4, id="two threads per core count once"),
        pytest.param(2, 64, 2, id="a process that may use two cores uses two"),
        pytest.param(3, None, 3, id="an unknown count of cores is not a limit"),
        pytest.param(1, 0, 1, id="there is always one"),
    ],
)
def test_count_cpus(allowed: int, physical: int | None, cpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(allowed)))
    monkeypatch.setattr("psutil.cpu_count", lambda logical: physical)
    assert count_cpus() == cpus


def test_count_cpus_does_without_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert count_cpus() == 6


def test_need_imports_a_package_that_is_there() -> None:
    assert need("math") is math


@pytest.mark.parametrize(
    ("name", "command"),
    [
        pytest.param("openvino", "pip install openvino", id="a package by its name"),
        pytest.param("torchmetrics.functional", "pip install torchmetrics", id="a module by its package"),
    ],
)
def test_need_names_the_command_that_installs(name: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError) as caught:
        need(name)
    assert str(caught.value).startswith(f"{name.partition('.')[0]} cannot be imported")
    assert str(caught.value).endswith(f"run: {command}")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param("no such op", "no such op", id="one line is left alone"),
        pytest.param("\n  first.\nsecond", "first", id="the first line, without its full stop"),
        pytest.param(
            "Exception from src/inference/core.cpp:135:\nCheck 'a == b' failed at src/x.cpp:10:\nUnable to read it!",
            "Unable to read it",
            id="places in OpenVINO's source are skipped",
        ),
        pytest.param("Check 'a == b' failed", "Check 'a == b' failed", id="unless there is nothing else"),
        pytest.param(" \n ", "RuntimeError", id="the type where the message is empty"),
    ],
)
def test_take_reason(message: str, reason: str) -> None:
    assert take_reason(RuntimeError(message)) == reason


def test_describe_host_names_the_processor_and_the_versions_of_the_runtimes() -> None:
    host = describe_host()
    assert list(host) == ["cpu", "torch", "onnxruntime", "openvino"]
    assert host["cpu"]
    assert host["onnxruntime"] == version("onnxruntime")


def test_describe_host_says_that_a_runtime_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError

    def find(package: str) -> str:
        if package == "openvino":
            raise PackageNotFoundError(package)
        return "1.2"

    monkeypatch.setattr("vtopt.benchmarks.host.version", find)
    assert describe_host()["openvino"] == "absent"
    assert describe_host()["torch"] == "1.2"


def test_the_machine_is_described_for_whoever_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {"model name": "Some CPU", "flags": "fpu avx2 sse avx512_vnni"}
    monkeypatch.setattr(host, "_read_cpuinfo", lambda entry: entries.get(entry, ""))
    machine = host.describe_machine()
    assert (machine["cpu"], machine["flags"]) == ("Some CPU", ["avx2", "avx512_vnni"])
    assert {"governor", "cpus", "system", "python", "vtopt", "torch", "onnxruntime", "openvino"} <= machine.keys()


def test_the_load_is_described() -> None:
    load = host.describe_load()
    assert load["load"] >= 0 < load["memory_free_mib"]
    assert load["time"].endswith("+00:00")

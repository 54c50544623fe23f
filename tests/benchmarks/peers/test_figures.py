"""The figures of forms: held against torch, in turns or in lots; what fails on the way has its reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from small_registered import build_small

from vtopt.benchmarks.engines.engine import Engine, open_engine
from vtopt.benchmarks.peers import figures as module
from vtopt.benchmarks.peers.figures import PeersGroup, measure_network, measure_peers
from vtopt.benchmarks.peers.forms import PLAIN, Form
from vtopt.benchmarks.peers.task import PeersTask
from vtopt.benchmarks.peers.tools import save_model_of
from vtopt.benchmarks.studies.plain_warp import trace_plainly
from vtopt.optimize.errors import InputError, VtoptError

RUNTIMES = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plain model, one with other biases, and one that no runtime loads."""
    folder, network = tmp_path_factory.mktemp("models"), build_small("sdafn_plus_tiny")
    model = trace_plainly(network, network.size)
    save_model_of(network, model, folder / "plain.onnx")
    biases = {node.input[2] for node in model.graph.node if node.op_type == "Conv" and len(node.input) == 3}
    for tensor in model.graph.initializer:
        if tensor.name in biases:
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + 0.05, tensor.name))
    save_model_of(network, model, folder / "other.onnx")
    (folder / "broken.onnx").write_bytes(b"no model")
    return folder


def _measure(models: Path, **changes: Any) -> PeersGroup:
    plain = models / "plain.onnx"
    forms = [
        *(Form(PLAIN, "float32", runtime, plain, 1.5, plain) for runtime in RUNTIMES),
        *(Form("Tool", "other", runtime, models / "other.onnx", 2.5, plain, "of a kind") for runtime in RUNTIMES),
        Form("Tool", "broken", "onnxruntime", models / "broken.onnx", 3.5, plain),
        Form("Absent", "", "", note="absent is not installed"),
    ]
    task = PeersTask(build_small("sdafn_plus_tiny"), pair_count=2, threads=1, runs=1, warmup=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "make_forms", lambda *arguments: forms)
        for name, value in changes.items():
            patch.setattr(module, name, value)
        return measure_network(task)


@pytest.fixture(scope="module")
def group(models: Path) -> PeersGroup:
    return _measure(models)


def _find(group: PeersGroup, tool: str, form: str, runtime: str) -> Any:
    return next(row for row in group.rows if (row["tool"], row["form"], row["runtime"]) == (tool, form, runtime))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_plain_form_makes_the_pictures_of_torch(group: PeersGroup, runtime: str) -> None:
    row = _find(group, PLAIN, "float32", runtime)
    assert row["of onnxsim"] == 1
    assert row["of range dB"] > 80
    assert row["SSIM"] == pytest.approx(1, abs=1e-4)
    assert row["flow px"] < 1e-2
    assert row["truth PSNR dB"] is not None
    assert row["made in s"] == 1.5


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_form_with_other_pictures_shows_it(group: PeersGroup, runtime: str) -> None:
    plain, other = (_find(group, *form, runtime) for form in ((PLAIN, "float32"), ("Tool", "other")))
    assert other["worst dB"] <= other["PSNR dB"] < plain["PSNR dB"] - 20
    assert other["flow px"] > plain["flow px"]
    assert other["of onnxsim"] == pytest.approx(other["median ms"] / plain["median ms"])
    assert other["worst pair"] in {"drawn-001000", "drawn-001001"}
    assert other["note"] == "of a kind"


def test_what_does_not_load_or_was_not_made_has_a_reason_and_no_figures(group: PeersGroup) -> None:
    broken, absent = _find(group, "Tool", "broken", "onnxruntime"), _find(group, "Absent", "", "")
    assert broken["note"]
    assert "/" not in broken["note"]
    assert absent["note"] == "absent is not installed"
    for row in (broken, absent):
        assert row["median ms"] is None
        assert "PSNR dB" not in row


def test_the_reason_is_what_the_runtime_said_whole(models: Path) -> None:
    def open_or_fail(path: Path, **settings: Any) -> Engine:
        if path.stem == "other":
            raise InputError(f"{path}: does not load: no kernel; copy it again") from RuntimeError("no kernel; of Mul")
        return open_engine(path, **settings)

    group = _measure(models, open_engine=open_or_fail)
    assert _find(group, "Tool", "other", "openvino")["note"] == "no kernel; of Mul"


def test_rows_stand_in_the_order_of_forms(group: PeersGroup) -> None:
    assert [row["form"] for row in group.rows] == ["float32", "float32", "other", "other", "broken", ""]


def test_what_memory_does_not_hold_is_timed_in_lots_beside_the_plain_form(models: Path) -> None:
    def split(engines: dict[Any, Any], feeds: object) -> list[list[Any]]:
        first, *others = engines
        return [[first, other] for other in others] * 2

    group = _measure(models, plan_lots=split)
    assert [row["of onnxsim"] is None for row in group.rows] == [False] * 4 + [True] * 2
    assert any("they ran in 2 lots, each beside torch.onnx + onnxsim" in notice for notice in group.notices)


def test_a_network_that_cannot_be_measured_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(task: PeersTask) -> PeersGroup:
        if task.network.name == "bad":
            raise VtoptError("it cannot be exported")
        return PeersGroup(({"network": task.network.name},), ())

    network = build_small("sdafn_plus_tiny")
    monkeypatch.setattr(module, "build_seeded", lambda name: replace(network, name=name))
    monkeypatch.setattr(module, "measure_network", fail)
    bad, good = measure_peers(["bad", "good", "good"], runs=1)
    assert bad == PeersGroup((), ("bad is left out: it cannot be exported",))
    assert good.rows

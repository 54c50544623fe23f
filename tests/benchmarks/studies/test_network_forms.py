"""The forms of a network: which are made, for which runtime, and what is said of those left out."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from vtopt.benchmarks.engines.engine import open_engine
from vtopt.benchmarks.studies import network_forms
from vtopt.benchmarks.studies.network_forms import ALL, EAGER, PLAIN, build_seeded, make_variants
from vtopt.optimize.errors import MissingExtraError, NetworkError, UsageError
from vtopt.optimize.networks import Network
from vtopt.optimize.weights import load_network

SIZE = (64, 48)


@pytest.fixture
def network(small_checkpoint: Path) -> Network:
    return load_network(small_checkpoint)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Stand in for the rewrites with two that copy the file; return what they are asked for."""
    calls: list[tuple[str, Any]] = []

    def rewrite_onnx(source: Path, output: Path, *, runtime: str, only: list[str] | None = None) -> Path:
        calls.append((runtime, only))
        if (runtime, only) == ("openvino", ["padding"]):
            raise UsageError(f"{output}: padding is for onnxruntime; choose other rewrites")
        return Path(shutil.copy(source, output))

    step, registry = ModuleType("vtopt.optimize.rewrite"), ModuleType("vtopt.optimize.rewrites")
    step.rewrite_onnx = rewrite_onnx  # type: ignore[attr-defined]
    registry.REWRITES = {"heads": None, "padding": None}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, step.__name__, step)
    monkeypatch.setitem(sys.modules, registry.__name__, registry)
    return calls


@pytest.fixture
def quick_export(small_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for vtopt's export, which takes seconds, with a file that it made."""
    monkeypatch.setattr(network_forms, "_export", lambda *arguments: shutil.copy(small_onnx, arguments[-1]))


@pytest.mark.usefixtures("quick_export")
def test_make_variants_lists_every_form_on_every_runtime(network: Network, tmp_path: Path, asked: list[Any]) -> None:
    notices: list[str] = []
    variants = make_variants(network, tmp_path, size=SIZE, batch=1, notices=notices)
    both = ("onnxruntime", "openvino")
    assert [(variant.form, variant.runtime) for variant in variants] == [
        (EAGER, "torch"),
        *((PLAIN, runtime) for runtime in both),
        *(("onnxslim", runtime) for runtime in both),
        *(("export", runtime) for runtime in both),
        *(("heads", runtime) for runtime in both),
        ("padding", "onnxruntime"),
        *((ALL, runtime) for runtime in both),
    ]
    assert all(variant.path.is_file() for variant in variants)
    assert asked == [(runtime, only) for only in (["heads"], ["padding"], None) for runtime in both]
    assert notices == [
        "sdafn_plus_tiny batch 1: padding for openvino is left out: padding is for onnxruntime; choose other rewrites"
    ]


@pytest.mark.usefixtures("quick_export", "asked")
def test_make_variants_says_how_to_get_a_missing_tool(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def need(name: str) -> ModuleType:
        raise MissingExtraError(f"{name} cannot be imported; run: pip install {name}")

    monkeypatch.setattr(network_forms, "need", need)
    notices: list[str] = []
    variants = make_variants(network, tmp_path, size=SIZE, batch=1, notices=notices)
    assert "onnxslim" not in {variant.form for variant in variants}
    assert "onnxslim for onnxruntime and openvino is left out" in notices[0]
    assert "pip install onnxslim" in notices[0]


def test_a_fixed_batch_runs_as_many_pairs_as_it_says(small_checkpoint: Path, network: Network, tmp_path: Path) -> None:
    path = tmp_path / "export.onnx"
    network_forms._export(network, small_checkpoint, SIZE, 2, path)
    assert [side.dim_value for side in onnx.load(path).graph.input[0].type.tensor_type.shape.dim] == [2, 3, *SIZE]
    random = np.random.default_rng(0)
    feeds = {name: random.uniform(-1, 1, (2, 3, *SIZE)).astype(np.float32) for name in ("person", "clothes")}
    made = open_engine(path, threads=1).run(feeds)["tryon"]
    with torch.no_grad():
        expected = network.module(*map(torch.tensor, feeds.values())).numpy()
    assert np.abs(made - expected).max() <= 1e-4 * np.abs(expected).max()


def test_build_seeded_makes_the_same_weights_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    first, second = (build_seeded("sdafn_plus_3").module.state_dict() for _ in range(2))
    assert torch.rand(1) == expected
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_build_seeded_gives_the_demo_network_its_trained_weights() -> None:
    from vtopt.checkpoints import DEMO_CHECKPOINT

    trained, built = load_network(DEMO_CHECKPOINT).module.state_dict(), build_seeded("sdafn_plus_tiny")
    assert all(torch.equal(trained[name], tensor) for name, tensor in built.module.state_dict().items())


def test_build_seeded_refuses_an_unknown_network() -> None:
    with pytest.raises(NetworkError, match="choose one of"):
        build_seeded("unheard_of")

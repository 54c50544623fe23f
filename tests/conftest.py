"""Small artifacts that many tests start from, made once a session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores already; torch reads this when it is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

SMALL = {
    "pyramid_widths": (8, 8),
    "pyramid_dim": 8,
    "heads": 2,
    "mfe_filters": (8, 8),
    "shallow_hidden": 4,
    "shallow_dim": 8,
}
"""Widths of an SDAFN_plus that exports in seconds."""


@pytest.fixture(autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the memory of the last run and measurements in the user's home out of tests, and tests out of those."""
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let torch use one thread: small networks are too small to share."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training checkpoint of a small SDAFN_plus with random weights, as `vtopt train` leaves one."""
    import torch

    from vtopt.optimize.networks import build_network

    torch.manual_seed(0)
    network = build_network("sdafn_plus_tiny", SMALL)
    state = network.module.state_dict()
    path = tmp_path_factory.mktemp("checkpoint") / "small.pth"
    torch.save(
        {
            "network": "sdafn_plus_tiny",
            "config": dict(network.config),
            "state_dict": state,
            "ema": {name: tensor.clone() for name, tensor in state.items()},
            "optimizer": {"state": {0: {"exp_avg": torch.zeros(1000)}}},
            "step": 3,
        },
        path,
    )
    return path


@pytest.fixture(scope="session")
def small_onnx(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That network as ONNX at 64x48."""
    from vtopt.optimize.artifacts import Size
    from vtopt.optimize.export import export_onnx

    output = tmp_path_factory.mktemp("onnx") / "small.onnx"
    return export_onnx(small_checkpoint, output, size=Size(64, 48), exporter="torchscript", pair_count=1)

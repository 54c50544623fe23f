"""Training in two processes, as `accelerate launch` starts them: they share each batch, and one writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vtopt.optimize.int8.trained import read_ranges
from vtopt.optimize.networks import build_network
from vtopt.optimize.provenance import read_history, read_metadata
from vtopt.optimize.weights import save_weights

pytestmark = pytest.mark.slow

OWN = """
import torch
from torch import nn
from vtopt.optimize.networks import InputSpec, Network

class Own(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.first = nn.Conv2d(7, 4, 3, padding=1)
        self.norm = norm
        self.last = nn.Conv2d(4, 3, 1)
        self.unused = nn.Linear(2, 2)

    def forward(self, person, clothes, edge):
        return self.last(self.norm(self.first(torch.cat([person, clothes, edge], 1))))

def build(norm=nn.ReLU):
    inputs = (InputSpec("person"), InputSpec("clothes"), InputSpec("edge", 1))
    return Network(Own(norm()), inputs, size=(32, 24))

def build_norm():
    return build(lambda: nn.BatchNorm2d(4))
"""
FACTORY = "own_two:build"
SHARED = ["--batch-size", "2", "--validate-every", "2", "--workers", "0"]
SHARED += ["--validation-count", "1", "--learning-rate", "0.01"]
FINETUNE = ["--teacher", "b.safetensors", "--no-truth", "--coarse-steps", "2", "--steps", "3"]
DISTILL = ["--student", "b.safetensors", "--teacher-network", FACTORY]
DISTILL += ["--foreground-steps", "1", "--plain-steps", "1", "--steps", "3"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_two.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


def _train(folder: Path, factory: str, command: str, *settings: str) -> tuple[dict[str, Tensor], ...]:
    """Train in one process and in two; return the weights before, and those that each made."""
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        save_weights(build_network(factory).module.state_dict(), folder / f"{name}.safetensors", {})
    sys.modules.pop("own_two")
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    for start, name in (([sys.executable], "one"), (launch, "two")):
        output = f"{name}.safetensors"
        vtopt = ["-m", "vtopt.optimize.cli", command, "a.safetensors", output, "--network", factory]
        done = subprocess.run(
            [*start, *vtopt, *settings, *SHARED],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            cwd=folder,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(output) == 1, "both processes printed"
        assert read_history(folder / output)[0].figures["steps"] == 5
        assert not (folder / f"{name}.training.pth").exists()
    before, one, two = (load_file(folder / f"{name}.safetensors") for name in ("a", "one", "two"))
    return before, one, two


def _assert_close(one: dict[str, Tensor], two: dict[str, Tensor], tolerance: float) -> None:
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(
            one[name], two[name], rtol=0, atol=tolerance, msg=lambda text, name=name: name + text
        )


@pytest.mark.parametrize(("command", "settings"), [("finetune", FINETUNE), ("distill", DISTILL)])
def test_two_processes_end_as_one_does(folder: Path, command: str, settings: list[str]) -> None:
    """Without batch-norm, gradients are means over the batch: the sum is another only in its order."""
    before, one, two = _train(folder, FACTORY, command, *settings)
    assert not torch.equal(before["first.weight"], one["first.weight"])
    _assert_close(one, two, 1e-6)


def test_two_processes_have_the_same_ranges(folder: Path) -> None:
    _, one, two = _train(folder, FACTORY, "finetune", *FINETUNE, "--int8", "--target", "vnni")
    _assert_close(one, two, 1e-3)
    first, second = (read_ranges(read_metadata(folder / f"{name}.safetensors"), folder) for name in ("one", "two"))
    assert first
    assert second
    assert first.modules.keys() == second.modules.keys() == {"first", "last"}
    for name, ranges in first.modules.items():
        assert np.allclose(ranges, second.modules[name], rtol=1e-2)


def test_batch_norm_counts_the_main_process_share(folder: Path) -> None:
    """Each process normalises by its share, so the weights are others, but they are trained and whole."""
    before, one, two = _train(folder, "own_two:build_norm", "finetune", *FINETUNE)
    _assert_close(one, two, 0.05)
    for name in ("first.weight", "norm.weight", "norm.running_mean"):
        assert not torch.equal(before[name], two[name])
    assert one["norm.num_batches_tracked"] == two["norm.num_batches_tracked"]

"""The whole chain on a network of published size; minutes of work."""

from __future__ import annotations

from pathlib import Path

import pytest

from vtopt.optimize.provenance import read_history
from vtopt.optimize.runner import run_recipe

PAIRS = Path(__file__).parent.parent.parent / "shared" / "viton"
MIB = 2**20
PARAMETERS = 18_219_399


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded sdafn_plus_3 as DistributedDataParallel training saves it, optimizer and all."""
    import torch

    from vtopt.optimize.networks import build_network

    torch.manual_seed(0)
    module = build_network("sdafn_plus_3").module
    assert sum(parameter.numel() for parameter in module.parameters()) == PARAMETERS
    optimizer = torch.optim.AdamW(module.parameters())
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    path = tmp_path_factory.mktemp("full") / "training.pth"
    weights = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    torch.save({"state_dict": weights, "optimizer": optimizer.state_dict(), "epoch": 29}, path)
    return path


@pytest.mark.slow
def test_cpu_fp16_halves_the_file_and_keeps_the_pictures(checkpoint: Path, tmp_path: Path) -> None:
    pairs = PAIRS if PAIRS.exists() else None
    result = run_recipe("cpu-fp16", weights=checkpoint, network="sdafn_plus_3", pairs=pairs, output=tmp_path / "out")
    made = {artifact.name: artifact.path for artifact in result.artifacts}
    assert made["fp32"].stat().st_size <= 69.9 * MIB
    assert made["fp16"].stat().st_size <= 34.9 * MIB
    assert read_history(made["export"])[-1].figures["max_relative"] <= 1e-4
    assert read_history(made["fp16"])[-1].figures["psnr_worst_db"] >= 45

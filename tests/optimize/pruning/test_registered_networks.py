"""Every registered network loses channels wherever it may, and is built again from its file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vtopt.optimize.artifacts import Size
from vtopt.optimize.export import make_example
from vtopt.optimize.nested import list_tensors
from vtopt.optimize.networks import NETWORKS, Network, build_network
from vtopt.optimize.networks.spectral_norm import fold_network
from vtopt.optimize.networks.widths import PRUNED, find_pruned, list_shapes
from vtopt.optimize.pruning.macs import count_macs
from vtopt.optimize.pruning.removal import PruningRequest, prune_module
from vtopt.optimize.weights import describe_network, load_network, save_weights

RATIO = 0.4


def _build_small(name: str) -> Network:
    """Build a network with seeded weights, and small pictures for it."""
    torch.manual_seed(0)
    network = fold_network(build_network(name))
    side = 2 * network.multiple_of
    return replace(network, size=(side, side))


class _GridShapes(TorchFunctionMode):
    """Notes the shape (N * K, H, W, 2) of whatever says where to sample."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[torch.Size] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == "grid_sample":
            self.noted.append((kwargs or {}).get("grid", args[-1]).shape)
        return func(*args, **(kwargs or {}))


def _run(network: Network, inputs: tuple[Tensor, ...]) -> tuple[list[Tensor], list[torch.Size]]:
    """Return all outputs, and the shapes of all grids."""
    with torch.no_grad(), _GridShapes() as grids:
        return list_tensors(network.module(*inputs)), grids.noted


def _measure(network: Network, inputs: tuple[Tensor, ...], path: Path) -> dict[str, int]:
    save_weights(network.module.state_dict(), path, describe_network(network.name, network))
    return {
        "parameters": sum(entry.numel() for entry in network.module.parameters()),
        "macs": sum(count_macs(network.module, inputs).values()),
        "bytes": path.stat().st_size,
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_prune_registered_network(name: str, tmp_path: Path) -> None:
    network = _build_small(name)
    full = list_shapes(network.module)
    inputs = make_example(network, Size(*network.size), 1, 0)
    outputs, grids = _run(network, inputs)
    before = _measure(network, inputs, tmp_path / "whole.safetensors")

    prune_module(network, PruningRequest({"": RATIO}), inputs)

    network = replace(network, config={**network.config, PRUNED: find_pruned(network.module, full)})
    path = tmp_path / "pruned.safetensors"
    after = _measure(network, inputs, path)
    assert all(0.2 < after[key] / before[key] < 0.7 for key in before)
    made, still = _run(load_network(path), inputs)
    assert [tensor.shape for tensor in made] == [tensor.shape for tensor in outputs]
    assert still == grids, "channels of a flow are gone"
    for tensor, other in zip(made, _run(network, inputs)[0], strict=True):
        assert torch.equal(tensor, other)


def test_global_scope_takes_more_from_what_matters_less() -> None:
    shares: dict[str, list[float]] = {}
    for scope in ("uniform", "global"):
        torch.manual_seed(0)
        network = replace(build_network("sdafn_plus_tiny"), size=(64, 48))
        full = list_shapes(network.module)
        inputs = make_example(network, Size(*network.size), 1, 0)
        removal = prune_module(network, PruningRequest({"": RATIO}, scope=scope, round_to=1), inputs)
        assert removal.removed / removal.channels == pytest.approx(RATIO, abs=0.02)
        left = find_pruned(network.module, full)
        shares[scope] = [left[name][0] / full[name][0] for name in left if name.endswith(".0.bias")]
    spread = {scope: max(found) - min(found) for scope, found in shares.items()}
    assert spread["global"] > 2 * spread["uniform"]

"""Small networks of all habits, built by name, and what Torch-Pruning took from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vtopt.optimize.artifacts import Size
from vtopt.optimize.export import make_example
from vtopt.optimize.networks import Network, build_network

FACTORY = "small_networks:build"


@dataclass
class Removed:
    """Channels that were removed, by their places in the unpruned network: layer -> places."""

    made: dict[nn.Module, list[int]] = field(default_factory=dict)
    read: dict[nn.Module, list[int]] = field(default_factory=dict)


@pytest.fixture
def build() -> Callable[..., Network]:
    """(name in FACTORIES, more configuration) -> the network, its weights and norms seeded."""

    def build_seeded(which: str, **config: Any) -> Network:
        torch.manual_seed(0)
        network = build_network(FACTORY, {"which": which, **config})
        for module in network.module.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm | nn.PReLU):
                for name, tensor in module.state_dict(keep_vars=True).items():
                    if name != "num_batches_tracked":
                        tensor.data.uniform_(0.5, 1.5)
        return network

    return build_seeded


@pytest.fixture
def run() -> Callable[[nn.Module, Network], list[Tensor]]:
    """(module, the network it is of) -> all it makes of seeded inputs, in a flat list."""

    def list_all(value: Any) -> list[Tensor]:
        if isinstance(value, Tensor):
            return [value]
        entries = value.values() if isinstance(value, dict) else value
        return [tensor for entry in entries for tensor in list_all(entry)]

    def run_seeded(module: nn.Module, network: Network) -> list[Tensor]:
        inputs = make_example(network, Size(*network.size), 1, 0)
        torch.manual_seed(0)
        with torch.no_grad():
            return list_all(module(*inputs))

    return run_seeded


@pytest.fixture
def removed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Removed]:
    """What is removed while the test runs."""
    from torch_pruning.dependency.group import Group

    seen, left = Removed(), {}
    prune = Group.prune

    def note(group: Any, *arguments: Any, **named: Any) -> Any:
        for dep, places in group:
            layer = dep.target.module
            if not isinstance(layer, nn.modules.conv._ConvNd | nn.Linear):
                continue
            makes = "out_channels" in dep.handler.__name__
            table = seen.made if makes else seen.read
            known = left.setdefault((layer, makes), list(range(_count_channels(layer, makes))))
            table.setdefault(layer, []).extend(known[place] for place in places)
            left[layer, makes] = [place for index, place in enumerate(known) if index not in set(places)]
        return prune(group, *arguments, **named)

    monkeypatch.setattr(Group, "prune", note)
    yield seen


def _count_channels(layer: Any, made: bool) -> int:
    if isinstance(layer, nn.Linear):
        return layer.out_features if made else layer.in_features
    return layer.out_channels if made else layer.in_channels

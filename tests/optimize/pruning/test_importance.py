"""What goes first: small weights, small scales, channels that the pictures do not miss."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vtopt.optimize.artifacts import Size
from vtopt.optimize.errors import UsageError
from vtopt.optimize.export import make_example
from vtopt.optimize.pruning.removal import PruningRequest, prune_module

IMPORTANCES = ["magnitude", "batch-norm", "taylor", "hessian"]
WEAK = [1, 2, 6, 7]


def _make_samples(network: Any, truth: bool = True) -> list[Any]:
    generator = torch.Generator().manual_seed(0)
    samples = []
    for seed in range(2):
        inputs = make_example(network, Size(*network.size), 1, seed)
        samples.append((inputs, torch.rand((1, 3, *network.size), generator=generator) if truth else None))
    return samples


def _prune(network: Any, importance: Any, truth: bool = True, **settings: Any) -> None:
    request = PruningRequest({"": 0.5}, importance=importance, round_to=1, **settings)
    inputs = make_example(network, Size(*network.size), 1, 0)
    prune_module(network, request, inputs, _make_samples(network, truth))


@pytest.mark.parametrize("importance", IMPORTANCES)
def test_channels_of_no_effect_go_first(importance, build, removed) -> None:
    network = build("unet")
    layer, norm = network.module.down[0][0], network.module.down[0][1]
    with torch.no_grad():
        for tensor in (layer.weight, norm.weight, norm.bias):
            tensor[WEAK] = 0
        for reader in (network.module.down[1][0].weight, network.module.last.weight):
            if reader.shape[1] == 8:
                reader[:, WEAK] *= 1e-3
    _prune(network, importance)
    assert sorted(removed.made[layer]) == WEAK


@pytest.mark.parametrize("importance", ["taylor", "hessian"])
def test_gradients_see_what_weights_do_not(importance, build, removed) -> None:
    """Big weights of channels that nothing reads: the magnitude keeps them."""
    network, same = build("shared"), build("shared")
    for each in (network, same):
        stem, again, decoder = (each.module.get_submodule(name) for name in ("stem", "again", "decoder"))
        with torch.no_grad():
            stem.weight[:8] *= 10
            again.weight[:8] *= 10
            again.weight[:, :8] = 0
            decoder.weight[:, :8] = 0
    _prune(network, importance)
    assert sorted(removed.made[network.module.stem]) == list(range(8))
    _prune(same, "magnitude")
    assert set(removed.made[same.module.stem]).isdisjoint(range(8))


def test_taylor_needs_the_truth(build) -> None:
    network = build("unet")
    with pytest.raises(UsageError, match="taylor needs the truth of every pair"):
        _prune(network, "taylor", truth=False)
    _prune(network, "hessian", truth=False)


@pytest.mark.parametrize("importance", IMPORTANCES)
def test_frozen_weights_are_scored_as_others(importance, build) -> None:
    network, free = build("unet"), build("unet")
    for entry in network.module.parameters():
        entry.requires_grad_(False)
    _prune(network, importance)
    _prune(free, importance)
    states = network.module.state_dict(), free.module.state_dict()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("importance", ["magnitude", "batch-norm"])
def test_weights_that_are_all_zero(importance, build) -> None:
    network = build("unet")
    for entry in network.module.parameters():
        entry.data.zero_()
    _prune(network, importance, scope="global")


@pytest.mark.parametrize("name", ["two_outputs", "instance_norm"])
def test_batch_norm_needs_batch_norms(name, build) -> None:
    with pytest.raises(UsageError, match="has no batch-norms with scales; take magnitude"):
        _prune(build(name), "batch-norm")


@pytest.mark.parametrize(
    ("name", "importance"),
    [
        ("unet", "batch-norm"),
        *(
            (name, importance)
            for name in ("unet", "joined_nested", "grouped_residual", "flattened", "two_outputs", "dict_output")
            for importance in ("magnitude", "taylor", "hessian")
        ),
    ],
)
def test_same_seed_same_weights(importance, name, build) -> None:
    one, other = build(name), build(name)
    for network in (one, other):
        _prune(network, importance, truth=importance == "taylor", seed=3)
    states = one.module.state_dict(), other.module.state_dict()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_scores_leave_no_gradients(build) -> None:
    network = build("unet")
    _prune(network, "hessian")
    assert all(entry.grad is None for entry in network.module.parameters())

"""Channels go where they can and from all that share them, in networks of every habit; the rest computes as before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from vtopt.optimize.artifacts import Size
from vtopt.optimize.errors import NetworkError
from vtopt.optimize.export import make_example
from vtopt.optimize.networks.widths import find_pruned, list_shapes
from vtopt.optimize.pruning.macs import count_macs
from vtopt.optimize.pruning.plan import estimate_macs, plan_widths
from vtopt.optimize.pruning.removal import PruningRequest, Removal, prune_module
from vtopt.optimize.pruning.tracing import trace_network

WIDTHS = {
    "inline_attention_warp": "8 16 6 9 4 3",
    "inline_warp_in_five_dimensions": "8 16 6 9 4 3",
    "module_attention_warp": "8 8 6 9 4 3",
    "inline_flow_warp": "8 8 4 2 4 2 4 3",
    "module_correlation_9": "8 8 4 3",
    "module_correlation_81": "8 8 4 3",
    "inline_correlation": "8 16 4 3",
    "inline_mask": "8 8 4 1 3",
    "module_mask": "8 8 4 1 3",
    "squeeze_excite_linear": "8 4 8 3",
    "squeeze_excite_conv": "8 4 8 3",
    "self_attention": "8 16 4 4 16 4 3",
    "spade": "16 6 16 16 8 3",
    "spectral_norm_hook": "8 16 16 4 3",
    "spectral_norm_parametrization": "8 16 16 4 3",
    "joined_picture_first": "8 6 4 3",
    "joined_picture_between": "8 6 4 3",
    "joined_picture_last": "8 6 4 3",
    "joined_nested": "8 6 4 3",
    "joined_twice": "8 12 4 3",
    "joined_and_scaled": "8 2 10 3",
    "parted_by_split": "16 4 6 3",
    "parted_by_chunk": "16 4 6 3",
    "parted_by_slices": "16 4 6 3",
    "unet": "4 8 8 8 4 4 3",
    "depthwise": "8 8 8 3",
    "depthwise_chain": "8 8 3",
    "grouped": "8 12 3",
    "grouped_residual": "8 8 3",
    "group_norm": "8 8 8 3",
    "group_norm_plain": "8 8 8 3",
    "instance_norm": "8 8 8 3",
    "instance_norm_plain": "8 8 8 3",
    "instance_norm_tracked": "8 16 8 3",
    "prelu": "8 8 8 3",
    "prelu_single": "8 8 8 3",
    "channels_last": "16 16 16 16 4 3",
    "flattened_by_view": "4 8 6 4 3",
    "flattened": "4 8 6 4 3",
    "shared": "8 8 3",
    "two_outputs": "8 8 3 1",
    "dict_output": "8 8 3 1",
    "nested_outputs": "8 16 3 1",
    "in_place": "8 8 3",
    "buffer_added": "16 6 3",
    "parameter_added": "16 6 3",
    "multi_head_attention": "8 16 16 4 3",
    "tokens": "16 6 16 192",
    "depends_on_data": "16 6 16 3",
    "own_size": "8 4 1 4 3",
    "made": "8 6 3",
}
"""Network -> the output channels of its convolutions and linear layers, half of which were to go where they can."""
WIDTHS |= dict.fromkeys(
    (
        "reordered_flip",
        "reordered_roll",
        "reordered_pick",
        "reordered_shuffle",
        "reordered_groups",
        "reordered_softmax",
        "reordered_write",
        "reordered_pixels",
        "reordered_cumulate",
        "reordered_gather",
        "reordered_dual",
    ),
    "16 6 3",
)

STATISTICS_CHANGE = {"group_norm", "group_norm_plain"}
"""Normalised over several channels: with fewer of them the others have other values."""


def _prune(network: Any, ratio: float = 0.5, **settings: Any) -> Removal:
    settings = {"round_to": 1} | settings
    return prune_module(network, PruningRequest({"": ratio}, **settings), _make_inputs(network))


def _make_inputs(network: Any) -> tuple[torch.Tensor, ...]:
    return make_example(network, Size(*network.size), 1, 0)


def _list_layers(module: nn.Module) -> list[Any]:
    return [layer for layer in module.modules() if isinstance(layer, nn.modules.conv._ConvNd | nn.Linear)]


def _list_widths(module: nn.Module) -> str:
    return " ".join(
        str(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)
        for layer in _list_layers(module)
    )


def _silence(layer: Any, made: list[int], read: list[int]) -> None:
    """Zero what a layer of the unpruned network makes and reads of the removed channels."""
    with torch.no_grad():
        if made and layer.bias is not None:
            layer.bias[made] = 0
        weight = layer.weight.transpose(0, 1) if getattr(layer, "transposed", False) else layer.weight
        weight[made] = 0
        groups = getattr(layer, "groups", 1)
        if groups == 1:
            weight[:, read] = 0
        elif weight.shape[1] > 1:
            outside, inside = weight.shape[0] // groups, weight.shape[1]
            for place in read:
                first = place // inside * outside
                weight[first : first + outside, place % inside] = 0


@pytest.mark.parametrize("name", WIDTHS)
def test_prune_module_takes_the_same_channels_from_all_that_share_them(name, build, run, removed) -> None:
    network, whole = build(name), build(name)
    whole.module.load_state_dict(network.module.state_dict())
    expected = [list(tensor.shape) for tensor in run(network.module, network)]
    layers = list(zip(_list_layers(network.module), _list_layers(whole.module), strict=True))
    removal = _prune(network)
    assert _list_widths(network.module) == WIDTHS[name]
    made = run(network.module, network)
    assert [list(tensor.shape) for tensor in made] == expected
    assert 0 < removal.removed < removal.channels
    if name in STATISTICS_CHANGE:
        return
    for pruned, layer in layers:
        _silence(layer, removed.made.get(pruned, []), removed.read.get(pruned, []))
    for tensor, silenced in zip(made, run(whole.module, whole), strict=True):
        torch.testing.assert_close(tensor, silenced, rtol=1e-4, atol=1e-5 * float(silenced.abs().max()))


@pytest.mark.parametrize("name", WIDTHS)
def test_a_pruned_network_is_built_again_from_its_shapes(name, build, run) -> None:
    network = build(name)
    full = list_shapes(network.module)
    _prune(network, round_to=4)
    again = build(name, pruned=find_pruned(network.module, full))
    again.module.load_state_dict(network.module.state_dict())
    assert repr(_list_layers(again.module)) == repr(_list_layers(network.module))
    for tensor, other in zip(run(network.module, network), run(again.module, again), strict=True):
        assert torch.equal(tensor, other)


@pytest.mark.parametrize("name", WIDTHS)
def test_estimated_multiply_adds_are_those_counted_afterwards(name, build, monkeypatch) -> None:
    from vtopt.optimize.pruning import removal

    network = build(name)
    estimates = []

    def estimate(channels: Any, ratios: Any, **settings: Any) -> Any:
        keep = plan_widths(channels, ratios, **settings)
        estimates.append(estimate_macs(channels, keep))
        return keep

    monkeypatch.setattr(removal, "plan_widths", estimate)
    before = sum(count_macs(network.module, _make_inputs(network)).values())
    _prune(network)
    counted = sum(count_macs(network.module, _make_inputs(network)).values())
    assert estimates == [counted]
    assert counted < before


@pytest.mark.parametrize(
    ("name", "layer"), [("group_norm", "middle.0"), ("grouped", "0"), ("grouped", "2"), ("grouped_residual", "stem")]
)
def test_groups_lose_the_same_channels_of_each_part(name, layer, build, removed) -> None:
    network = build(name)
    side = network.module.get_submodule(layer).out_channels // 4
    _prune(network)
    places = removed.made[network.module.get_submodule(layer)]
    parts = [[place % side for place in sorted(places) if place // side == part] for part in range(4)]
    assert parts == [parts[0]] * 4
    assert len(parts[0]) == side / 2


@pytest.mark.parametrize("name", ["one_convolution", "nothing", "depthwise_multiplied", "grouped_transposed"])
def test_a_network_of_which_nothing_can_be_removed_is_refused(name, build) -> None:
    network = build(name)
    before = list_shapes(network.module)
    with pytest.raises(NetworkError, match=r"nothing can be removed: every .* \(\d of them\) makes"):
        _prune(network)
    assert list_shapes(network.module) == before


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (PruningRequest({"": 0.1}, round_to=16), r"the 6 groups of 8 to 16 channels stay .* take a lower --round-to"),
        (PruningRequest({"last": 0.5}), r"named parts keep all their channels.* go from down\.0\.0, "),
        (PruningRequest(max_macs=10**9), r"has [\d,]+ multiply-adds, no more than --max-macs 1,000,000,000"),
    ],
)
def test_a_request_that_comes_to_nothing_says_why_and_trains_nothing(request_, message, build) -> None:
    network, trained = build("unet"), []
    with pytest.raises(NetworkError, match=f"nothing was removed: .*{message}"):
        prune_module(network, replace(request_, steps=2), _make_inputs(network), (), trained.append)
    assert trained == []


def test_multiply_adds_of_a_network_that_asks_for_a_number_are_counted_once(build) -> None:
    network = build("depends_on_data")
    height, width = network.size
    assert count_macs(network.module, _make_inputs(network))["stem"] == height * width * 3 * 16 * 9


@pytest.mark.parametrize("name", ["unet", "grouped_residual", "joined_nested", "inline_flow_warp", "group_norm"])
def test_several_steps_reach_the_widths_of_one(name, build, run) -> None:
    at_once, in_steps = build(name), build(name)
    calls: list[int] = []
    expected = _prune(at_once)
    inputs = _make_inputs(in_steps)
    made = prune_module(in_steps, PruningRequest({"": 0.5}, round_to=1, steps=3), inputs, (), calls.append)
    assert calls == [1, 2]
    assert _list_widths(in_steps.module) == _list_widths(at_once.module)
    assert made == expected
    assert run(in_steps.module, in_steps)[0].isfinite().all()


def test_pruned_again(build, run) -> None:
    network = build("unet")
    _prune(network)
    _prune(network)
    assert _list_widths(network.module) == "2 4 4 4 2 2 3"
    assert run(network.module, network)[0].shape == (1, 3, *network.size)


@pytest.mark.parametrize("name", ["unet", "spectral_norm_hook", "parameter_added"])
def test_weights_that_are_frozen_are_pruned_and_stay_frozen(name, build) -> None:
    network = build(name)
    for entry in network.module.parameters():
        entry.requires_grad_(False)
    trace_network(network, _make_inputs(network))
    assert not any(entry.requires_grad for entry in network.module.parameters())
    _prune(network)
    assert _list_widths(network.module) == WIDTHS[name]


def test_a_failure_of_torch_pruning_is_a_sentence(build, monkeypatch) -> None:
    import torch_pruning

    def fail(*_: Any, **__: Any) -> None:
        raise IndexError("list index out of range\nmore")

    monkeypatch.setattr(torch_pruning.DependencyGraph, "build_dependency", fail)
    message = r"cannot be followed \(IndexError: list index out of range\); put the code"
    with pytest.raises(NetworkError, match=message):
        _prune(build("unet"))


def test_same_network_same_bytes(build) -> None:
    one, other = build("unet"), build("unet")
    _prune(one)
    _prune(other)
    states = one.module.state_dict(), other.module.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])

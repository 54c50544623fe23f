"""Pruned shapes of a header cut a freshly built network, and nothing but a smaller network comes of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vtopt.optimize.errors import NetworkError
from vtopt.optimize.networks import build_network
from vtopt.optimize.networks.widths import PRUNED, find_pruned, list_shapes, resize_module


def _make_module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.PReLU(8), nn.Conv2d(8, 3, 1)).eval()


SMALLER = {
    "0.weight": [5, 3, 3, 3],
    "0.bias": [5],
    **{f"1.{name}": [5] for name in ("weight", "bias", "running_mean", "running_var")},
    "2.weight": [5],
    "3.weight": [3, 5, 1, 1],
}


def test_resize_module() -> None:
    module = _make_module()
    full = list_shapes(module)
    resize_module(module, SMALLER)
    assert find_pruned(module, full) == SMALLER
    assert find_pruned(_make_module(), full) == {}
    assert (module[0].out_channels, module[1].num_features, module[2].num_parameters, module[3].in_channels) == (5,) * 4
    assert module(torch.zeros(1, 3, 4, 4)).shape == (1, 3, 4, 4)


@pytest.mark.parametrize(
    ("layer", "shapes", "told"),
    [
        (nn.Linear(8, 6), {"weight": [4, 5]}, {"in_features": 5, "out_features": 4}),
        (nn.ConvTranspose2d(8, 6, 3), {"weight": [5, 4, 3, 3]}, {"in_channels": 5, "out_channels": 4}),
        (nn.Conv2d(8, 8, 3, groups=8), {"weight": [5, 1, 3, 3]}, {"in_channels": 5, "out_channels": 5, "groups": 5}),
        (nn.Conv2d(8, 16, 3, groups=8), {"weight": [8, 1, 3, 3]}, {"in_channels": 8, "out_channels": 8, "groups": 8}),
        (nn.Conv2d(8, 12, 3, groups=2), {"weight": [6, 3, 3, 3]}, {"in_channels": 6, "out_channels": 6, "groups": 2}),
        (nn.GroupNorm(2, 8), {"weight": [4], "bias": [4]}, {"num_channels": 4}),
        (nn.LayerNorm(8), {"weight": [4], "bias": [4]}, {"normalized_shape": (4,)}),
        (nn.InstanceNorm2d(8, affine=True), {"weight": [4], "bias": [4]}, {"num_features": 4}),
        (nn.BatchNorm2d(8, affine=False), {"running_mean": [4], "running_var": [4]}, {"num_features": 4}),
    ],
)
def test_layers_know_their_new_widths(layer, shapes, told) -> None:
    resize_module(layer, shapes)
    assert {key: getattr(layer, key) for key in told} == told


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("0.weight", [9, 3, 3, 3]),
        ("0.weight", [0, 3, 3, 3]),
        ("0.weight", [-1, 3, 3, 3]),
        ("0.weight", [5, 3, 3]),
        ("0.weight", []),
        ("0.weight", [5.0, 3, 3, 3]),
        ("0.weight", ["5", 3, 3, 3]),
        ("0.weight", [10**12, 3, 3, 3]),
        ("0.weight", 5),
        ("0.weight", None),
        ("0.weight", "5333"),
        ("0.weight", [True, 3, 3, 3]),
        ("0.wait", [5]),
        ("__class__", [5]),
        ("1.num_batches_tracked", [1]),
        ("", [5]),
    ],
)
def test_resize_module_refuses(name, shape) -> None:
    module = _make_module()
    before = list_shapes(module)
    with pytest.raises(NetworkError, match="does not fit the network"):
        resize_module(module, {"0.bias": [5], name: shape})
    assert list_shapes(module) == before


@pytest.mark.parametrize("pruned", [0, 5, "", "text", [], ["0.weight"], [["0.weight", [1]]]])
def test_pruned_shapes_that_are_no_shapes(pruned: Any) -> None:
    with pytest.raises(NetworkError, match="are no shapes"):
        build_network("sdafn_plus_tiny", {PRUNED: pruned})


HEAD = "dafnet.lights_decoder"
NARROWER = {f"{HEAD}.0.weight": [8, 16, 1, 1], f"{HEAD}.0.bias": [8], f"{HEAD}.2.weight": [3, 8, 3, 3]}


def test_build_network_keeps_the_shapes_in_its_configuration() -> None:
    assert build_network("sdafn_plus_tiny", {PRUNED: NARROWER}).config[PRUNED] == NARROWER
    assert PRUNED not in build_network("sdafn_plus_tiny").config


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        pytest.param({f"{HEAD}.0.bias": [8]}, "contradict each other: .* not run .RuntimeError", id="weight and bias"),
        pytest.param({f"{HEAD}.2.weight": [3, 8, 3, 3]}, "contradict each other", id="a layer and the next"),
        pytest.param(
            {f"{HEAD}.2.weight": [2, 16, 3, 3], f"{HEAD}.2.bias": [2]},
            r"outputs are \[\[1, 2, 32, 32\]\] and not \[\[1, 3, 32, 32\]\]",
            id="a picture without blue",
        ),
    ],
)
def test_pruned_shapes_that_contradict_each_other(shapes: Any, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        build_network("sdafn_plus_tiny", {PRUNED: shapes})

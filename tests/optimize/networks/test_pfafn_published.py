"""PF-AFN: its names and shapes are the public ones, and what it draws with seeded weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from published import build_seeded, check_names_and_shapes, needs_upstream, read_manifest, read_outputs
from torch import Tensor
from torch.nn import functional as F

from vtopt.optimize.networks import build_network, pfafn

TOLERANCE = 1e-4
"""Largest difference to the public network, of the output's largest value."""

WARPS = ["pfafn_warp", "pfafn_warp_aligned"]

pytestmark = needs_upstream


@pytest.mark.parametrize("name", [*WARPS, "pfafn_gen"])
def test_names_and_shapes_are_the_published_ones(name: str) -> None:
    manifest = read_manifest(name)
    with torch.device("meta"):
        network = build_network(name)
    check_names_and_shapes(network)
    assert {spec.name: spec.channels for spec in network.inputs}.items() <= {
        name: shape[1] for name, shape in manifest["inputs"].items()
    }.items()
    assert set(network.outputs) == set(manifest["outputs"])


@pytest.mark.parametrize("name", ["pfafn", "pfafn_aligned"])
def test_the_whole_has_both_networks_names_after_a_prefix(name: str) -> None:
    with torch.device("meta"):
        names = list(build_network(name).module.state_dict())
    warp, generator = (read_manifest(part)["state_dict"] for part in ("pfafn_warp", "pfafn_gen"))
    assert names == [*(f"warp.{key}" for key in warp), *(f"generator.{key}" for key in generator)]


def _draw(seeded: Any, name: str, channels: int = 3) -> Tensor:
    return seeded.seeded_input(f"pfafn.{name}", (1, channels, 128, 96))


def test_the_generator_gives_the_published_numbers(seeded: Any) -> None:
    """The picture is a tanh of numbers up to 244: their rounding, 4e-6 of that, is 4e-4 of a picture's 1.

    So far is the published picture from that of the same network in float64.
    """
    network = build_seeded("pfafn_gen", seeded)
    warp, expected = read_outputs("pfafn_warp"), read_outputs("pfafn_gen")
    flow, clothes = (torch.from_numpy(warp[name]) for name in ("flow", "warped_clothes"))
    whole = (_draw(seeded, "edge", 1) > -0.5).float()
    edge = F.grid_sample(whole, flow.permute(0, 2, 3, 1), padding_mode="zeros", align_corners=False)
    with torch.no_grad():
        tryon, raw = network.module(_draw(seeded, "person"), clothes, edge)
    composed = pfafn.compose_picture(torch.from_numpy(expected["raw"]), clothes, edge)
    print(f"tryon: {_measure(tryon, expected['tryon']):.1e} of the largest value")
    assert _measure(raw, expected["raw"]) <= TOLERANCE / 10
    assert _measure(composed, expected["tryon"]) <= TOLERANCE / 10
    assert _measure(tryon, expected["tryon"]) <= 10 * TOLERANCE


def _measure(made: Tensor, expected: Any) -> float:
    assert made.shape == expected.shape
    return float(np.abs(made.numpy() - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", WARPS)
def test_the_published_garment_is_warped_by_the_published_flow(name: str, seeded: Any) -> None:
    with torch.device("meta"):
        warp = build_network(name).module
    expected = read_outputs(name)
    made = warp.sample(_draw(seeded, "clothes"), torch.from_numpy(expected["flow"]))
    assert _measure(made, expected["warped_clothes"]) <= TOLERANCE

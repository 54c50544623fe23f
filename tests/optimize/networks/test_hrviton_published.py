"""HR-VITON against the public networks: their names and shapes, and their outputs for seeded weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from published import build_seeded, check_names_and_shapes, needs_upstream, read_manifest, read_outputs

from vtopt.optimize.networks import build_network
from vtopt.optimize.networks.spectral_norm import fold_network

TOLERANCE = 1e-4
"""Largest difference to the public network, of the output's largest value."""

pytestmark = needs_upstream


@pytest.mark.parametrize("name", ["hrviton_tocg", "hrviton_gen"])
def test_names_and_shapes_are_the_published_ones(name: str) -> None:
    manifest = read_manifest(name)
    with torch.device("meta"):
        network = build_network(name)
    check_names_and_shapes(network)
    assert {spec.name: spec.channels for spec in network.inputs} == {
        name: shape[1] for name, shape in manifest["inputs"].items()
    }
    assert set(network.outputs) == set(manifest["outputs"])


def test_conditions_are_the_published_ones(seeded: Any) -> None:
    network = build_seeded("hrviton_tocg", seeded)
    inputs = [seeded.seeded_input(f"hrviton.{name}", (1, c, 128, 96)) for name, c in (("input1", 4), ("input2", 16))]
    with torch.no_grad():
        made = dict(zip(network.outputs, network.module(*inputs), strict=True))
    for name, expected in read_outputs("hrviton_tocg").items():
        assert _measure(name, made[name].numpy(), expected) <= TOLERANCE


@pytest.mark.slow  # finding the singular values of 100 M weights
def test_the_picture_is_the_published_one_folded_or_not(seeded: Any) -> None:
    network = build_seeded("hrviton_gen", seeded)
    x, seg = (seeded.seeded_input(f"hrviton.{name}", (1, c, 256, 128)) for name, c in (("x", 9), ("seg", 7)))
    with torch.no_grad():
        made = network.module(x, (seg > 0).float())
        assert torch.equal(fold_network(network).module(x, (seg > 0).float()), made)
    assert _measure("tryon", made.numpy(), read_outputs("hrviton_gen")["tryon"]) <= TOLERANCE


def _measure(name: str, made: Any, expected: Any) -> float:
    assert made.shape == expected.shape
    share = float(np.abs(made - expected).max() / np.abs(expected).max())
    print(f"{name}: {share:.1e} of the largest value")
    return share

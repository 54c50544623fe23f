"""HR-VITON against the public networks: their names and shapes, and their outputs for seeded weights."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vtopt.optimize.networks import build_network
from vtopt.optimize.networks.spectral_norm import fold_network

UPSTREAM = Path(__file__).parents[4] / "shared" / "upstream"
TOLERANCE = 1e-4
"""Largest difference to the public network, of the output's largest value."""

pytestmark = pytest.mark.skipif(not UPSTREAM.exists(), reason="no ../shared/upstream")


@pytest.fixture(scope="module")
def seeded() -> Any:
    """The public module that makes weights and inputs from names and shapes."""
    spec = importlib.util.spec_from_file_location("seeded_weights", UPSTREAM / "seeded_weights.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["hrviton_tocg", "hrviton_gen"])
def test_names_and_shapes_are_the_published_ones(name: str) -> None:
    manifest = json.loads((UPSTREAM / "manifest.json").read_text())[name]
    with torch.device("meta"):
        network = build_network(name)
    shapes = {key: list(tensor.shape) for key, tensor in network.module.state_dict().items()}
    assert list(shapes.items()) == list(manifest["state_dict"].items())
    assert sum(parameter.numel() for parameter in network.module.parameters()) == manifest["parameters"]
    assert {spec.name: spec.channels for spec in network.inputs} == {
        name: shape[1] for name, shape in manifest["inputs"].items()
    }
    assert set(network.outputs) == set(manifest["outputs"])


def test_conditions_are_the_published_ones(seeded: Any) -> None:
    network = _load("hrviton_tocg", seeded)
    inputs = [seeded.seeded_input(f"hrviton.{name}", (1, c, 128, 96)) for name, c in (("input1", 4), ("input2", 16))]
    with torch.no_grad():
        made = dict(zip(network.outputs, network.module(*inputs), strict=True))
    for name, expected in np.load(UPSTREAM / "hrviton_tocg.npz").items():
        assert _measure(name, made[name].numpy(), expected) <= TOLERANCE


@pytest.mark.slow  # finding the singular values of 100 M weights
def test_the_picture_is_the_published_one_folded_or_not(seeded: Any) -> None:
    network = _load("hrviton_gen", seeded)
    x, seg = (seeded.seeded_input(f"hrviton.{name}", (1, c, 256, 128)) for name, c in (("x", 9), ("seg", 7)))
    with torch.no_grad():
        made = network.module(x, (seg > 0).float())
        assert torch.equal(fold_network(network).module(x, (seg > 0).float()), made)
    assert _measure("tryon", made.numpy(), np.load(UPSTREAM / "hrviton_gen.npz")["tryon"]) <= TOLERANCE


def _load(name: str, seeded: Any) -> Any:
    network = build_network(name)
    network.module.load_state_dict(seeded.seeded_state_dict(network.module.state_dict()))
    return network


def _measure(name: str, made: Any, expected: Any) -> float:
    assert made.shape == expected.shape
    share = float(np.abs(made - expected).max() / np.abs(expected).max())
    print(f"{name}: {share:.1e} of the largest value")
    return share

"""The public networks as ../shared/upstream has them: names and shapes, seeded weights, and their outputs."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vtopt.optimize.networks import Network, build_network

__all__ = [
    "build_seeded",
    "check_names_and_shapes",
    "import_seeding",
    "needs_upstream",
    "read_manifest",
    "read_outputs",
]

_UPSTREAM = Path(__file__).parents[3] / "shared" / "upstream"

needs_upstream = pytest.mark.skipif(not _UPSTREAM.exists(), reason="no ../shared/upstream")


def import_seeding() -> Any:
    """Return the public module that makes weights and inputs from names and shapes."""
    spec = importlib.util.spec_from_file_location("seeded_weights", _UPSTREAM / "seeded_weights.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_manifest(name: str) -> dict[str, Any]:
    return json.loads((_UPSTREAM / "manifest.json").read_text())[name]


def read_outputs(name: str) -> Mapping[str, Any]:
    """Return output -> (N, C, H, W) float32 of the public network with seeded weights and inputs."""
    return np.load(_UPSTREAM / f"{name}.npz")


def build_seeded(name: str, seeded: Any) -> Network:
    network = build_network(name)
    network.module.load_state_dict(seeded.seeded_state_dict(network.module.state_dict()))
    return network


def check_names_and_shapes(network: Network) -> None:
    """Assert that the state_dict is the published one, in its order, with as many parameters."""
    manifest = read_manifest(network.name)
    shapes = {key: list(tensor.shape) for key, tensor in network.module.state_dict().items()}
    assert list(shapes.items()) == list(manifest["state_dict"].items())
    assert sum(parameter.numel() for parameter in network.module.parameters()) == manifest["parameters"]

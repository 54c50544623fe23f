"""Weights in safetensors: the network's name and configuration travel in the header, so no pickle is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .artifacts import detect_kind
from .errors import InputError, NetworkError
from .networks import Network, build_network
from .provenance import CONFIG, NETWORK, PICTURES, Metadata, read_metadata

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["describe_network", "find_nonfinite", "fit_weights", "load_network", "load_weights", "save_weights"]

SHOWN_NAMES = 5


def load_weights(path: Path) -> tuple[dict[str, Tensor], Metadata]:
    """Return the tensors and the `vtopt.` header entries of a .safetensors file or a checkpoint."""
    if detect_kind(path) == "checkpoint":
        from .checkpoint import read_checkpoint, select_weights

        chosen = select_weights(read_checkpoint(path), path)
        return chosen.weights, chosen.metadata
    from safetensors.torch import load_file

    metadata = read_metadata(path)
    return load_file(path), metadata


def save_weights(weights: Mapping[str, Tensor], path: Path, metadata: Metadata) -> None:
    """Write tensors and header entries to `path`; the same input gives the same bytes."""
    from safetensors.torch import save_file

    tensors = {name: weights[name].contiguous() for name in sorted(weights)}
    save_file(tensors, path, metadata=dict(sorted(metadata.items())))


def load_network(path: Path, name: str | None = None) -> Network:
    """Return the network of a file of weights or a checkpoint, loaded, float32, in evaluation mode.

    `name` is needed only where the file does not say. Raises NetworkError when no network is named or the
    weights do not fit it, InputError when the file cannot be read or holds NaN or infinite values.
    """
    weights, metadata = load_weights(path)
    named = name or metadata.get(NETWORK)
    if named is None:
        raise NetworkError(f"{path}: does not say which network it belongs to; pass --network NAME")
    config = json.loads(metadata.get(CONFIG, "{}")) if metadata.get(NETWORK) == named else {}
    network = build_network(named, config)
    fit_weights(network, weights, f"{path} as {named}")
    bad = find_nonfinite(weights)
    if bad:
        raise InputError(
            f"{path}: {_summarize(bad)} hold NaN or infinite values; "
            "the training has diverged: take an earlier checkpoint"
        )
    return network


def fit_weights(network: Network, weights: Mapping[str, Tensor], what: str) -> None:
    """Load `weights` into the network; raises NetworkError that sums up every name that does not fit."""
    expected = network.module.state_dict()
    missing = [name for name in expected if name not in weights and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in weights if name not in expected]
    reshaped = [
        f"{name} {list(weights[name].shape)} (the network has {list(tensor.shape)})"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    problems = [
        f"{label}: {_summarize(names)}"
        for label, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
        if names
    ]
    if problems:
        raise NetworkError(f"{what}: the weights do not fit; {'; '.join(problems)}. Choose another --network")
    network.module.load_state_dict({name: weights.get(name, tensor) for name, tensor in expected.items()})


def _summarize(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN_NAMES])
    return shown if len(names) <= SHOWN_NAMES else f"{shown} and {len(names) - SHOWN_NAMES} more"


def find_nonfinite(weights: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors that hold NaN or infinite values."""
    return [name for name, tensor in weights.items() if tensor.is_floating_point() and not tensor.isfinite().all()]


def describe_network(name: str, network: Network) -> Metadata:
    """Return the header entries from which the network can be built again."""
    pictures = {spec.name: spec.fed_by for spec in network.inputs}
    return {
        NETWORK: name,
        CONFIG: json.dumps(dict(network.config), sort_keys=True),
        PICTURES: json.dumps(pictures),
    }

"""Weights in safetensors: the network's name and configuration travel in the header, so no pickle is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from .artifacts import detect_kind
from .errors import InputError, NetworkError, OutputError
from .fitting import find_networks, summarize_misfit, summarize_names
from .networks import NETWORKS, Network, build_network
from .networks.names import rename_entries
from .networks.spectral_norm import fold_network
from .provenance import CONFIG, NETWORK, PICTURES, Metadata, read_metadata

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["describe_network", "fit_weights", "load_network", "load_weights", "require_finite", "save_weights"]


def load_weights(path: Path, name: str | None = None) -> tuple[dict[str, Tensor], Metadata]:
    """Return the tensors and the `vtopt.` header entries of a .safetensors file or a checkpoint.

    `name` is the network the user named, the only one beside the registered that a file may also name.

    Raises InputError for a model in place of weights, and for what cannot be read.
    """
    kind = detect_kind(path)
    if kind not in ("weights", "checkpoint"):
        raise InputError(f"{path}: is an exported model; give the .safetensors or checkpoint that it was made from")
    if kind == "checkpoint":
        from .checkpoint import read_checkpoint, select_weights

        chosen = select_weights(read_checkpoint(path), path, network=name)
        return chosen.weights, chosen.metadata
    from safetensors.torch import load_file

    metadata = read_metadata(path)
    return load_file(path), metadata


def save_weights(weights: Mapping[str, Tensor], path: Path, metadata: Metadata) -> None:
    """Write tensors and header entries to `path`; the same input gives the same bytes.

    Raises OutputError when the disk is full.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {name: weights[name].contiguous() for name in sorted(weights)}
    try:
        save_file(tensors, path, metadata=dict(metadata))
    except SafetensorError as error:
        raise OutputError(f"{path.name}: cannot be written: {error}") from error
    _sort_header(path)


def _sort_header(path: Path) -> None:
    """Put the header's entries in order: safetensors writes them in a random one."""
    with path.open("r+b") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        stream.seek(8)
        stream.write(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length))


def load_network(path: Path, name: str | None = None) -> Network:
    """Return the network of a file of weights or a checkpoint, loaded, float32, in evaluation mode.

    Its spectral norms are folded: what exports, prunes and rounds it sees weights and no division of them.
    `name` is needed only where the file does not say; what a network then has to say of settings that nobody chose
    is said once. A file can only name registered networks: that of a user's own, package.module:factory, is imported
    when the user names it and never because a file does.

    Raises NetworkError when no network is named, it cannot be built as the file says, or the weights do not fit it;
    InputError when the file cannot be read or holds NaN or infinite values.
    """
    weights, metadata = load_weights(path, name)
    said = metadata.get(NETWORK)
    named = name or said
    if named is None:
        raise NetworkError(f"{path}: does not say which network it belongs to; pass --network NAME")
    if named not in NETWORKS and named != name:
        raise NetworkError(f"{path}: was made for network '{named}'; if you trust it, pass --network {named}")
    try:
        network = build_network(named, json.loads(metadata.get(CONFIG, "{}")) if said == named else {})
    except NetworkError as error:
        raise NetworkError(f"{path}: {error}") from error
    fit_weights(network, weights, f"{path} as {named}")
    require_finite(weights, path)
    if network.notice:
        _announce(f"{path} as {named}: {network.notice}")
    return fold_network(network)


@cache
def _announce(notice: str) -> None:
    from .console import print_notice

    print_notice(notice)


def fit_weights(network: Network, weights: Mapping[str, Tensor], what: str) -> None:
    """Load `weights` into the network.

    Raises NetworkError that sums up every name that does not fit, and names the registered networks that the weights
    do fit. Names that the network knows as aliases, of published weights, are renamed.
    """
    weights = rename_entries(weights, network.aliases, what)
    expected = network.module.state_dict()
    if misfit := summarize_misfit(expected, weights):
        known = [name for name in find_networks(weights) if name != network.name]
        remedy = f"They fit {' or '.join(known)}: choose that --network" if known else "Choose another --network"
        raise NetworkError(f"{what}: the weights do not fit; {misfit}. {remedy}")
    network.module.load_state_dict({name: weights.get(name, tensor) for name, tensor in expected.items()})


def require_finite(weights: Mapping[str, Tensor], path: Path) -> None:
    """Raise InputError that names the tensors with NaN or infinite values, if there are any."""
    bad = [name for name, tensor in weights.items() if tensor.is_floating_point() and not _is_finite(tensor)]
    if bad:
        raise InputError(
            f"{path}: NaN or infinite values in {summarize_names(bad)}; "
            "the training has diverged: take an earlier checkpoint"
        )


def _is_finite(tensor: Tensor) -> bool:
    known = tensor if tensor.element_size() > 1 else tensor.float()  # torch has no isfinite for float8
    return bool(known.isfinite().all())


def describe_network(name: str, network: Network) -> Metadata:
    """Return the header entries from which the network can be built again."""
    pictures = {spec.name: spec.fed_by for spec in network.inputs}
    return {
        NETWORK: name,
        CONFIG: json.dumps(dict(network.config), sort_keys=True),
        PICTURES: json.dumps(pictures),
    }

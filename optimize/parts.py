"""Networks made of parts that were trained and published one by one: a file of weights for each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .errors import NetworkError
from .fitting import find_networks, summarize_misfit
from .networks import Network
from .networks.names import rename_entries
from .networks.spectral_norm import FOLDED
from .networks.widths import PRUNED
from .provenance import CONFIG, NETWORK, Metadata

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PartFile", "join_parts"]


class PartFile(NamedTuple):
    """The weights of one part, and what their file says of its network."""

    path: Path
    weights: Mapping[str, Tensor]
    said: Metadata


def join_parts(network: Network, files: Sequence[PartFile]) -> tuple[dict[str, Tensor], dict[str, PartFile]]:
    """Give each file's weights to the part of the network that they fit, whatever the order of the files.

    Parts are the modules right below the network's own. Returns the whole's weights, their names beginning with their
    part's, and part -> file.

    Raises NetworkError for a file that fits no part or was made with other settings, for two files of one part, and
    for a part without a file.
    """
    children = {name: module.state_dict() for name, module in network.module.named_children()}
    parts = {name: expected for name, expected in children.items() if expected}
    given: dict[str, PartFile] = {}
    for file in files:
        found = rename_entries(file.weights, network.aliases, str(file.path))
        fitting = [name for name, expected in parts.items() if not summarize_misfit(expected, found)]
        if not fitting:
            known = find_networks(file.weights)
            hint = f"they fit {' or '.join(known)}" if known else "give the file of one of those parts"
            if changed := [key for key in (PRUNED, FOLDED) if key in json.loads(file.said.get(CONFIG, "{}"))]:
                hint = f"it is {' and '.join(map(_read_aloud, changed))} already: join the parts first, then do that"
            named = f"{network.name}, which has {', '.join(parts) or 'none'}"
            raise NetworkError(f"{file.path}: the weights fit no part of {named}; {hint}")
        free = [name for name in fitting if name not in given]
        if not free:
            raise NetworkError(
                f"{file.path} and {given[fitting[0]].path}: both are weights of {fitting[0]} of {network.name}; "
                "give one file for each part"
            )
        _compare_settings(network, file)
        given[free[0]] = file
    if lacking := [name for name in parts if name not in given]:
        raise NetworkError(f"{network.name}: no file holds {', '.join(lacking)}; name one with --with FILE")
    weights = {f"{part}.{name}": tensor for part in parts for name, tensor in given[part].weights.items()}
    return weights, given


def _compare_settings(network: Network, file: PartFile) -> None:
    """Raise NetworkError where the file was made with a setting that the whole has too, and has otherwise."""
    whole = json.loads(json.dumps(dict(network.config)))
    for key, value in json.loads(file.said.get(CONFIG, "{}")).items():
        if key in whole and whole[key] != value:
            made = f"{file.path}: was made for {file.said.get(NETWORK)} with {key} {value}"
            raise NetworkError(
                f"{made}, {network.name} has {whole[key]}; pass --set {key}={json.dumps(value)}, or choose a --network "
                "that has it"
            )


def _read_aloud(key: str) -> str:
    return {PRUNED: "pruned", FOLDED: "without its spectral norms"}[key]

"""From a training checkpoint to the weights alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .artifacts import CheckpointIn, Force, NetworkName, WeightsOut, new_output
from .checkpoint import read_checkpoint, select_weights
from .errors import DifferenceError
from .networks import NETWORKS, build_network
from .provenance import CONFIG, HISTORY, NETWORK, Metadata, add_record, read_metadata
from .weights import describe_network, fit_weights, require_finite, save_weights

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["strip_checkpoint"]

_KEY_HELP = "Which weights to keep of a checkpoint with several, for example netG or ema.module."


def strip_checkpoint(
    source: CheckpointIn,
    output: WeightsOut,
    *,
    network: NetworkName = None,
    key: Annotated[str | None, typer.Option(help=_KEY_HELP)] = None,
    force: Force = False,
) -> Path:
    """Keep only the weights of a training checkpoint.

    Optimizer state, counters and options are dropped, averaged (EMA) weights are preferred, and prefixes of
    wrappers such as module. leave the names. No value changes: the written file is read again and must
    equal what was selected, bit for bit. Where the network is known, from --network or from the file, the
    weights must fit it, and the header describes it.
    """
    chosen = select_weights(read_checkpoint(source), source, key=key, network=network)
    require_finite(chosen.weights, source)
    header, notice = _make_header({**read_metadata(source), **chosen.metadata}, chosen.weights, network, source)
    notices = (*chosen.notices, notice) if notice else chosen.notices
    if NETWORK not in header:
        notices += ("the network is not known: pass --network now, or to later steps",)
    header = add_record(
        header,
        "strip",
        source,
        settings={"network": network, "key": key},
        figures={"kept": chosen.kept, "dropped": list(chosen.dropped), "from": chosen.source},
        notices=notices,
    )
    with new_output(output, "weights", force=force) as draft:
        save_weights(chosen.weights, draft, header)
        _compare(chosen.weights, draft)
    return output


def _make_header(
    said: Metadata, weights: Mapping[str, Tensor], network: str | None, source: Path
) -> tuple[Metadata, str]:
    """Describe the network, once the weights fit it, and return its notice; registered ones alone are believed."""
    header = {HISTORY: said[HISTORY]} if HISTORY in said else {}
    named = network or said.get(NETWORK, "")
    if named not in NETWORKS and named != network:
        return header, ""
    built = build_network(named, json.loads(said.get(CONFIG, "{}")) if said.get(NETWORK) == named else {})
    fit_weights(built, weights, f"{source} as {named}")
    return header | describe_network(named, built), built.notice


def _compare(weights: Mapping[str, Tensor], draft: Path) -> None:
    from safetensors.torch import load_file

    written = load_file(draft)
    names = sorted(weights.keys() | written.keys())
    if changed := [name for name in names if not _is_same(weights.get(name), written.get(name))]:
        raise DifferenceError(f"{draft.name}: changed in writing: {', '.join(changed[:5])}; try another disk")


def _is_same(one: Tensor | None, other: Tensor | None) -> bool:
    import torch

    if one is None or other is None or one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))

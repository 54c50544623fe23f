"""From a training checkpoint to the weights alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from .artifacts import CheckpointIn, Force, NetworkName, WeightsOut, hash_artifact, new_output
from .checkpoint import Selection, read_checkpoint, select_weights
from .errors import DifferenceError, UsageError
from .networks import NETWORKS, Network, build_network
from .parts import PartFile, join_parts
from .provenance import CONFIG, HISTORY, NETWORK, Metadata, add_record, read_history, read_metadata
from .weights import describe_network, fit_weights, require_finite, save_weights

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["strip_checkpoint"]

_KEY_HELP = "Which weights to keep of a checkpoint with several, for example netG or ema.module."
_WITH_HELP = "A further file, for a network of several parts; may be given again. --key is for the first file alone."
_SET_HELP = "A setting of the network that its weights do not show, for example align_corners=true; repeatable."
_NOISE_HELP = "Keep the noise of a network that adds some, drawn from this seed: --set noise_seed=SEED."


def strip_checkpoint(
    source: CheckpointIn,
    output: WeightsOut,
    *,
    network: NetworkName = None,
    key: Annotated[str | None, typer.Option(help=_KEY_HELP)] = None,
    with_: Annotated[list[Path] | None, typer.Option("--with", help=_WITH_HELP)] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help=_SET_HELP)] = None,
    noise: Annotated[int | None, typer.Option(min=0, metavar="SEED", help=_NOISE_HELP)] = None,
    force: Force = False,
) -> Path:
    """Keep only the weights of a training checkpoint.

    Optimizer state, counters and options are dropped, averaged (EMA) weights are preferred, and prefixes of
    wrappers such as module. leave the names. No value changes: the written file is read again and must
    equal what was selected, bit for bit. Where the network is known, from --network or from the file, the
    weights must fit it, and the header describes it. A network whose parts were published one by one, as
    pfafn_aligned, takes the files of all with --with; each part gets the one that fits it. What --set chooses
    travels with the weights, and holds for all that is made of them.
    """
    asked = parse_settings([*(set_ or ()), *([] if noise is None else [f"noise_seed={noise}"])])
    chosen = _select(source, network, key)
    if with_:
        files = {source: chosen} | {path: _select(path, network) for path in with_}
        if len(files) <= len(with_):
            raise UsageError("strip: a file is named twice; name each part's file once")
        stripped = _join_parts(files, network, asked)
    else:
        stripped = _keep_one(chosen, source, network, asked)
    settings: dict[str, Any] = {"network": network, "key": key}
    settings |= {"with": ", ".join(path.name for path in with_)} if with_ else {}
    settings |= {"set": ", ".join(f"{name}={json.dumps(value)}" for name, value in asked.items())} if asked else {}
    header = add_record(
        stripped.header, "strip", source, settings=settings, figures=stripped.figures, notices=stripped.notices
    )
    with new_output(output, "weights", force=force) as draft:
        save_weights(stripped.weights, draft, header)
        _compare(stripped.weights, draft)
    return output


class _Stripped(NamedTuple):
    """What is written, and what is said of it."""

    weights: Mapping[str, Tensor]
    header: Metadata
    figures: Mapping[str, Any]
    notices: tuple[str, ...]


def _select(path: Path, network: str | None, key: str | None = None) -> Selection:
    chosen = select_weights(read_checkpoint(path), path, key=key, network=network)
    require_finite(chosen.weights, path)
    return replace(chosen, metadata={**read_metadata(path), **chosen.metadata})


def _keep_one(chosen: Selection, source: Path, network: str | None, asked: Mapping[str, Any]) -> _Stripped:
    """Describe the network, where it is known, once the weights fit it; registered ones alone are believed."""
    header, notices = _keep_history(chosen), chosen.notices
    said = chosen.metadata.get(NETWORK)
    named = network or said
    if named is not None and (named in NETWORKS or named == network):
        built = _build(named, json.loads(chosen.metadata.get(CONFIG, "{}")) if said == named else {}, asked)
        fit_weights(built, chosen.weights, f"{source} as {named}")
        header |= describe_network(named, built)
        notices += (built.notice,) if built.notice else ()
    elif asked:
        raise UsageError("strip: --set and --noise choose settings of the network; name that with --network")
    else:
        notices += ("the network is not known: pass --network now, or to later steps",)
    figures = {"kept": chosen.kept, "dropped": list(chosen.dropped), "from": chosen.source}
    return _Stripped(chosen.weights, header, figures, notices)


def _join_parts(files: Mapping[Path, Selection], network: str | None, asked: Mapping[str, Any]) -> _Stripped:
    """Put the weights of several files into one network; the history is that of the first, of others their steps."""
    if network is None:
        raise UsageError("strip: --with joins the parts of a network; name that with --network")
    built = _build(network, {}, asked)
    part_files = [PartFile(path, chosen.weights, chosen.metadata) for path, chosen in files.items()]
    weights, given = join_parts(built, part_files)
    fit_weights(built, weights, f"{' and '.join(map(str, files))} as {network}")
    figures = {
        "kept": len(weights),
        "dropped": [f"{path.name}: {what}" for path, chosen in files.items() for what in chosen.dropped],
        "from": {part: files[file.path].source or "the top level" for part, file in given.items()},
        "files": {part: file.path.name for part, file in given.items()},
        "sha256": {part: hash_artifact(file.path) for part, file in given.items()},
        "steps before": {part: [record.step for record in read_history(file.path)] for part, file in given.items()},
    }
    notices = tuple(f"{path.name}: {notice}" for path, chosen in files.items() for notice in chosen.notices)
    header = _keep_history(next(iter(files.values()))) | describe_network(network, built)
    return _Stripped(weights, header, figures, notices + ((built.notice,) if built.notice else ()))


def _build(name: str, config: Mapping[str, Any], asked: Mapping[str, Any]) -> Network:
    if asked:
        known = build_network(name, config).config
        if unknown := [setting for setting in asked if setting not in known]:
            listed = f"they are {', '.join(known)}" if known else "it has none"
            raise UsageError(f"strip: network '{name}' has no setting {', '.join(unknown)}; {listed}")
    return build_network(name, {**config, **asked})


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Read NAME=VALUE each; a value is JSON, or else text. Raises UsageError for what has no name or value."""
    settings: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UsageError(f"strip: --set {text!r} is no setting; write NAME=VALUE, for example align_corners=true")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return settings


def _keep_history(chosen: Selection) -> Metadata:
    return {HISTORY: chosen.metadata[HISTORY]} if HISTORY in chosen.metadata else {}


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

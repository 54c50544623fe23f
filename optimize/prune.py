"""Remove the channels that matter least, for real: the network that is left is smaller and faster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .artifacts import Force, NetworkName, PairCount, PairsFolder, WeightsIn, WeightsOut, new_output
from .errors import NetworkError, UsageError
from .networks import Network, build_network
from .networks.widths import PRUNED, find_pruned, list_shapes
from .provenance import INT8_RANGES, add_record, read_metadata
from .pruning.ratio import PruningRatio, list_empty_parts, parse_count, parse_ratio, resolve_ratio
from .weights import describe_network, load_network, require_finite, save_weights

if TYPE_CHECKING:
    from torch import Tensor

    from .pruning.importance import Sample
    from .pruning.removal import Removal

__all__ = ["prune_network"]

IMPORTANCE_SEED = 800_000
"""Drawn pairs from here on tell which channels matter; they are neither trained nor compared on."""

UNSEEN_HINT = (
    "its code mixes channels in a way that was not seen; put that into a module without weights, or prune a part of "
    "it, as --ratio encoder=0.4"
)

RatioOption = Annotated[
    PruningRatio | None,
    typer.Option(
        parser=parse_ratio,
        metavar="RATIO",
        help="Share of the channels to remove: 0.4, or by part encoder=0.4,decoder=0.25.",
    ),
]
MaxMacsOption = Annotated[
    int | None,
    typer.Option(
        parser=parse_count,
        metavar="MACS",
        help="Instead: remove as little as leaves so many multiply-adds (without warps), as 40G.",
    ),
]
ImportanceOption = Annotated[
    Literal["magnitude", "batch-norm", "taylor", "hessian"],
    typer.Option(help="What tells which channels matter; taylor and hessian look at pairs."),
]
ScopeOption = Annotated[
    Literal["uniform", "global"],
    typer.Option(help="uniform: every layer loses its ratio; global: the channels of all layers are ranked together."),
]


def prune_network(
    source: WeightsIn,
    output: WeightsOut,
    *,
    ratio: RatioOption = None,
    max_macs: MaxMacsOption = None,
    importance: ImportanceOption = "magnitude",
    scope: ScopeOption = "uniform",
    round_to: Annotated[int, typer.Option(min=1, help="Widths become multiples of this, where they can.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Remove in so many steps, each looking at what is left.")] = 1,
    recover_steps: Annotated[
        int, typer.Option(min=0, help="Training steps after each step but the last, towards the source's pictures.")
    ] = 0,
    network: NetworkName = None,
    pairs: PairsFolder = None,
    pair_count: PairCount = 4,
    importance_count: Annotated[int, typer.Option(min=1, help="How many pairs taylor and hessian look at.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Seeds the directions of hessian, and the training.")] = 0,
    force: Force = False,
) -> Path:
    """Remove the least important channels of every layer; weights and widths travel in one file.

    What makes the network's outputs, a warp's grid, an attention map or a mask keeps all its channels. The pictures
    change: vtopt finetune brings them back.

    Raises UsageError for settings that contradict each other, NetworkError where nothing can be removed and for a
    network that does not run.
    """
    from .pruning.figures import compare_networks, count_network

    check_settings(ratio=ratio, max_macs=max_macs, steps=steps, recover_steps=recover_steps)
    built = load_network(source, network)
    settings = {
        "ratio": ratio,
        "max_macs": max_macs,
        "importance": importance,
        "scope": scope,
        "round_to": round_to,
        "steps": steps,
        "recover_steps": recover_steps,
        "network": network,
        "pairs": pairs,
        "pair_count": pair_count,
        "importance_count": importance_count,
        "seed": seed,
    }
    with new_output(output, "weights", force=force) as draft:
        recovery: dict[str, Any] = {}
        original = load_network(source, network)
        removal, notices = _prune(built, source, settings, recovery)
        pruned = replace(built, config={**built.config, PRUNED: find_pruned(built.module, _list_full_shapes(built))})
        weights = pruned.module.state_dict()
        require_finite(weights, output)
        header = read_metadata(source) | describe_network(pruned.name, pruned)
        header.pop(INT8_RANGES, None)  # those of channels that are gone
        save_weights(weights, draft, header)
        figures = {
            "channels": removal.channels - removal.removed,
            "channels_before": removal.channels,
            "groups": len(removal.names),
            "layers_kept_whole": removal.kept_whole,
            "ratio_reached": round(removal.removed / removal.channels, 4),
            "gflops_of": "convolutions and linear layers; bench counts warps, too",
            **count_network(pruned),
            **{f"{key}_before": value for key, value in count_network(original).items()},
            **recovery,
            **compare_networks(source, draft, network=network, pairs=pairs, count=pair_count),
        }
        header = add_record(header, "prune", source, settings=settings, figures=figures, notices=notices)
        save_weights(weights, draft, header)
    return output


def check_settings(
    *,
    ratio: object = None,
    max_macs: object = None,
    steps: int = 1,
    recover_steps: int = 0,
    **_: Any,
) -> None:
    """Raise UsageError for settings that contradict each other; the recipe checker asks before any work."""
    if (ratio is None) == (max_macs is None):
        raise UsageError("prune: give one of --ratio 0.4 and --max-macs 40G")
    if recover_steps and steps == 1:
        raise UsageError("prune: --recover-steps trains between --steps; after the last, run vtopt finetune")


def _list_full_shapes(network: Network) -> dict[str, list[int]]:
    """Return the shapes that the network's factory gives without pruning."""
    config = {key: value for key, value in network.config.items() if key != PRUNED}
    return list_shapes(build_network(network.name, config).module)


def _prune(
    built: Network, source: Path, settings: Mapping[str, Any], recovery: dict[str, Any]
) -> tuple[Removal, tuple[str, ...]]:
    """Remove channels from the network, in place, and make sure that it still runs; return also what is to be said."""
    from .pruning.figures import make_inputs
    from .pruning.importance import GRADIENT_BASED
    from .pruning.removal import PruningRequest, prune_module

    ratio: PruningRatio | None = settings["ratio"]
    keys = ("max_macs", "importance", "scope", "round_to", "steps", "seed")
    request = PruningRequest(resolve_ratio(ratio, built) if ratio else {}, **{key: settings[key] for key in keys})
    samples = _load_samples(source, settings) if request.importance in GRADIENT_BASED else []
    example = make_inputs(built)
    expected = _list_output_shapes(built, example, f"{source}: the network does not run", "")
    try:
        removal = prune_module(built, request, example, samples, _make_recovery(built, source, settings, recovery))
    except NetworkError as error:
        raise NetworkError(f"{source}: {error}") from error
    made = _list_output_shapes(built, example, f"{source}: pruned, the network does not run", f"; {UNSEEN_HINT}")
    if made != expected:
        raise NetworkError(f"{source}: pruned, its outputs became {made} and were {expected}; {UNSEEN_HINT}")
    empty = list_empty_parts(ratio, built, removal.names) if ratio else []
    return removal, tuple(f"part '{part}' has no channels that can be removed" for part in empty)


def _list_output_shapes(network: Network, inputs: tuple[Tensor, ...], what: str, hint: str) -> list[list[int]]:
    """Run the network and return the shapes of what it makes; raises NetworkError that says why it does not run."""
    from .nested import list_tensors
    from .pruning.macs import run_shapes

    try:
        made = run_shapes(network.module, inputs)
    except Exception as error:  # the user's own code, which may raise anything
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise NetworkError(f"{what}: {reason}{hint}") from error
    return [list(tensor.shape) for tensor in list_tensors(made)]


def _load_samples(source: Path, settings: Mapping[str, Any]) -> list[Sample]:
    """Return the inputs and truths of the pairs that importance is measured on."""
    import torch

    from ..benchmarks.engines.engine import feed_pair, open_engine
    from .data.pairs import open_pairs

    engine = open_engine(source, network=settings["network"])
    samples: list[Sample] = []
    for pair in open_pairs(settings["pairs"], engine.size, settings["importance_count"], seed=IMPORTANCE_SEED):
        fed = feed_pair(engine, pair)
        truth = None if pair.truth is None else torch.from_numpy(pair.truth).unsqueeze(0)
        samples.append((tuple(torch.from_numpy(fed[name]) for name in engine.inputs), truth))
    return samples


def _make_recovery(
    built: Network, source: Path, settings: Mapping[str, Any], figures: dict[str, Any]
) -> Callable[[int], None]:
    """Return what is done between two steps: train towards the pictures of the source, and the truth.

    What came of it is added to `figures`.
    """
    steps: int = settings["recover_steps"]

    def train(step: int) -> None:
        from .training.recovery import Recovery, recover

        original = load_network(source, settings["network"])
        request = Recovery(steps=steps, pairs=settings["pairs"], seed=settings["seed"] + step, validate_every=steps)
        found = recover(built, original, request, label=f"recover after step {step} of {settings['steps']}")
        figures[f"recovered_{step}"] = f"{found['psnr_before']} to {found['psnr_best']} dB to the {found['against']}"

    return train if steps else lambda step: None

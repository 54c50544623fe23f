"""Train a try-on network on drawn pairs, whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .artifacts import CheckpointOut, Force, Size, new_output, parse_size
from .errors import NetworkError, OutputError, UsageError
from .networks import Network, build_network
from .training.options import Workers

if TYPE_CHECKING:
    from .training.batches import Stage
    from .training.state import Training

__all__ = ["train_network"]

COARSE_SIZE = Size(128, 96)
FINE_SIZE = Size(256, 192)
SAVE_EVERY = 200
PAIR_PICTURES = ("person", "clothes", "edge")
OUTFIT_PICTURES = ("pose", "agnostic")
"""What drawn pairs have for networks that take it."""


def train_network(
    output: CheckpointOut,
    *,
    network: Annotated[
        str, typer.Option(help="A network with forward_levels, such as sdafn_plus_tiny, or sdafn_tiny, its teacher.")
    ] = "sdafn_plus_tiny",
    coarse_size: Annotated[
        Size, typer.Option(parser=parse_size, metavar="HxW", help="Size of the first stage.")
    ] = COARSE_SIZE,
    coarse_steps: Annotated[int, typer.Option(min=0, help="Steps of the first stage.")] = 4000,
    size: Annotated[Size, typer.Option(parser=parse_size, metavar="HxW", help="Size of the second stage.")] = FINE_SIZE,
    steps: Annotated[int, typer.Option(min=0, help="Steps of the second stage.")] = 1500,
    batch_size: Annotated[int, typer.Option(min=1, help="Pairs a step in the first stage; half in the second.")] = 8,
    learning_rate: Annotated[
        float, typer.Option(min=0.0, help="Highest rate; warms up, then falls as a cosine.")
    ] = 1e-3,
    seed: Annotated[int, typer.Option(min=0, help="Seeds the first weights and the pairs.")] = 0,
    workers: Workers = 2,
    force: Force = False,
) -> Path:
    """Train a network on drawn pairs; run the same command again to go on after an interruption.

    The checkpoint is written every 200 steps and on interruption: network, config, state_dict (as
    trained), ema (what `vtopt strip` prefers), optimizer, step, loss and settings, all plain data.
    Equal settings give the same training whether it was interrupted or not (on one machine and the
    same number of threads). A training whose loss or weights become NaN or infinite stops, and the
    checkpoint on disk stays the last good one.

    Raises OutputError when the output is a finished training, another one's checkpoint, or cannot be
    written; NetworkError when the network cannot be trained; UsageError for a size it cannot take;
    VtoptError when the training diverges.
    """
    from .training.batches import Stage, load_batches, open_drawn
    from .training.devices import check_shares, start_accelerator
    from .training.loop import Plan, run_training
    from .training.losses import TruthLoss
    from .training.state import start_training, write_training

    stages = (
        Stage(coarse_size, coarse_steps, batch_size),
        Stage(size, steps, max(batch_size // 2, 1)),
    )
    settings = {
        "network": network,
        "stages": [[stage.size.height, stage.size.width, stage.steps, stage.batch_size] for stage in stages],
        "learning_rate": learning_rate,
        "seed": seed,
    }
    total = sum(stage.steps for stage in stages)
    accelerator = start_accelerator()
    check_shares((stage.batch_size for stage in stages if stage.steps), accelerator.num_processes)
    built = _build(network, seed)
    _check_settings(built, stages, seed)
    training = start_training(built.module, learning_rate, accelerator.device)
    if output.exists() and not force:
        _resume(training, output, settings, total)
    with new_output(output, "checkpoint", force=True):
        pass  # an output that cannot be written is refused now, not after the first steps
    accelerator.wait_for_everyone()  # nobody overwrites what another is still reading
    run_training(
        training,
        TruthLoss(built),
        load_batches(
            partial(open_drawn, seed, outfits=_takes_outfits(built)),
            stages,
            training.step,
            workers=workers,
            process=accelerator.process_index,
            processes=accelerator.num_processes,
        ),
        Plan(total, learning_rate, seed, save_every=SAVE_EVERY),
        accelerator,
        label="train",
        save=partial(write_training, path=output, network=network, config=built.config, settings=settings),
        path=output,
    )
    accelerator.wait_for_everyone()
    return output


def _build(network: str, seed: int) -> Network:
    import torch

    torch.manual_seed(seed)
    built = build_network(network)
    if not hasattr(built.module, "forward_levels"):
        raise NetworkError(f"network '{network}' has no forward_levels method, which training needs")
    fed = {name for spec in built.inputs for name in spec.fed_by.split("+")}
    if unknown := fed - {*PAIR_PICTURES, *OUTFIT_PICTURES}:
        raise NetworkError(f"network '{network}' takes {', '.join(sorted(unknown))}, which drawn pairs have not")
    return built


def _takes_outfits(network: Network) -> bool:
    return any(name in spec.fed_by.split("+") for spec in network.inputs for name in OUTFIT_PICTURES)


def _check_settings(network: Network, stages: tuple[Stage, ...], seed: int) -> None:
    from .training.batches import check_drawn_size

    if seed < 0:
        raise UsageError(f"--seed must be 0 or more, not {seed}")
    for stage in stages:
        if stage.steps:
            check_drawn_size(network, stage.size)


def _resume(training: Training, output: Path, settings: Mapping[str, Any], total: int) -> None:
    """Take up the training that `output` holds."""
    from .training.state import read_training, restore_training

    restore_training(training, read_training(output, settings), output)
    if training.step >= total:
        raise OutputError(f"{output}: this training is finished; pass --force to start anew")

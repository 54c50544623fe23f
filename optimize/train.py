"""Train a try-on network on drawn pairs, whose truth is known.

The loss of every pyramid level is the L1 distance to the truth and to its gradients; finer levels weigh
more, as in SDAFN's own training. Drawn pairs also know where each pixel of the garment came from, and the
attention-weighted flows are led there (a stated substitute for the perceptual loss, whose weights would
have to be downloaded).
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .artifacts import CheckpointOut, Force, Size, detect_kind, new_output, parse_size
from .errors import InputError, NetworkError, OutputError, UsageError, VtoptError
from .networks import Network, build_network
from .progress import track

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["HELD_OUT_SEEDS", "Stage", "train_network"]

HELD_OUT_SEEDS = range(0, 1_000_000)
"""Seeds below one million are never trained on; comparisons draw theirs from here."""

COARSE_SIZE = Size(128, 96)
FINE_SIZE = Size(256, 192)
WARM_UP_STEPS = 100
EMA_DECAY = 0.998
GRADIENT_WEIGHT = 0.5
PLACE_WEIGHT = 2.0
ATTENTION_WEIGHT = 0.2
MAX_GRADIENT_NORM = 1.0
SAVE_EVERY = 200


@dataclass(frozen=True)
class Stage:
    """So many steps at one picture size."""

    size: Size
    steps: int
    batch_size: int


@dataclass
class _Training:
    """All that a checkpoint must hold to go on from where it stopped."""

    network: Network
    optimizer: torch.optim.Optimizer
    ema: dict[str, Tensor]
    step: int = 0
    loss: float = math.nan
    saved: int | None = None
    """The step of the checkpoint on disk."""


def train_network(
    output: CheckpointOut,
    *,
    network: Annotated[str, typer.Option(help="A network with forward_levels, such as sdafn_plus_tiny.")] = (
        "sdafn_plus_tiny"
    ),
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
    workers: Annotated[int, typer.Option(min=0, help="Processes that draw pairs.")] = 2,
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
    import torch

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
    device = "cuda" if torch.cuda.is_available() else "cpu"
    training = _start(network, learning_rate, seed, device)
    _check_settings(training.network, stages, seed)
    if output.exists() and not force:
        _resume(training, output, settings, total)
    with new_output(output, "checkpoint", force=True):
        pass  # an output that cannot be written is refused now, not after the first steps

    batches = _draw_batches(stages, training.step, seed, workers)
    try:
        for batch in track(
            batches, "train", total=total, start=training.step, shows=lambda: f"loss {training.loss:.4f}"
        ):
            with _hold_interruption():
                _set_rate(training.optimizer, learning_rate, training.step, total)
                training.loss = _take_step(training, {key: value.to(device) for key, value in batch.items()})
                training.step += 1
            _require_finite(training, {}, output)
            if training.step % SAVE_EVERY == 0:
                _save(training, output, network, settings)
    except KeyboardInterrupt:
        # After any other error the weights may be half a step ahead, and what is on disk is better.
        if training.step:
            _save(training, output, network, settings)
        raise
    _save(training, output, network, settings)
    return output


@contextmanager
def _hold_interruption() -> Iterator[None]:
    """Put Ctrl-C off until the step is done: half a step, saved and resumed, would be taken twice."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if heard:
        before(heard[0], None)


def _start(network: str, learning_rate: float, seed: int, device: str) -> _Training:
    import torch

    torch.manual_seed(seed)
    built = build_network(network)
    if not hasattr(built.module, "forward_levels"):
        raise NetworkError(f"network '{network}' has no forward_levels method, which training needs")
    if (fed := [spec.fed_by for spec in built.inputs]) != ["person", "clothes"]:
        raise NetworkError(f"network '{network}' takes {', '.join(fed)}; training feeds person and clothes")
    built.module.to(device).train()
    optimizer = torch.optim.AdamW(built.module.parameters(), lr=learning_rate, weight_decay=1e-4)
    ema = {name: tensor.detach().clone() for name, tensor in built.module.state_dict().items()}
    return _Training(built, optimizer, ema)


def _check_settings(network: Network, stages: tuple[Stage, ...], seed: int) -> None:
    if seed < 0:
        raise UsageError(f"--seed must be 0 or more, not {seed}")
    for size in (stage.size for stage in stages if stage.steps):
        if size.height * 3 != size.width * 4 or any(side % network.multiple_of for side in size):
            raise UsageError(
                f"size {size}: drawn pairs are 4:3 and the network needs height and width divisible by "
                f"{network.multiple_of}; take {4 * network.multiple_of}x{3 * network.multiple_of} or a multiple"
            )


def _resume(training: _Training, output: Path, settings: Mapping[str, Any], total: int) -> None:
    """Take up the training that `output` holds."""
    from .checkpoint import read_checkpoint

    if detect_kind(output) != "checkpoint":
        raise OutputError(f"{output}: is no checkpoint; choose another name or pass --force")
    before = read_checkpoint(output)
    if not isinstance(before, Mapping) or before.get("settings") != settings:
        raise OutputError(
            f"{output}: holds a training with other settings; choose another name, or pass --force to start anew"
        )
    if before.get("step", 0) >= total:
        raise OutputError(f"{output}: this training is finished; pass --force to start anew")
    try:
        training.network.module.load_state_dict(before["state_dict"])
        training.optimizer.load_state_dict(before["optimizer"])
        for name, tensor in before["ema"].items():
            training.ema[name].copy_(tensor)
        training.step, training.loss = before["step"], before["loss"]
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise InputError(f"{output}: cannot be resumed ({reason}); pass --force to start anew") from error
    training.saved = training.step


def _save(training: _Training, output: Path, network: str, settings: Mapping[str, Any]) -> None:
    """Write the checkpoint, unless the very step is on disk already."""
    import torch

    if training.saved == training.step:
        return
    state = training.network.module.state_dict()
    _require_finite(training, state, output)
    checkpoint = {
        "network": network,
        "config": dict(training.network.config),
        "state_dict": state,
        "ema": training.ema,
        "optimizer": training.optimizer.state_dict(),
        "step": training.step,
        "loss": training.loss,
        "settings": dict(settings),
    }
    with new_output(output, "checkpoint", force=True) as temporary:
        try:
            torch.save(checkpoint, temporary)
        except RuntimeError as error:  # torch's own words for a full disk are about positions in the file
            raise OutputError(f"{output}: cannot be written, is the disk full? ({error})") from error
    training.saved = training.step


def _require_finite(training: _Training, state: Mapping[str, Tensor], output: Path) -> None:
    """Raise VtoptError when the loss of a step, or a weight in `state`, is NaN or infinite."""
    bad = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if bad or (training.step and not math.isfinite(training.loss)):
        kept = f"{output} keeps step {training.saved}" if training.saved else "no checkpoint was written"
        raise VtoptError(
            f"{output}: the training diverged at step {training.step}: "
            f"{f'NaN or infinite values in {bad[0]}' if bad else f'the loss is {training.loss}'}; {kept}. "
            "Train anew with a lower --learning-rate"
        )


def _set_rate(optimizer: torch.optim.Optimizer, highest: float, step: int, total: int) -> None:
    warm = min(1.0, (step + 1) / WARM_UP_STEPS)
    cosine = 0.5 * (1 + math.cos(math.pi * step / total))
    for group in optimizer.param_groups:
        group["lr"] = highest * warm * max(cosine, 0.01)


def _take_step(training: _Training, batch: Mapping[str, Tensor]) -> float:
    import torch

    module = training.network.module
    loss = _measure_loss(module, batch)
    training.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), MAX_GRADIENT_NORM)
    training.optimizer.step()
    decay = min(EMA_DECAY, (training.step + 1) / (training.step + 10))
    for name, tensor in module.state_dict().items():
        average = training.ema[name]
        if tensor.is_floating_point():
            average.lerp_(tensor.detach(), 1 - decay)
        else:
            average.copy_(tensor)
    return float(loss.detach())


def _measure_loss(module: Any, batch: Mapping[str, Tensor]) -> Tensor:
    from torch.nn import functional as F

    levels = module.forward_levels(batch["person"], batch["clothes"])
    total = batch["person"].new_zeros(())
    for index, (picture, flows) in enumerate(levels):
        size = picture.shape[2:]
        truth = F.interpolate(batch["truth"], size=size, mode="area")
        picture_loss = (picture - truth).abs().mean() + GRADIENT_WEIGHT * _compare_gradients(picture, truth)
        place = F.interpolate(batch["place"], size=size, mode="area")
        total = total + (index + 1) / len(levels) * (picture_loss + _compare_places(flows, place))
    return total


def _compare_gradients(a: Tensor, b: Tensor) -> Tensor:
    rows = (a.diff(dim=2) - b.diff(dim=2)).abs().mean()
    columns = (a.diff(dim=3) - b.diff(dim=3)).abs().mean()
    return rows + columns


def _compare_places(flows: Any, place: Tensor) -> Tensor:
    """Compare where the garment branch looks with where the garment's pixels came from.

    `place` (N, 3, H, W) holds x and y in [-1, 1], both times the garment's mask, and that mask.
    """
    heads = flows.cross_attention.shape[1]
    attention = flows.cross_attention.unsqueeze(2)
    grids = flows.cross_grids.reshape(-1, heads, 2, *flows.cross_grids.shape[2:])
    weight = attention.sum(1)
    mask = place[:, 2:]
    looked_at = (grids * attention).sum(1) / weight.clamp(min=1e-3)
    came_from = place[:, :2] / mask.clamp(min=1e-3)
    distance = ((looked_at - came_from).abs() * mask).sum() / mask.sum().clamp(min=1) / 2
    return PLACE_WEIGHT * distance + ATTENTION_WEIGHT * (weight - mask).abs().mean()


def _draw_batches(stages: tuple[Stage, ...], start: int, seed: int, workers: int) -> Iterator[dict[str, Tensor]]:
    """Yield the batches from step `start` on; the pairs of a step depend on nothing but seed and step."""
    from torch.utils.data import DataLoader

    from .data.drawn_dataset import DrawnDataset

    first = HELD_OUT_SEEDS.stop + seed * 10_000_000
    for stage in stages:
        skipped = min(start, stage.steps)
        start -= skipped
        drawn = first + skipped * stage.batch_size
        first += stage.steps * stage.batch_size
        if skipped < stage.steps:
            dataset = DrawnDataset(range(drawn, first), stage.size)
            yield from DataLoader(
                dataset, stage.batch_size, num_workers=workers, prefetch_factor=4 if workers else None
            )

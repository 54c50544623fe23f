"""The one loop that every training runs: steps, averages, checkpoints, validation, and Ctrl-C between steps."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import VtoptError
from ..progress import track
from .state import Training, explain_divergence, hold_average

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from torch import Tensor, nn

__all__ = ["Plan", "run_training"]

WARM_UP_STEPS = 100
EMA_DECAY = 0.998
MAX_GRADIENT_NORM = 1.0
LEAST_RATE = 0.01

Save = Callable[[Training], None]
Validate = Callable[["nn.Module"], float]


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train, and how often to look up."""

    total: int
    learning_rate: float
    """The highest; it warms up, then falls as a cosine to a hundredth."""
    seed: int = 0
    warm_up: int = WARM_UP_STEPS
    save_every: int = 200
    validate_every: int = 0
    """0: never."""
    patience: int = 0
    """Stop after so many validations without a better score; 0: never."""


def run_training(
    training: Training,
    measure_loss: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    plan: Plan,
    accelerator: Accelerator,
    *,
    label: str,
    save: Save,
    path: Path | None,
    validate: Validate | None = None,
) -> None:
    """Train until the plan's last step, from `training.step` on.

    `measure_loss` contains the trained module and returns the loss of a batch, a scalar; it is what Accelerate
    wraps, so gradients are averaged over processes and autocast covers it. `batches` begin at `training.step`, each
    the share of this process. `validate` scores the averaged weights before the first step, every
    `plan.validate_every` steps and after the last; the best stay in `training.best`. The main process alone saves,
    validates and shows progress.

    Random numbers of a step depend on seed and step alone. Ctrl-C is put off to the end of a step, which is then
    saved. Raises VtoptError when a loss is NaN or infinite; `path` is the checkpoint that the message names.
    """
    wrapped, training.optimizer = _prepare(accelerator, measure_loss, training.optimizer)
    if validate and _lacks_score(training, plan):
        _validate(training, validate, accelerator)
    shown = track if accelerator.is_main_process else _track_nothing
    steps = shown(
        _until_idle(batches, training, plan),
        label,
        total=plan.total,
        start=training.step,
        shows=lambda: _show(training),
    )
    try:
        for batch in steps:
            with _hold_interruption():
                set_rate(training.optimizer, plan, training.step)
                _seed_step(plan.seed, training.step, accelerator.process_index)
                moved = {name: tensor.to(accelerator.device) for name, tensor in batch.items()}
                training.loss = take_step(training, wrapped, moved, accelerator)
                training.step += 1
            if not math.isfinite(training.loss):
                raise VtoptError(explain_divergence(training, f"the loss is {training.loss}", path))
            if validate and _lacks_score(training, plan):
                _validate(training, validate, accelerator)
            if accelerator.is_main_process and _is_due(training.step, plan.save_every):
                save(training)
    except KeyboardInterrupt:
        # After any other error the weights may be half a step ahead, and what is on disk is better.
        if training.step and accelerator.is_main_process:
            save(training)
        raise
    if accelerator.is_main_process:
        save(training)


def _prepare(
    accelerator: Accelerator, measure_loss: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[nn.Module, torch.optim.Optimizer]:
    wrapped, prepared = accelerator.prepare(measure_loss, optimizer)
    return wrapped, prepared


def _until_idle(batches: Iterable[Any], training: Training, plan: Plan) -> Iterator[Any]:
    """Yield the batches until validation has not become better for as long as the plan's patience."""
    for batch in batches:
        if plan.patience and training.scores and training.idle_validations >= plan.patience:
            return
        yield batch


def _is_due(step: int, every: int) -> bool:
    return bool(every) and step % every == 0


def _lacks_score(training: Training, plan: Plan) -> bool:
    """Tell whether a validation is due: at either end, and every so often; one that Ctrl-C ended is due again."""
    if training.scores and training.scores[-1][0] == training.step:
        return False
    return training.step in (0, plan.total) or _is_due(training.step, plan.validate_every)


def _show(training: Training) -> str:
    loss = f"loss {training.loss:.4f}"
    return f"{loss}, PSNR {training.scores[-1][1]:.2f} dB" if training.scores else loss


def _track_nothing(items: Iterable[Any], *_: Any, **__: Any) -> Iterator[Any]:
    yield from items


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


def set_rate(optimizer: torch.optim.Optimizer, plan: Plan, step: int) -> None:
    """Set the learning rate of a step, from 0: warm-up, then a cosine."""
    warm = min(1.0, (step + 1) / plan.warm_up)
    cosine = 0.5 * (1 + math.cos(math.pi * step / plan.total))
    for group in optimizer.param_groups:
        group["lr"] = plan.learning_rate * warm * max(cosine, LEAST_RATE)


def _seed_step(seed: int, step: int, process: int) -> None:
    """Seed what is random inside a network, such as dropout: a resumed step is the step it would have been."""
    import numpy as np
    import torch

    torch.manual_seed(int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)[0] >> 1))


def take_step(
    training: Training, measure_loss: nn.Module, batch: Mapping[str, Tensor], accelerator: Accelerator
) -> float:
    """Take one step down the batch's loss, move the average along, and return the loss over all processes."""
    loss = measure_loss(batch)
    training.optimizer.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(training.module.parameters(), MAX_GRADIENT_NORM)
    training.optimizer.step()
    _average(training)
    whole: Any = loss.detach()
    if accelerator.num_processes > 1:
        whole = accelerator.reduce(whole, "mean")
    return float(whole)


def _average(training: Training) -> None:
    decay = min(EMA_DECAY, (training.step + 1) / (training.step + 10))
    for name, tensor in training.module.state_dict().items():
        average = training.ema[name]
        if tensor.is_floating_point():
            average.lerp_(tensor.detach(), 1 - decay)
        else:
            average.copy_(tensor)


def _validate(training: Training, validate: Validate, accelerator: Accelerator) -> None:
    """Score the averaged weights and keep them if they are the best; every process hears the score."""
    score = [math.nan]
    if accelerator.is_main_process:
        with hold_average(training) as module:
            score = [validate(module)]
    if accelerator.num_processes > 1:
        from accelerate.utils import broadcast_object_list

        broadcast_object_list(score)
    if not training.scores or score[0] > training.best_score[1]:
        training.best = {name: tensor.clone() for name, tensor in training.ema.items()}
    training.scores.append((training.step, score[0]))

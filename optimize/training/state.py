"""What a training is at one step: all that a checkpoint must hold to go on from there, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..artifacts import detect_kind, new_output
from ..errors import InputError, OutputError, VtoptError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["Training", "hold_average", "read_training", "restore_training", "start_training", "write_training"]

WEIGHT_DECAY = 1e-4


@dataclass
class Training:
    """A network in training. `ema` averages its whole state_dict over the steps."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    ema: dict[str, Tensor]
    step: int = 0
    loss: float = math.nan
    saved: int | None = None
    """The step of the checkpoint on disk."""
    scores: list[tuple[int, float]] = field(default_factory=list)
    """Step and score of every validation; higher is better."""
    best: dict[str, Tensor] | None = None
    """The averaged weights with the highest score, the first of equals."""
    versions: list[dict[str, str]] = field(default_factory=list)
    """Those of packages that took steps, one after the other."""

    @property
    def best_score(self) -> tuple[int, float]:
        return max(self.scores, key=lambda entry: entry[1])

    @property
    def idle_validations(self) -> int:
        """How many validations there were after the best one."""
        return len(self.scores) - 1 - self.scores.index(self.best_score)


def start_training(module: nn.Module, learning_rate: float, device: Any) -> Training:
    """Return a training at step 0: AdamW, and the weights as their own average. Moves `module` to `device`.

    Parameters of a submodule that has an `adam_epsilon` learn with that, the others with AdamW's own.
    """
    import torch

    module.to(device).train()
    optimizer = torch.optim.AdamW(_group_parameters(module), lr=learning_rate, weight_decay=WEIGHT_DECAY)
    return Training(module, optimizer, {name: tensor.detach().clone() for name, tensor in module.state_dict().items()})


def _group_parameters(module: nn.Module) -> list[dict[str, Any]]:
    """Return the groups of the optimizer: one for each epsilon, with parameters in the order of the module."""
    parts = dict(module.named_modules())
    groups: dict[float | None, list[Tensor]] = {}
    for name, parameter in module.named_parameters():
        epsilon = getattr(parts[name.rpartition(".")[0]], "adam_epsilon", None)
        groups.setdefault(epsilon, []).append(parameter)
    return [{"params": each} | ({} if epsilon is None else {"eps": epsilon}) for epsilon, each in groups.items()]


@contextmanager
def hold_average(training: Training) -> Iterator[nn.Module]:
    """Give the network with its averaged weights, in evaluation mode; afterwards it is as it was."""
    module = training.module
    modes = [(part, part.training) for part in module.modules()]
    raw = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
    try:
        _copy_state(training.ema, module)
        yield module.eval()
    finally:
        _copy_state(raw, module)
        for part, mode in modes:
            part.training = mode


def _copy_state(state: Mapping[str, Tensor], module: nn.Module) -> None:
    for name, tensor in module.state_dict().items():
        tensor.detach().copy_(state[name])


def read_training(path: Path, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the checkpoint of a training with these settings holds.

    Raises OutputError where it is another one's, InputError where it cannot be read.
    """
    from ..checkpoint import read_checkpoint

    if detect_kind(path) != "checkpoint":
        raise OutputError(f"{path}: is no checkpoint; choose another name or pass --force")
    before = read_checkpoint(path)
    if not isinstance(before, Mapping) or before.get("settings") != settings:
        raise OutputError(
            f"{path}: holds a training with other settings; choose another name, or pass --force to start anew"
        )
    return before


def restore_training(training: Training, before: Mapping[str, Any], path: Path, scaler: Any = None) -> None:
    """Take up the training that was read from `path`; raises InputError when it does not fit."""
    try:
        training.module.load_state_dict(before["state_dict"])
        training.optimizer.load_state_dict(before["optimizer"])
        for name, tensor in training.ema.items():
            tensor.copy_(before["ema"][name])
        training.step, training.loss = int(before["step"]), float(before["loss"])
        training.scores = [(int(step), float(score)) for step, score in before.get("scores", ())]
        if "best" in before:
            training.best = {name: before["best"][name].to(tensor.device) for name, tensor in training.ema.items()}
        training.versions = [dict(versions) for versions in before.get("versions", ())]
        if scaler and "scaler" in before:
            scaler.load_state_dict(before["scaler"])
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise InputError(f"{path}: cannot be resumed ({reason}); delete it to start anew") from error
    training.saved = training.step


def write_training(
    training: Training,
    path: Path,
    *,
    network: str,
    config: Mapping[str, Any],
    settings: Mapping[str, Any],
    scaler: Any = None,
) -> None:
    """Write the checkpoint, unless the very step is on disk already; a crash leaves the one before.

    Raises VtoptError when a weight is NaN or infinite, OutputError when the disk is full.
    """
    import torch

    if training.saved == training.step:
        return
    state = training.module.state_dict()
    if bad := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
        raise VtoptError(explain_divergence(training, f"NaN or infinite values in {bad[0]}", path))
    checkpoint = {
        "network": network,
        "config": dict(config),
        "state_dict": state,
        "ema": training.ema,
        "optimizer": training.optimizer.state_dict(),
        "step": training.step,
        "loss": training.loss,
        "settings": dict(settings),
    }
    if training.best is not None:
        checkpoint |= {"scores": training.scores, "best": training.best}
    if training.versions:
        checkpoint["versions"] = training.versions
    if scaler:
        checkpoint["scaler"] = scaler.state_dict()
    with new_output(path, "checkpoint", force=True) as temporary:
        try:
            torch.save(checkpoint, temporary)
        except RuntimeError as error:  # torch's own words for a full disk are about positions in the file
            raise OutputError(f"{path}: cannot be written, is the disk full? ({error})") from error
    training.saved = training.step


def explain_divergence(training: Training, what: str, path: Path | None) -> str:
    """Return the sentence for a training that must stop."""
    kept = f"{path} keeps step {training.saved}" if training.saved else "no checkpoint was written"
    where = f"{path}: " if path else ""
    return (
        f"{where}the training diverged at step {training.step}: {what}; {kept}. Train anew with a lower --learning-rate"
    )

"""Train a student from what its progress file holds to its best weights: what recovery and distillation share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..artifacts import Size, hash_artifact
from ..data.pairs import hash_pairs
from ..errors import UsageError, VtoptError
from ..provenance import list_versions, to_plain
from .batches import Stage, check_drawn_size, load_batches
from .devices import Precision
from .loop import WARM_UP_STEPS, Plan, run_training
from .state import Training, read_training, restore_training, start_training, write_training

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ..networks import Network

__all__ = [
    "FIRST_VALIDATION_SEED",
    "Request",
    "check_stages",
    "describe_request",
    "identify_training",
    "train_student",
]

SAVE_EVERY = 100
FIRST_VALIDATION_SEED = 900_000
"""Drawn pairs from this seed on are validated on; training draws from one million on."""
COUNTING = ("vtopt", "torch", "accelerate")
"""Packages whose versions may change numbers."""
SELDOM = {"workers"}
"""Settings that change no number."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What every training of a student asks for; fields are settings of its command."""

    steps: int
    size: Size | None = None
    """Default: the student's."""
    coarse_size: Size | None = None
    batch_size: int
    learning_rate: float = 1e-3
    seed: int = 0
    pairs: Path | None = None
    """A folder in VITON layout; default drawn pairs."""
    validate_every: int = 100
    validation_count: int = 24
    patience: int = 0
    precision: Precision = "auto"
    workers: int = 2


def check_stages(networks: Sequence[Network], stages: Sequence[Stage], pairs: Path | None) -> None:
    """Raise UsageError for a size that a network cannot take, or that pairs, where none are given, cannot be drawn at.

    The last stage comes first: its size is the one that the user names.
    """
    for stage, network in product(reversed(stages), networks):
        if not stage.steps:
            continue
        if pairs is None:
            check_drawn_size(network, stage.size)
        elif any(side % network.multiple_of for side in stage.size):
            raise UsageError(
                f"size {stage.size}: network '{network.name}' needs height and width divisible by "
                f"{network.multiple_of}; choose another --size"
            )


def describe_request(request: Request, stages: Sequence[Stage], **files: Path | None) -> dict[str, Any]:
    """Return the settings of a training, with the sizes of its stages, as its record has them.

    Files and folders have their names; `files` are those of weights that it began with, which get their sha256 too.
    """
    settings = {name: value for name, value in asdict(request).items() if name not in SELDOM}
    coarse, last = stages
    settings |= {"size": last.size, "coarse_size": coarse.size if coarse.steps else None, **files}
    named = {key: value.name if isinstance(value, Path) else to_plain(value) for key, value in settings.items()}
    return named | {f"{key}_sha256": path and hash_artifact(path) for key, path in files.items()}


def identify_training(
    request: Request, stages: Sequence[Stage], student: Network, teacher: Network | None
) -> dict[str, Any]:
    """Return all that the outcome depends on, as plain data: settings, the pairs and the weights by their hashes."""
    return {
        **describe_request(request, stages),
        "pairs": hash_pairs(request.pairs, stages[-1].size) if request.pairs else None,
        "student": _hash_weights(student.module),
        "teacher": _hash_weights(teacher.module) if teacher else None,
    }


def _hash_weights(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def train_student(
    student: Network,
    measure_loss: nn.Module,
    open_samples: Callable[[Size], Any],
    stages: Sequence[Stage],
    open_validation: Callable[[], Callable[[nn.Module], float]],
    request: Request,
    accelerator: Accelerator,
    progress_file: Path | None,
    settings: Mapping[str, Any],
    *,
    notices: list[str],
    force: bool,
    label: str,
) -> dict[str, Any]:
    """Train the student's module in place, and return figures.

    It ends on the CPU, in evaluation mode, with the averaged weights that were best in validation (without
    validation the last ones), which may be those it came with. `measure_loss`, `open_samples` and `settings` are
    those of `run_training`, `load_batches` and `write_training`; `open_validation` returns the first's `validate`,
    and is called where there is validation. Figures are `steps`, and with validation `psnr_before`, `psnr_after` (the
    last averaged weights), `psnr_best` (dB) and `best_step`.

    While it works it keeps its state in `progress_file` (.pth), every 100 steps and on Ctrl-C. Where that holds the
    same training, it goes on from there and ends, on one CPU with the same number of threads, with the same weights
    bit for bit. The file stays: the caller deletes it when it has written what was made. With `force` a file of
    another training is overwritten. `notices` gets a line where other versions took it up than began it.

    Raises OutputError when `progress_file` holds something else, VtoptError when the training diverges.
    """
    total = sum(stage.steps for stage in stages)
    plan = Plan(
        total=total,
        learning_rate=request.learning_rate,
        seed=request.seed,
        warm_up=max(min(WARM_UP_STEPS, total // 10), 1),
        save_every=SAVE_EVERY,
        validate_every=request.validate_every,
        patience=request.patience,
    )
    training = start_training(student.module, plan.learning_rate, accelerator.device)
    if progress_file and progress_file.exists():
        _resume(training, progress_file, settings, accelerator.scaler, force=force)
    versions = _list_versions(request)
    if training.step < total and versions not in training.versions[-1:]:
        training.versions.append(versions)
    accelerator.wait_for_everyone()  # nobody overwrites what another is still reading

    def save(training: Training) -> None:
        if progress_file:
            config, scaler = student.config, accelerator.scaler
            write_training(
                training, progress_file, network=student.name, config=config, settings=settings, scaler=scaler
            )

    run_training(
        training,
        measure_loss,
        load_batches(
            open_samples,
            stages,
            training.step,
            workers=request.workers,
            process=accelerator.process_index,
            processes=accelerator.num_processes,
        ),
        plan,
        accelerator,
        label=label,
        save=save,
        path=progress_file,
        validate=open_validation() if request.validate_every else None,
    )
    student.module.load_state_dict(training.ema if training.best is None else training.best)
    student.module.cpu().eval()
    notices += _compare_versions(training.versions)
    return _report(training)


def _resume(training: Training, path: Path, settings: Mapping[str, Any], scaler: Any, *, force: bool) -> None:
    try:
        before = read_training(path, settings)
    except VtoptError:
        if not force:
            raise
        return
    restore_training(training, before, path, scaler)


def _list_versions(request: Request) -> dict[str, str]:
    """Return the versions that a training's numbers depend on, that of drawn pairs by a hash of what draws them."""
    installed = list_versions()
    versions = {name: installed[name] for name in COUNTING if name in installed}
    return versions if request.pairs else versions | {"drawing": hash_pairs(None, count=1)[:8]}


def _compare_versions(versions: Sequence[Mapping[str, str]]) -> list[str]:
    """Return a line of the versions that a training was made with one after the other, where they differ."""
    seen = {name: list(dict.fromkeys(each.get(name, "none") for each in versions)) for name in chain(*versions)}
    changed = [f"{name} {', then '.join(found)}" for name, found in seen.items() if len(found) > 1]
    if not changed:
        return []
    return [f"taken up with other versions ({'; '.join(changed)}): trained in one go it would have other bytes"]


def _report(training: Training) -> dict[str, Any]:
    figures: dict[str, Any] = {"steps": training.step}
    if training.scores:
        best_step, best = training.best_score
        figures |= {
            "psnr_before": round(training.scores[0][1], 3),
            "psnr_after": round(training.scores[-1][1], 3),
            "psnr_best": round(best, 3),
            "best_step": best_step,
        }
    return figures

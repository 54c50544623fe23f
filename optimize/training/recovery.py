"""Bring the pictures of a changed network back: it learns from the network it was made from, and from truth."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..artifacts import Size
from ..data.pairs import hash_pairs, open_pairs
from ..errors import NetworkError, UsageError
from .batches import LEAST_DRAWN, PairDataset, Stage, check_drawn_size, feed_batch, load_batches, open_drawn
from .devices import Precision, check_shares, start_accelerator
from .loop import WARM_UP_STEPS, Plan, run_training
from .losses import list_levels, measure_teacher_loss, measure_truth_loss
from .state import Training, read_training, restore_training, start_training, write_training
from .targets import make_targets
from .validation import make_validation

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

    from ..data.pairs import Pair
    from ..networks import Network

__all__ = ["Recovery", "recover"]

SAVE_EVERY = 100
FIRST_VALIDATION_SEED = 900_000
"""Drawn pairs from this seed on are validated on; training draws from one million on."""
SELDOM = {"workers"}
"""Settings that change no number."""


@dataclass(frozen=True)
class Recovery:
    """How a network is brought back; fields are the settings of `vtopt finetune`."""

    steps: int
    coarse_steps: int = 0
    size: Size | None = None
    """Default: the student's."""
    coarse_size: Size | None = None
    """Default: half of `size`."""
    batch_size: int = 4
    """Pairs a step; twice as many in the coarse stage."""
    learning_rate: float = 1e-3
    seed: int = 0
    pairs: Path | None = None
    """A folder in VITON layout; default drawn pairs."""
    truth: bool = True
    """Also learn from the truth, where the pairs have it."""
    validate_every: int = 100
    validation_count: int = 24
    patience: int = 0
    precision: Precision = "auto"
    workers: int = 2


class _RecoveryLoss(nn.Module):
    """The loss of a batch. The teacher is no submodule: it is neither trained, nor wrapped, nor saved."""

    def __init__(self, student: Network, teacher: Network | None, *, truth: bool) -> None:
        super().__init__()
        self.module = student.module
        self.networks = (student, teacher)
        self.truth = truth

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        student, teacher = self.networks
        made = make_targets(student, feed_batch(student.inputs, batch))
        loss = next(iter(batch.values())).new_zeros(())
        if teacher is not None:
            with torch.no_grad():
                wanted = make_targets(teacher, feed_batch(teacher.inputs, batch))
            loss = loss + measure_teacher_loss(made, wanted)
        if self.truth:
            loss = loss + measure_truth_loss(list_levels(made), batch)
        return loss


@dataclass(frozen=True)
class _Pairs:
    """The pairs of a recovery: samples to learn from at a size, and those it is validated on."""

    open_samples: Callable[[Size], Any]
    validation: Sequence[Pair]
    truth: bool


def recover(
    student: Network,
    teacher: Network | None,
    request: Recovery,
    progress_file: Path | None = None,
    *,
    force: bool = False,
    label: str = "finetune",
) -> dict[str, Any]:
    """Train the student's module in place until its pictures are as the teacher's and the truth's.

    It ends on the CPU, in evaluation mode, with the averaged weights that were best in validation (without
    validation the last ones), which may be those it came with. Returns figures: `psnr_before`, `psnr_after` (the
    last averaged weights), `psnr_best` (dB, median over the validation pairs), `against` (truth or teacher),
    `best_step`, `steps` and `validation_pairs`.

    While it works it keeps its state in `progress_file` (.pth), every 100 steps and on Ctrl-C. Where that holds the
    same recovery of the same weights on the same pairs, it goes on from there and ends, on one CPU with the same
    number of threads, with the same weights bit for bit. The file stays: the caller deletes it when it has written
    what was made. With `force` a file with other settings is overwritten.

    Raises NetworkError when student and teacher take different inputs, UsageError when there is nothing to learn
    from or a size does not fit, OutputError when `progress_file` holds something else, VtoptError when the training
    diverges.
    """
    stages = _plan_stages(student, request)
    _check_teacher(student, teacher)
    pairs = _open_pairs(student, teacher, request, stages)
    accelerator = start_accelerator(request.precision)
    check_shares((stage.batch_size for stage in stages if stage.steps), accelerator.num_processes)
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
    settings = _describe(student, teacher, request, stages[-1].size) if progress_file else {}
    if teacher:
        teacher.module.to(accelerator.device).eval()
    training = start_training(student.module, plan.learning_rate, accelerator.device)
    if progress_file and progress_file.exists():
        _resume(training, progress_file, settings, accelerator, force=force)
    accelerator.wait_for_everyone()  # nobody overwrites what another is still reading

    def save(training: Training) -> None:
        if progress_file:
            config, scaler = student.config, accelerator.scaler
            write_training(
                training, progress_file, network=student.name, config=config, settings=settings, scaler=scaler
            )

    validate = make_validation(student, teacher, pairs.validation, accelerator.device, truth=pairs.truth)
    run_training(
        training,
        _RecoveryLoss(student, teacher, truth=pairs.truth),
        load_batches(
            pairs.open_samples,
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
        validate=validate if request.validate_every else None,
    )
    student.module.load_state_dict(training.ema if training.best is None else training.best)
    student.module.cpu().eval()
    return _report(training, pairs)


def _plan_stages(student: Network, request: Recovery) -> tuple[Stage, Stage]:
    size = request.size or Size(*student.size)
    multiple = student.multiple_of
    stages = (
        Stage(request.coarse_size or _halve(size, multiple), request.coarse_steps, request.batch_size),
        Stage(size, request.steps, max(request.batch_size // 2, 1)),
    )
    for stage in reversed(stages):  # the size that the user names comes first
        if not stage.steps:
            continue
        if request.pairs is None:
            check_drawn_size(student, stage.size)
        elif any(side % multiple for side in stage.size):
            raise UsageError(f"size {stage.size}: the network needs height and width divisible by {multiple}")
    return stages


def _halve(size: Size, multiple: int) -> Size:
    """Return about half of a size, which the network can take, 4:3 where the size is: 32x24 at least."""
    if size.height * 3 != size.width * 4:
        return Size(*(max(side // 2 // multiple, 1) * multiple for side in size))
    unit = max(size.height // (8 * multiple), -(-LEAST_DRAWN.height // (4 * multiple))) * multiple
    return Size(4 * unit, 3 * unit)


def _check_teacher(student: Network, teacher: Network | None) -> None:
    if teacher is None:
        return
    ours, theirs = ([(spec.fed_by, spec.channels) for spec in network.inputs] for network in (student, teacher))
    if ours != theirs:
        said = (", ".join(f"{name} with {channels} channels" for name, channels in each) for each in (ours, theirs))
        raise NetworkError("the student takes {}, the teacher {}; choose a teacher with the same inputs".format(*said))


def _open_pairs(student: Network, teacher: Network | None, request: Recovery, stages: Sequence[Stage]) -> _Pairs:
    size = stages[-1].size if stages[-1].steps else stages[0].size
    if teacher is None and not request.truth:
        raise UsageError("without a teacher and without truth there is nothing to learn from; pass --teacher ORIGINAL")
    if request.pairs is None:
        validation = open_pairs(None, size, request.validation_count, seed=FIRST_VALIDATION_SEED)
        named = {name for spec in student.inputs for name in spec.fed_by.split("+")}
        open_samples = partial(open_drawn, request.seed, outfits=bool(named & {"pose", "agnostic"}))
        return _Pairs(open_samples, validation, request.truth)
    known = open_pairs(request.pairs, size)
    truth = request.truth and known[0].truth is not None
    if teacher is None and not truth:
        raise UsageError(
            f"{request.pairs}: has no truth pictures to learn from; pass --teacher ORIGINAL, or add them in test_truth"
        )
    held_out = max(len(known) // 10, 1) if len(known) > 1 else 0

    def open_shuffled(size: Size) -> PairDataset:
        pairs = open_pairs(request.pairs, size)
        return PairDataset(pairs[: len(pairs) - held_out], request.seed, truth=truth)

    return _Pairs(open_shuffled, known[-max(held_out, 1) :][: request.validation_count], truth)


def _describe(student: Network, teacher: Network | None, request: Recovery, size: Size) -> dict[str, Any]:
    """Return all that the outcome depends on, as plain data."""
    wanted = {name: value for name, value in asdict(request).items() if name not in SELDOM}
    return {
        **{name: str(value) if isinstance(value, Path | tuple) else value for name, value in wanted.items()},
        "pairs": hash_pairs(request.pairs, size) if request.pairs else None,
        "student": _hash_weights(student.module),
        "teacher": _hash_weights(teacher.module) if teacher else None,
    }


def _hash_weights(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _resume(
    training: Training, path: Path, settings: Mapping[str, Any], accelerator: Accelerator, *, force: bool
) -> None:
    from ..errors import VtoptError

    try:
        before = read_training(path, settings)
    except VtoptError:
        if not force:
            raise
        return
    restore_training(training, before, path, accelerator.scaler)


def _report(training: Training, pairs: _Pairs) -> dict[str, Any]:
    figures: dict[str, Any] = {"steps": training.step}
    if training.scores:
        best_step, best = training.best_score
        figures |= {
            "psnr_before": round(training.scores[0][1], 3),
            "psnr_after": round(training.scores[-1][1], 3),
            "psnr_best": round(best, 3),
            "best_step": best_step,
            "against": "truth" if pairs.truth else "teacher",
            "validation_pairs": len(pairs.validation),
        }
    return figures

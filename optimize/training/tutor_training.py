"""Train a student by a teacher that tutors it: lessons, validation, and a state that can be taken up again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..artifacts import Size, hash_artifact
from ..data.outfit_dataset import OutfitDataset, OutfitPairs
from ..data.pairs import hash_pairs, open_pairs
from ..errors import InputError, NetworkError, UsageError, VtoptError
from .batches import HELD_OUT_SEEDS, SEEDS_PER_TRAINING, Stage, check_drawn_size, load_batches
from .devices import Precision, check_shares, start_accelerator
from .loop import WARM_UP_STEPS, Plan, run_training
from .perceptual import make_perceptual_loss
from .recovery import FIRST_VALIDATION_SEED
from .state import Training, read_training, restore_training, start_training, write_training
from .tutor import check_teacher, copy_teacher, set_exercise, tutor_pairs
from .tutor_loss import TutorLoss
from .validation import make_validation

if TYPE_CHECKING:
    from ..data.pairs import Pair
    from ..networks import Network

__all__ = ["Distillation", "distill"]

SAVE_EVERY = 100
LEAST_PAIRS = 3
"""Two to learn from, each with the other's garment, and one to validate on."""
STUDENT_PICTURES = {"person", "clothes", "edge"}


@dataclass(frozen=True)
class Distillation:
    """How a student is taught; fields are the settings of `vtopt distill`."""

    steps: int
    """Of the lesson variety; with `copy_teacher` the steps of all lessons are spent alike."""
    foreground_steps: int = 0
    plain_steps: int = 0
    size: Size | None = None
    """Default: the student's."""
    coarse_size: Size | None = None
    """That of the lessons foreground and plain. Default: `size`."""
    batch_size: int = 8
    learning_rate: float = 1e-3
    look_weight: float = 0.5
    smooth_weight: float = 0.01
    vgg: Path | None = None
    copy_teacher: bool = False
    seed: int = 0
    pairs: Path | None = None
    """A folder in VITON layout; default drawn outfits."""
    validate_every: int = 100
    validation_count: int = 24
    patience: int = 0
    precision: Precision = "auto"
    workers: int = 2

    @property
    def total(self) -> int:
        return self.foreground_steps + self.plain_steps + self.steps

    @property
    def lesson_ends(self) -> tuple[int, int]:
        """The samples at which the lessons foreground and plain end."""
        if self.copy_teacher:
            return 0, 0
        return self.foreground_steps * self.batch_size, (self.foreground_steps + self.plain_steps) * self.batch_size


def distill(
    student: Network,
    teacher: Network,
    request: Distillation,
    weights: Mapping[str, str],
    progress_file: Path,
    *,
    force: bool = False,
) -> dict[str, Any]:
    """Train the student's module in place; the teacher stays as it is.

    It ends on the CPU, in evaluation mode, with the averaged weights that were best in validation (without
    validation the last ones). Returns figures: `steps`, and with validation `psnr_before`, `psnr_after` (the last
    averaged weights), `psnr_best` (dB, median over the validation pairs), `best_step` and `validation_pairs`. Drawn
    validation pairs show the person in another garment, drawn; those of a folder as the teacher makes it, because a
    folder's persons may wear the very garment.

    `progress_file` (.pth) keeps the state, every 100 steps and on Ctrl-C, with hashes of what the training depends
    on: the settings, the pairs, and `weights`, whatever identifies those of teacher and student. Where it holds the
    same distillation, that goes on, and ends on one CPU with the same weights bit for bit. With `force` another
    one's file is overwritten.

    Raises InputError for pairs that lack what the teacher needs, NetworkError for a student that is fed with more
    than person, clothes and edge, UsageError for a size that does not fit, OutputError when `progress_file` holds
    something else, VtoptError when the training diverges.
    """
    stages = _plan_stages(student, teacher, request)
    size = stages[-1].size
    open_samples, validation = _open_pairs(teacher, request, size)
    accelerator = start_accelerator(request.precision)
    check_shares([request.batch_size], accelerator.num_processes)
    settings = _describe(request, size, weights)
    teacher.module.to(accelerator.device).eval().requires_grad_(False)
    training = start_training(student.module, request.learning_rate, accelerator.device)
    if progress_file.exists():
        _resume(training, progress_file, settings, accelerator.scaler, force=force)
    accelerator.wait_for_everyone()  # nobody overwrites what another is still reading
    if request.pairs:
        validation = tutor_pairs(teacher, validation, accelerator.device)
    validate = make_validation(student, None, validation, accelerator.device, truth=True)

    def save(training: Training) -> None:
        config, scaler = student.config, accelerator.scaler
        write_training(training, progress_file, network=student.name, config=config, settings=settings, scaler=scaler)

    run_training(
        training,
        TutorLoss(
            student,
            teacher,
            copy_teacher if request.copy_teacher else set_exercise,
            make_perceptual_loss(request.vgg, accelerator.device),
            look_weight=request.look_weight,
            smooth_weight=request.smooth_weight,
        ),
        load_batches(
            open_samples,
            stages,
            training.step,
            workers=request.workers,
            process=accelerator.process_index,
            processes=accelerator.num_processes,
        ),
        Plan(
            total=request.total,
            learning_rate=request.learning_rate,
            seed=request.seed,
            warm_up=max(min(WARM_UP_STEPS, request.total // 10), 1),
            save_every=SAVE_EVERY,
            validate_every=request.validate_every,
            patience=request.patience,
        ),
        accelerator,
        label="distill",
        save=save,
        path=progress_file,
        validate=validate if request.validate_every else None,
    )
    student.module.load_state_dict(training.ema if training.best is None else training.best)
    student.module.cpu().eval()
    return _report(training, len(validation))


def _plan_stages(student: Network, teacher: Network, request: Distillation) -> tuple[Stage, Stage]:
    size = request.size or Size(*student.size)
    stages = (
        Stage(request.coarse_size or size, request.foreground_steps + request.plain_steps, request.batch_size),
        Stage(size, request.steps, request.batch_size),
    )
    if request.total < 1:
        raise UsageError("there is nothing to do in 0 steps; pass --steps")
    if unknown := {spec.fed_by for spec in student.inputs} - STUDENT_PICTURES:
        raise NetworkError(
            f"the student '{student.name}' takes {', '.join(sorted(unknown))}, which no exercise has; choose a network "
            "of person and clothes, such as sdafn_plus_tiny"
        )
    for network, stage in product((student, teacher), stages):
        if request.pairs is None:
            check_drawn_size(network, stage.size)
        elif any(side % network.multiple_of for side in stage.size):
            raise UsageError(f"size {stage.size}: '{network.name}' needs sides divisible by {network.multiple_of}")
    return stages


def _open_pairs(
    teacher: Network, request: Distillation, size: Size
) -> tuple[Callable[[Size], OutfitDataset | OutfitPairs], Sequence[Pair]]:
    """Return what opens the samples at a size, and the pairs to validate on, which are not among them."""
    if request.pairs is None:
        first = HELD_OUT_SEEDS.stop + request.seed * SEEDS_PER_TRAINING
        opened = partial(OutfitDataset, range(first, first + SEEDS_PER_TRAINING), ends=request.lesson_ends)
        return opened, open_pairs(None, size, request.validation_count, seed=FIRST_VALIDATION_SEED)
    folder = request.pairs
    known = open_pairs(folder, size)
    if len(known) < LEAST_PAIRS:
        raise InputError(f"{folder}: has {len(known)} pairs, distillation needs {LEAST_PAIRS} or more")
    check_teacher(teacher, known[0], str(folder))
    held_out = max(len(known) // 10, 1)

    def open_samples(size: Size) -> OutfitPairs:
        return OutfitPairs(open_pairs(folder, size)[: len(known) - held_out], request.seed, request.lesson_ends)

    return open_samples, known[-held_out:][: request.validation_count]


def _describe(request: Distillation, size: Size, weights: Mapping[str, str]) -> dict[str, Any]:
    """Return all that the outcome depends on, as plain data."""
    plain = {name: value for name, value in asdict(request).items() if name != "workers"}
    return plain | {
        "size": str(size),
        "coarse_size": str(request.coarse_size),
        "pairs": hash_pairs(request.pairs, size) if request.pairs else None,
        "vgg": hash_artifact(request.vgg) if request.vgg else None,
        "weights": dict(weights),
    }


def _resume(training: Training, path: Path, settings: Mapping[str, Any], scaler: Any, *, force: bool) -> None:
    try:
        before = read_training(path, settings)
    except VtoptError:
        if not force:
            raise
        return
    restore_training(training, before, path, scaler)


def _report(training: Training, validation_count: int) -> dict[str, Any]:
    if not training.scores:
        return {"steps": training.step}
    best_step, best = training.best_score
    return {
        "steps": training.step,
        "psnr_before": training.scores[0][1],
        "psnr_after": training.scores[-1][1],
        "psnr_best": best,
        "best_step": best_step,
        "validation_pairs": validation_count,
    }

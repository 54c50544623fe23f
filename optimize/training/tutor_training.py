"""Train a student by a teacher that tutors it: its lessons, and what it is validated on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..artifacts import Size, hash_artifact
from ..data.outfit_dataset import OutfitDataset, OutfitPairs
from ..data.pairs import open_pairs
from ..errors import InputError, NetworkError, UsageError
from .batches import HELD_OUT_SEEDS, SEEDS_PER_TRAINING, Stage, hold_out
from .devices import check_shares, start_accelerator
from .perceptual import make_perceptual_loss
from .student import FIRST_VALIDATION_SEED, Request, check_stages, identify_training, train_student
from .tutor import check_teacher, copy_teacher, set_exercise, tutor_pairs
from .tutor_loss import TutorLoss
from .validation import make_validation

if TYPE_CHECKING:
    from torch import nn

    from ..data.pairs import Pair
    from ..networks import Network

__all__ = ["Distillation", "distill", "plan_lessons"]

LEAST_PAIRS = 3
"""Two to learn from, each with the other's garment, and one to validate on."""
STUDENT_PICTURES = {"person", "clothes", "edge"}


@dataclass(frozen=True, kw_only=True)
class Distillation(Request):
    """How a student is taught; fields are the settings of `vtopt distill`.

    `steps` are those of the lesson variety; with `copy_teacher` the steps of all lessons are spent alike. The lessons
    foreground and plain have `coarse_size`, or `size` where it says nothing else.
    """

    foreground_steps: int = 0
    plain_steps: int = 0
    batch_size: int = 8
    look_weight: float = 0.5
    smooth_weight: float = 0.01
    vgg: Path | None = None
    copy_teacher: bool = False

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
    progress_file: Path,
    *,
    notices: list[str] | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Train the student's module in place; the teacher stays as it is.

    It ends as `train_student` says, and goes on from `progress_file` as that does. Returns its figures and, with
    validation, `validation_pairs`; the PSNR is the mean over them. Drawn ones show the person in another garment,
    drawn; those of a folder as the teacher makes it, because a folder's persons may wear the very garment. `notices`
    gets a line of what the user should know.

    Raises InputError for pairs that lack what the teacher needs, NetworkError for a student that is fed with more
    than person, clothes and edge, UsageError for a size that does not fit, OutputError when `progress_file` holds
    something else, VtoptError when the training diverges.
    """
    stages = plan_lessons(student, teacher, request)
    size = stages[-1].size
    open_samples, validation = _open_pairs(teacher, request, size)
    accelerator = start_accelerator(request.precision)
    check_shares([request.batch_size], accelerator.num_processes)
    settings = identify_training(request, stages, student, teacher)
    settings["vgg"] = hash_artifact(request.vgg) if request.vgg else None
    teacher.module.to(accelerator.device).eval().requires_grad_(False)

    def open_validation() -> Callable[[nn.Module], float]:
        pairs = tutor_pairs(teacher, validation, accelerator.device) if request.pairs else validation
        return make_validation(student, None, pairs, accelerator.device, truth=True)

    figures = train_student(
        student,
        TutorLoss(
            student,
            teacher,
            copy_teacher if request.copy_teacher else set_exercise,
            make_perceptual_loss(request.vgg, accelerator.device),
            look_weight=request.look_weight,
            smooth_weight=request.smooth_weight,
        ),
        open_samples,
        stages,
        open_validation,
        request,
        accelerator,
        progress_file,
        settings,
        notices=[] if notices is None else notices,
        force=force,
        label="distill",
    )
    return figures | ({"validation_pairs": len(validation)} if request.validate_every else {})


def plan_lessons(student: Network, teacher: Network, request: Distillation) -> tuple[Stage, Stage]:
    """Return the stage of the first two lessons and that of the last; raises as `distill` does for what cannot be."""
    if request.total < 1:
        raise UsageError("there is nothing to do in 0 steps; pass --steps")
    if unknown := {spec.fed_by for spec in student.inputs} - STUDENT_PICTURES:
        raise NetworkError(
            f"the student '{student.name}' takes {', '.join(sorted(unknown))}, which no exercise has; choose a network "
            "of person and clothes, such as sdafn_plus_tiny"
        )
    size = request.size or Size(*student.size)
    stages = (
        Stage(request.coarse_size or size, request.foreground_steps + request.plain_steps, request.batch_size),
        Stage(size, request.steps, request.batch_size),
    )
    check_stages((student, teacher), stages, request.pairs)
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

    def open_samples(size: Size) -> OutfitPairs:
        return OutfitPairs(hold_out(open_pairs(folder, size))[0], request.seed, request.lesson_ends)

    return open_samples, hold_out(known)[1][: request.validation_count]

"""Bring the pictures of a changed network back: it learns from the network it was made from, and from truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..artifacts import Size
from ..data.pairs import open_pairs
from ..data.pictures import find_picture, stands_in
from ..errors import NetworkError, UsageError
from .batches import LEAST_DRAWN, PairDataset, Stage, feed_batch, hold_out, list_pictures, open_drawn
from .devices import check_shares, start_accelerator
from .losses import list_levels, measure_teacher_loss, measure_truth_loss
from .student import FIRST_VALIDATION_SEED, Request, check_stages, identify_training, train_student
from .targets import make_targets
from .validation import make_validation

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.pairs import Pair
    from ..networks import Network

__all__ = ["Recovery", "plan_stages", "recover"]


@dataclass(frozen=True, kw_only=True)
class Recovery(Request):
    """How a network is brought back; fields are the settings of `vtopt finetune`.

    The coarse stage has twice the batch, and half of `size` where `coarse_size` says nothing else.
    """

    coarse_steps: int = 0
    batch_size: int = 4
    truth: bool = True
    """Also learn from the truth, where the pairs have it."""
    target: str | None = None
    """The CPU that the student was prepared for, where it is trained for int8."""


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
    notices: tuple[str, ...] = ()


def recover(
    student: Network,
    teacher: Network | None,
    request: Recovery,
    progress_file: Path | None = None,
    *,
    origin: Network | None = None,
    notices: list[str] | None = None,
    force: bool = False,
    label: str = "finetune",
) -> dict[str, Any]:
    """Train the student's module in place until its pictures are as the teacher's and the truth's.

    It ends as `train_student` says, and goes on from `progress_file` as that does. Returns its figures and, with
    validation, `against` (what the PSNR is to: truth or teacher) and `validation_pairs`; it is the mean over them.
    `notices` gets a line of what the user should know. A student that was prepared for int8 has an `origin`, the
    network it is a copy of: by its weights a progress file is known, as calibration may end in other last bits.

    Pictures that pairs have not are made of their others, as for any engine. A network `without_truth` learns from its
    teacher alone.

    Raises NetworkError when student and teacher take different inputs, InputError for pairs that lack a picture which
    feeds them, UsageError when there is nothing to learn from or a size does not fit, OutputError when `progress_file`
    holds something else, VtoptError when the training diverges.
    """
    notices = [] if notices is None else notices
    stages = plan_stages(student, teacher, request)
    size = stages[-1].size if stages[-1].steps or not stages[0].steps else stages[0].size
    pairs = _open_pairs(student, teacher, request, size)
    accelerator = start_accelerator(request.precision)
    check_shares((stage.batch_size for stage in stages if stage.steps), accelerator.num_processes)
    settings = identify_training(request, stages, origin or student, teacher) if progress_file else {}
    notices += pairs.notices
    if teacher:
        teacher.module.to(accelerator.device).eval()
    figures = train_student(
        student,
        _RecoveryLoss(student, teacher, truth=pairs.truth),
        pairs.open_samples,
        stages,
        lambda: make_validation(student, teacher, pairs.validation, accelerator.device, truth=pairs.truth),
        request,
        accelerator,
        progress_file,
        settings,
        notices=notices,
        force=force,
        label=label,
    )
    if request.validate_every:
        figures |= {"against": "truth" if pairs.truth else "teacher", "validation_pairs": len(pairs.validation)}
    return figures


def plan_stages(student: Network, teacher: Network | None, request: Recovery) -> tuple[Stage, Stage]:
    """Return the coarse stage and the last; raises NetworkError and UsageError as `recover` does for what cannot be."""
    if teacher is None and student.without_truth:
        raise UsageError(
            f"network '{student.name}' {student.without_truth}, so the truth of pairs is not what its pictures "
            "are to be; pass --teacher ORIGINAL"
        )
    networks = (student, teacher) if teacher else (student,)
    size = request.size or Size(*student.size)
    coarse_size = request.coarse_size or _halve(size, math.lcm(*(network.multiple_of for network in networks)))
    stages = (
        Stage(coarse_size, request.coarse_steps, 2 * request.batch_size),
        Stage(size, request.steps, request.batch_size),
    )
    check_stages(networks, stages, request.pairs)
    _check_teacher(student, teacher)
    if teacher is None and not request.truth:
        raise UsageError("without a teacher and without truth there is nothing to learn from; pass --teacher ORIGINAL")
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


def _open_pairs(student: Network, teacher: Network | None, request: Recovery, size: Size) -> _Pairs:
    pictures = list_pictures(student)
    notices = []
    if without := request.truth and student.without_truth:
        notices.append(f"'{student.name}' {without}: it learned from the teacher, and not from the truth")
    if request.pairs is None:
        validation = open_pairs(None, size, request.validation_count, seed=FIRST_VALIDATION_SEED)
        open_samples = partial(open_drawn, request.seed, pictures=pictures)
        return _Pairs(open_samples, validation, request.truth and not without, tuple(notices))
    known = open_pairs(request.pairs, size)
    first = known[0]
    truth = request.truth and not without and first.truth is not None
    if teacher is None and not truth:
        raise UsageError(
            f"{request.pairs}: has no truth pictures to learn from; pass --teacher ORIGINAL, or add them in test_truth"
        )

    def open_shuffled(size: Size) -> PairDataset:
        return PairDataset(hold_out(open_pairs(request.pairs, size))[0], request.seed, pictures, truth=truth)

    for name in pictures:
        find_picture(first, name)
    if missing := [name for name in pictures if stands_in(first, name)]:
        lacking = f"{request.pairs} has no {' and no '.join(missing)}"
        notices.append(f"{lacking}: the person stood in; {first.advise(missing)}")
    if len(known) == 1 and request.validate_every:
        notices.append(
            f"{request.pairs} has one pair, which was learned from and validated on; give more to know what it is worth"
        )
    return _Pairs(open_shuffled, hold_out(known)[1][: request.validation_count], truth, tuple(notices))

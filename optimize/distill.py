"""Distil a teacher into a student that needs only person and clothes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .artifacts import (
    Force,
    PairsFolder,
    Reads,
    Size,
    SizeOption,
    WeightsIn,
    WeightsOut,
    parse_size,
)
from .networks import build_network
from .training.options import Patience, PrecisionOption, ValidateEvery, ValidationCount, Workers
from .weights import load_network

__all__ = ["distill_network"]

DEFAULT_STUDENT = "sdafn_plus_tiny"

_STUDENT_HELP = "Weights to begin with. Default: random ones, by --seed."
_NETWORK_HELP = f"The student's network. Default: what --student says, or {DEFAULT_STUDENT}."
_TEACHER_HELP = "The teacher's network. Default: what its file says."
_VGG_HELP = "torchvision's VGG19 weights, for the perceptual loss. Default: Laplacian pyramids in its place."
_COPY_HELP = "Only copy the teacher's pictures, with no tutoring: what the scheme is to be compared with."


def distill_network(
    source: WeightsIn,
    output: WeightsOut,
    *,
    student: Annotated[Path | None, Reads(("weights", "checkpoint")), typer.Option(help=_STUDENT_HELP)] = None,
    network: Annotated[str | None, typer.Option(help=_NETWORK_HELP)] = None,
    teacher_network: Annotated[str | None, typer.Option(help=_TEACHER_HELP)] = None,
    pairs: PairsFolder = None,
    foreground_steps: Annotated[
        int, typer.Option(min=0, help="First steps: the other garment is plain, the garment's region is judged.")
    ] = 500,
    plain_steps: Annotated[
        int, typer.Option(min=0, help="Next steps: the other garment is plain, all of the picture is judged.")
    ] = 500,
    steps: Annotated[int, typer.Option(min=0, help="Last steps: other garments of every kind.")] = 2000,
    size: SizeOption = None,
    coarse_size: Annotated[
        Size | None,
        typer.Option(parser=parse_size, metavar="HxW", help="That of the first two lessons. Default: --size."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pairs a step.")] = 8,
    learning_rate: Annotated[
        float, typer.Option(min=0.0, help="Highest rate; warms up, then falls as a cosine.")
    ] = 1e-3,
    vgg: Annotated[Path | None, typer.Option(help=_VGG_HELP)] = None,
    look_weight: Annotated[float, typer.Option(min=0.0, help="Weight of the perceptual loss.")] = 0.5,
    smooth_weight: Annotated[float, typer.Option(min=0.0, help="Weight of the flows' smoothness.")] = 0.01,
    copy_teacher: Annotated[bool, typer.Option("--copy-teacher", help=_COPY_HELP)] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seeds random weights, the pairs and their order.")] = 0,
    validate_every: ValidateEvery = 100,
    validation_count: ValidationCount = 24,
    patience: Patience = 0,
    precision: PrecisionOption = "auto",
    workers: Workers = 2,
    force: Force = False,
) -> Path:
    """Teach a student of person and clothes what a teacher of pose and agnostic person can do.

    The teacher puts another garment on a person; the student is given that picture and the garment of the real one,
    and learns to make the real picture. So the teacher's faults are in what it is given, not in what it learns. The
    lessons are three: with plain garments judged only where the person wears the garment, with plain garments, and
    with every garment. The losses are L1, perceptual, second-order smoothness of the flows, and where the teacher's
    flows lead.

    The source is the teacher, and stays as it is. A folder of pairs needs test_truth/ (the person in the clothes; for
    photographs of persons in their own garment that is test_img/ again), and what the teacher takes: test_pose/ and
    test_agnostic/ for sdafn. A folder's last tenth is held out for validation. Without --pairs, outfits are drawn.

    The state is kept beside the output, in OUTPUT.training.pth, until the output is written; the same command goes on
    after an interruption, and on one CPU ends with the same bytes.

    Raises OutputError when the output exists, or the file beside it holds another training; InputError for pairs
    that lack what the teacher needs; NetworkError for a student that takes more than person and clothes; UsageError
    for a size that does not fit; VtoptError when the training diverges.
    """
    import torch

    from .training.outcome import refuse_output, write_outcome
    from .training.student import describe_request
    from .training.tutor_training import Distillation, distill, plan_lessons

    progress_file = output.with_suffix(".training.pth")
    refuse_output(output, progress_file, force=force)
    teacher = load_network(source, teacher_network)
    torch.manual_seed(seed)
    pupil = load_network(student, network) if student else build_network(network or DEFAULT_STUDENT)
    request = Distillation(
        steps=steps,
        foreground_steps=foreground_steps,
        plain_steps=plain_steps,
        size=size,
        coarse_size=coarse_size,
        batch_size=batch_size,
        learning_rate=learning_rate,
        look_weight=look_weight,
        smooth_weight=smooth_weight,
        vgg=vgg,
        copy_teacher=copy_teacher,
        seed=seed,
        pairs=pairs,
        validate_every=validate_every,
        validation_count=validation_count,
        patience=patience,
        precision=precision,
        workers=workers,
    )
    settings = describe_request(request, plan_lessons(pupil, teacher, request), student=student, vgg=vgg)
    settings |= {"network": pupil.name, "teacher_network": teacher.name}
    notices: list[str] = []
    figures = distill(pupil, teacher, request, progress_file, notices=notices, force=force)
    write_outcome(
        pupil, output, source, "distill", progress_file, settings=settings, figures=figures, notices=tuple(notices)
    )
    return output

"""Fine-tune weights: bring the pictures of a changed network back, or make it ready for int8."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .artifacts import (
    Force,
    NetworkName,
    PairsFolder,
    Reads,
    Size,
    SizeOption,
    WeightsIn,
    WeightsOut,
    parse_size,
)
from .cpu_target import TargetName, resolve_target
from .errors import UsageError
from .training.options import Patience, PrecisionOption, ValidateEvery, ValidationCount, Workers
from .weights import load_network

__all__ = ["finetune_network"]

LEARNING_RATE = 1e-3
INT8_LEARNING_RATE = 5e-4
"""Half of that which brings pruned networks back: these weights are good already."""

UNTRAINED_NOTICE = "not trained for int8, as in the network they are no Conv2d, or not the same in every call: {}"

_TEACHER_HELP = "The original network, whose pictures, flows and features are the targets."


def finetune_network(
    source: WeightsIn,
    output: WeightsOut,
    *,
    teacher: Annotated[Path | None, Reads(("weights", "checkpoint")), typer.Option(help=_TEACHER_HELP)] = None,
    pairs: PairsFolder = None,
    truth: Annotated[bool, typer.Option(help="Also learn from the truth pictures, where pairs have them.")] = True,
    int8: Annotated[
        bool, typer.Option("--int8", help="Train for int8: round as the int8 file will, and learn its ranges.")
    ] = False,
    target: Annotated[
        TargetName | None, typer.Option(help="With --int8: the CPU it is for. Default: auto, this machine's.")
    ] = None,
    steps: Annotated[int, typer.Option(min=0, help="Steps at the full size.")] = 900,
    size: SizeOption = None,
    coarse_steps: Annotated[
        int, typer.Option(min=0, help="Steps before them at a smaller size, for networks that have lost much.")
    ] = 0,
    coarse_size: Annotated[
        Size | None, typer.Option(parser=parse_size, metavar="HxW", help="That size. Default: half of --size.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pairs a step; twice as many in coarse steps.")] = 4,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help=f"Highest rate; warms up, then falls as a cosine. Default: {LEARNING_RATE:g}; "
            f"{INT8_LEARNING_RATE:g} with --int8.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seeds the pairs, their order and mirroring.")] = 0,
    validate_every: ValidateEvery = 100,
    validation_count: ValidationCount = 24,
    patience: Patience = 0,
    precision: PrecisionOption = "auto",
    workers: Workers = 2,
    network: NetworkName = None,
    force: Force = False,
) -> Path:
    """Train weights until their pictures are as the original's; the same command goes on after an interruption.

    The network learns what the teacher makes of each pair (picture, picture of each level, flows, features) and,
    where pairs have it, the truth. A folder's last tenth is held out: the mean PSNR there is shown as it goes, and
    the averaged weights (EMA) that were best are written. Without --pairs, pairs are drawn.

    With --int8 every convolution but those that make a warp's grid rounds as an int8 file does, and the ranges are
    learned along (LSQ, Esser et al. 2020), from those that post-training int8 finds. The output is float weights with
    their ranges: vtopt quantize --int8, of it or of what vtopt export makes of it, writes these.

    The state is kept in a file beside the output, OUTPUT.training.pth, until the output is written. On one CPU the
    same settings give the same bytes, interrupted or not. `accelerate launch` runs it on several devices: they
    share each batch.

    Raises OutputError when the output exists, or the file beside it holds another training; NetworkError when
    teacher and student take different inputs; UsageError when there is nothing to learn from, or for a size the
    network cannot take; VtoptError when the training diverges.
    """
    from .training.int8 import open_calibration, prepare_int8_training, split_int8_state
    from .training.outcome import refuse_output, write_outcome
    from .training.recovery import Recovery, plan_stages, recover
    from .training.student import describe_request

    check_settings(int8=int8, target=target)
    progress_file = output.with_suffix(".training.pth")
    refuse_output(output, progress_file, force=force)
    origin = load_network(source, network)
    original = load_network(teacher, network) if teacher else None
    cpu, said = resolve_target(target or "auto") if int8 else (None, ())
    request = Recovery(
        steps=steps,
        coarse_steps=coarse_steps,
        size=size,
        coarse_size=coarse_size,
        batch_size=batch_size,
        learning_rate=(INT8_LEARNING_RATE if int8 else LEARNING_RATE) if learning_rate is None else learning_rate,
        seed=seed,
        pairs=pairs,
        truth=truth,
        validate_every=validate_every,
        validation_count=validation_count,
        patience=patience,
        precision=precision,
        workers=workers,
        target=cpu and cpu.name,
    )
    stages = plan_stages(origin, original, request)
    settings = describe_request(request, stages, teacher=teacher) | {"int8": int8, "network": network}
    student, notices, counts = origin, list(said), {}
    if cpu:
        calibration = open_calibration(origin, pairs, stages[-1].size, notices)
        student, untrained = prepare_int8_training(origin, calibration, cpu)
        counts = {"convolutions_untrained": len(untrained)}
        if untrained:
            notices.append(UNTRAINED_NOTICE.format(", ".join(untrained)))
    figures = recover(student, original, request, progress_file, origin=origin, notices=notices, force=force)
    weights, entries = None, None
    if cpu:
        weights, ranges = split_int8_state(student.module.state_dict(), cpu)
        entries = ranges.to_entries()
        counts = {"convolutions_trained": len(ranges.modules), **counts}
    write_outcome(
        student,
        output,
        source,
        "finetune",
        progress_file,
        settings=settings,
        figures=figures | counts,
        notices=tuple(notices),
        weights=weights,
        entries=entries,
    )
    return output


def check_settings(*, int8: bool = False, target: TargetName | None = None, **_: Any) -> None:
    """Raise UsageError for settings that contradict each other; the recipe checker asks before any work."""
    if target and not int8:
        raise UsageError("finetune: --target goes with --int8")

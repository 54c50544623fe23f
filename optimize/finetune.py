"""Fine-tune weights: bring the pictures of a changed network back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .artifacts import Force, NetworkName, PairsFolder, Reads, Size, SizeOption, WeightsIn, WeightsOut, new_output
from .artifacts import parse_size as _parse_size
from .provenance import HISTORY, add_record, read_metadata
from .training.devices import Precision
from .weights import describe_network, load_network, save_weights

__all__ = ["finetune_network"]

_TEACHER_HELP = "The original network, whose pictures, flows and features are the targets."


def finetune_network(
    source: WeightsIn,
    output: WeightsOut,
    *,
    teacher: Annotated[Path | None, Reads(("weights", "checkpoint")), typer.Option(help=_TEACHER_HELP)] = None,
    pairs: PairsFolder = None,
    truth: Annotated[bool, typer.Option(help="Also learn from the truth pictures, where pairs have them.")] = True,
    coarse_steps: Annotated[int, typer.Option(min=0, help="Steps of the first stage.")] = 1000,
    coarse_size: Annotated[
        Size | None, typer.Option(parser=_parse_size, metavar="HxW", help="Its size. Default: half of --size.")
    ] = None,
    steps: Annotated[int, typer.Option(min=0, help="Steps of the second stage.")] = 500,
    size: SizeOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pairs a step in the first stage; half in the second.")] = 8,
    learning_rate: Annotated[
        float, typer.Option(min=0.0, help="Highest rate; warms up, then falls as a cosine.")
    ] = 1e-3,
    seed: Annotated[int, typer.Option(min=0, help="Seeds the pairs, their order and mirroring.")] = 0,
    validate_every: Annotated[int, typer.Option(min=0, help="Steps from one validation to the next; 0: none.")] = 100,
    validation_count: Annotated[int, typer.Option(min=1, help="How many pairs to validate on.")] = 24,
    patience: Annotated[int, typer.Option(min=0, help="Stop after so many validations no better; 0: never.")] = 0,
    precision: Annotated[
        Precision, typer.Option(help="auto: fp32 on a CPU; on a GPU bf16, or fp16 where it has none.")
    ] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that load or draw pairs.")] = 2,
    network: NetworkName = None,
    force: Force = False,
) -> Path:
    """Train weights until their pictures are as the original's; the same command goes on after an interruption.

    The network learns what the teacher makes of each pair (picture, picture of each level, flows, features) and,
    where pairs have it, the truth. A folder's last tenth is held out: the median PSNR there is shown as it goes, and
    the averaged weights (EMA) that were best are written. Without --pairs, pairs are drawn.

    The state is kept in a file beside the output, OUTPUT.training.pth, until the output is written. On one CPU the
    same settings give the same bytes, interrupted or not. `accelerate launch` runs it on several devices: they
    share each batch.

    Raises OutputError when the output exists, or the file beside it holds another training; NetworkError when
    teacher and student take different inputs; UsageError when there is nothing to learn from, or for a size the
    network cannot take; VtoptError when the training diverges.
    """
    from accelerate import PartialState

    from .training.recovery import Recovery, recover

    with new_output(output, "weights", force=force):
        pass  # an output that cannot be written is refused now, not after the training
    student = load_network(source, network)
    original = load_network(teacher, network) if teacher else None
    request = Recovery(
        steps=steps,
        coarse_steps=coarse_steps,
        size=size,
        coarse_size=coarse_size,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        pairs=pairs,
        truth=truth,
        validate_every=validate_every,
        validation_count=validation_count,
        patience=patience,
        precision=precision,
        workers=workers,
    )
    progress_file = output.with_suffix(".training.pth")
    figures = recover(student, original, request, progress_file, force=force)
    processes = PartialState()
    if processes.is_main_process:
        settings = {
            "teacher": teacher and teacher.name,
            "pairs": pairs and pairs.name,
            "truth": truth,
            "coarse_steps": coarse_steps,
            "coarse_size": coarse_size,
            "steps": steps,
            "size": size,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "seed": seed,
            "validate_every": validate_every,
            "validation_count": validation_count,
            "patience": patience,
            "precision": precision,
            "network": network,
        }
        said = read_metadata(source)
        header = {HISTORY: said[HISTORY]} if HISTORY in said else {}
        header = add_record(
            header | describe_network(student.name, student), "finetune", source, settings=settings, figures=figures
        )
        with new_output(output, "weights", force=True) as draft:
            save_weights(student.module.state_dict(), draft, header)
        progress_file.unlink(missing_ok=True)
    processes.wait_for_everyone()
    return output

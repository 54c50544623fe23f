"""The commands of the studies: bench rewrites, forms, correlation and int8."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...optimize.artifacts import Force, Json, PairCount, PairsFolder, SizeOption
from ...optimize.durations import parse_duration

__all__ = ["correlation_command", "forms_command", "int8_command", "rewrites_command"]

CsvOutput = Annotated[
    Path | None, typer.Option("--output", "-o", help="Also write a CSV, anew after each group.", show_default=False)
]


def rewrites_command(
    *,
    network: Annotated[
        list[str] | None,
        typer.Option(
            help="Repeatable. Default: sdafn_plus_3, sdafn and, trained, sdafn_plus_tiny.", show_default=False
        ),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Repeatable. Default: 1, 2 and 4, as far as there are cores.", show_default=False),
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Repeatable. Default: 1 and 4.", show_default=False)
    ] = None,
    size: SizeOption = None,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs of each model.")] = 20,
    output: CsvOutput = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Measure what each graph rewrite gains over a plain export: time, memory and operations.

    Every network runs in torch, plainly exported (TorchScript and onnxsim), slimmed by onnxslim, exported by
    vtopt, with each rewrite alone and with all, on onnxruntime and OpenVINO. Weights are random, from a fixed
    seed. All models of a group run in turns.
    """
    from ..reports.files import check_report
    from .rewrite_report import format_rewrites, write_csv
    from .rewrite_times import DEFAULT_BATCHES, DEFAULT_NETWORKS, measure_rewrites

    if output:
        check_report(output, force=force)
    groups = []
    asked = {"threads": threads, "batches": batch or DEFAULT_BATCHES, "size": size, "runs": runs}
    for group in measure_rewrites(network or DEFAULT_NETWORKS, **asked):
        groups.append(group)
        if output and group.rows:
            write_csv(groups, output)
    print(format_rewrites(groups, as_json=json), end="")


def forms_command(
    *,
    case: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHANNELSxHEIGHTxWIDTH", help="Repeatable. Default: the warps of SDAFN_plus.", show_default=False
        ),
    ] = None,
    heads: Annotated[int, typer.Option(min=2, help="Places that each pixel looks at.")] = 6,
    threads: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Repeatable. Default: 1, 2 and 4, as far as there are cores.", show_default=False),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs of each form.")] = 20,
    output: CsvOutput = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Measure one warp with K heads by itself in every form, and show which a rewrite chooses.

    The forms run in turns, on onnxruntime and OpenVINO, for each case and thread count. Each must make what the
    plain form makes.
    """
    from ..reports.files import check_report
    from .form_report import format_forms, write_forms_csv
    from .warp_forms import DEFAULT_CASES, NOTE, measure_forms

    if output:
        check_report(output, force=force)
    groups = []
    for group in measure_forms(case or DEFAULT_CASES, heads=heads, threads=threads, runs=runs):
        groups.append(group)
        if output:
            write_forms_csv(groups, output)
    print(format_forms(groups, NOTE, as_json=json), end="")


def correlation_command(
    *,
    case: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHANNELSxHEIGHTxWIDTH",
            help="Repeatable. Default: PF-AFN's five levels for pictures of 256x192.",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Repeatable. Default: 1 and 2, as far as there are cores.", show_default=False),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs of each form.")] = 20,
    count: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Repeatable. Instead, print the seconds that N runs take, plainly and as shipped.",
            show_default=False,
        ),
    ] = None,
    output: CsvOutput = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Measure one correlation layer by itself in every form, and show which PF-AFN computes in.

    The forms run in turns, on onnxruntime and OpenVINO, for each case and thread count. Each must make what the
    plain form makes. With --count all N runs are made, in turns block by block; an interruption keeps what was
    measured, and the row says how many runs that is.
    """
    from ..reports.files import check_report
    from . import correlation_counts, correlation_forms
    from .form_report import format_forms, write_forms_csv
    from .single_correlation import DEFAULT_CASES

    if output:
        check_report(output, force=force)
    cases, groups = case or DEFAULT_CASES, []
    if count:
        note = correlation_counts.NOTE
        measured = correlation_counts.measure_counts(count, cases, threads=threads)
    else:
        note = correlation_forms.NOTE
        measured = correlation_forms.measure_correlation(cases, threads=threads, runs=runs)
    try:
        for group in measured:
            groups.append(group)
            if output:
                write_forms_csv(groups, output)
    finally:
        if any(group.rows for group in groups):
            print(format_forms(groups, note, as_json=json), end="")


def int8_command(
    *,
    network: Annotated[
        list[str] | None,
        typer.Option(help="Repeatable. Default: sdafn_plus_tiny, trained, and sdafn_plus_3.", show_default=False),
    ] = None,
    pairs: PairsFolder = None,
    pair_count: PairCount = 20,
    min_psnr: Annotated[float, typer.Option(help="The budget of the form that has one, in dB.")] = 45.0,
    time_budget: Annotated[
        float | None,
        typer.Option(parser=parse_duration, metavar="DURATION", help="How long each search for it may take."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads a runtime may use.")] = 2,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs of each model.")] = 10,
    output: CsvOutput = None,
    sheets: Annotated[
        Path | None, typer.Option(help="Also write the worst pair of each form as pictures to this folder.")
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Compare int8 as vtopt makes it with what other tools make: size, time, pictures and flow.

    Others quantise the plain export: all of it per tensor by onnxruntime, and with the defaults of onnxruntime,
    NNCF and neural-compressor. Forms on one runtime run in turns. Pairs that are compared are not calibrated on.
    """
    from ..reports.files import check_report
    from .int8_figures import DEFAULT_NETWORKS, measure_int8
    from .int8_report import check_sheets, format_int8, write_int8_csv, write_sheets

    if output:
        check_report(output, force=force)
    if sheets:
        check_sheets(sheets, force=force)
    groups = []
    asked = {"pairs": pairs, "pair_count": pair_count, "min_psnr": min_psnr, "time_budget": time_budget}
    for group in measure_int8(network or DEFAULT_NETWORKS, **asked, threads=threads, runs=runs):
        groups.append(group)
        if output and group.rows:
            write_int8_csv(groups, output)
        if sheets:
            write_sheets(group, sheets)
    print(format_int8(groups, as_json=json), end="")

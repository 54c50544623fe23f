"""The command bench report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...optimize.artifacts import Force, NetworkName, PairsFolder, Threads
from ...optimize.console import print_notice
from ...optimize.errors import UsageError
from ...optimize.networks import NETWORKS
from ..options import BaselineName, ReportFormatOption, TableOption, name_models, require_baseline
from .output import render_file, render_models, require_table, require_whole

if TYPE_CHECKING:
    from .report import Report

__all__ = ["report_command"]

ModelsIn = Annotated[list[Path] | None, typer.Argument(metavar="[MODEL]...", show_default=False)]
SUFFIXES = {"md": (".md",), "csv": (".csv",), "json": (".json",), "latex": (".tex",), "html": (".html",)}


def report_command(
    models: ModelsIn = None,
    *,
    pairs: PairsFolder = None,
    network: NetworkName = None,
    pair_count: Annotated[
        int | None, typer.Option(min=1, help="How many pairs to compare pictures on. Default: 8.", show_default=False)
    ] = None,
    runs: Annotated[
        int | None, typer.Option(min=1, help="Timed runs of each model. Default: 20.", show_default=False)
    ] = None,
    threads: Threads = None,
    table: TableOption = "report",
    format: ReportFormatOption = "md",
    baseline: BaselineName = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write. Default: print it.", show_default=False)
    ] = None,
    force: Force = False,
) -> None:
    """Print a results file of bench run as a table, or compare models quickly in one process.

    A results file has what was measured: it takes --table, --format and --baseline alone. A CSV of bench correlation
    --count is printed as --table kernel.

    Of models: size, parameters, MACs, latency, and pictures against the first. Without any, those of the last run.
    ONNX is measured on onnxruntime and OpenVINO. With drawn pairs and folders that have test_truth, pictures are
    also compared with the truth.
    """
    from .files import check_report, save_text

    if output:
        check_report(output, SUFFIXES[format], force=force)
    require_whole(table, format)
    measured = {"--pairs": pairs, "--network": network, "--pair-count": pair_count, "--runs": runs}
    given = [name for name, value in {**measured, "--threads": threads}.items() if value is not None]
    if files := [path for path in models or () if path.suffix in (".json", ".csv")]:
        if models and len(models) > 1:
            raise UsageError("bench report: give one results file alone, or models; bench compare takes two files")
        if given:
            raise UsageError(
                f"bench report: {', '.join(given)} cannot change what {files[0]} has measured; leave it out, or name "
                "the models to measure them"
            )
        text = render_file(files[0], table, baseline, format)
    else:
        require_table(table, baseline, results=False)
        settings = {"count": pair_count or 8, "runs": runs or 20, "threads": threads}
        text = render_models(*_measure_report(models, pairs, network, baseline, **settings), table, format)
    if output:
        print_notice(f"the report is in {save_text(text, output)}")
    else:
        print(text, end="")


def _measure_report(
    models: list[Path] | None, pairs: Path | None, network: str | None, baseline: str | None, **settings: Any
) -> tuple[Report, dict[str, Path]]:
    """Measure models, or those of the last run, the baseline first; return the files too."""
    from .quick_measure import measure_models
    from .run_report import list_last_run

    if models:
        named = name_models(models)
    else:
        named, run_pairs, run_network = list_last_run()
        pairs = pairs or run_pairs
        if network is None and run_network is not None:
            # A file in a folder does not choose which module is imported: a user's own network is named again.
            network = run_network if run_network in NETWORKS else None
    require_baseline(baseline, named)
    named = {name: named[name] for name in sorted(named, key=lambda name: name != baseline)}
    return measure_models(named, folder=pairs, network=network, **settings), named

"""The commands bench run and bench compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...optimize.artifacts import Force, NetworkName, PairCount, PairsFolder
from ...optimize.console import print_notice
from ...optimize.errors import BudgetError, UsageError
from ..fid.command import DownloadWeights, Kid, ResizeName, TrustWeights, WeightsFile
from ..options import (
    BaselineName,
    FormatOption,
    ReportFormatOption,
    TableOption,
    name_models,
    parse_counts,
    require_baseline,
)
from ..reports.output import render_results, require_table, require_whole

__all__ = ["compare_command", "run_command"]


def run_command(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", show_default=False)],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .json to write.")] = Path("results.json"),
    pairs: PairsFolder = None,
    pair_count: PairCount = 8,
    network: NetworkName = None,
    runtime: Annotated[
        list[str] | None, typer.Option(help="Repeatable. Default: all that load a model.", show_default=False)
    ] = None,
    threads: Annotated[str, typer.Option(metavar="N[,N]...", help="Threads, each count by itself.")] = "1",
    batch: Annotated[str, typer.Option(metavar="N[,N]...", help="Pictures at once, each count by itself.")] = "1",
    runs: Annotated[int, typer.Option(min=1, help="Runs of each model, at least.")] = 50,
    seconds: Annotated[float, typer.Option(min=0, help="Seconds of runs of each model, at least.")] = 5.0,
    processes: Annotated[int, typer.Option(min=1, help="Fresh processes of each model; intervals rest on them.")] = 8,
    weights: WeightsFile = None,
    download_weights: DownloadWeights = False,
    trust_weights: TrustWeights = False,
    resize: ResizeName = "clean",
    kid: Kid = False,
    lpips_trunk: Annotated[
        Path | None, typer.Option(help="For LPIPS: torchvision's alexnet or vgg16.", show_default=False)
    ] = None,
    lpips_linear: Annotated[
        Path | None, typer.Option(help="And its learned weights: alex.pth or vgg.pth.", show_default=False)
    ] = None,
    table: TableOption = "report",
    format: ReportFormatOption = "md",
    baseline: BaselineName = None,
    force: Force = False,
) -> None:
    """Measure models so that others can repeat it, and keep every time in a results file.

    Each model runs in fresh processes on each runtime that loads it, with pinned threads and in turns with the
    others. Speed is the ratio of the fastest rounds within the run, not of `median ms` beside it, which other work on
    the machine moves; its interval is where 95 % of other such runs find it. Interrupted, the same command goes on
    where it was.

    Pictures are compared with those of the first model, and with the truth where pairs have it. FID to the truth needs
    --weights; without, fd_random, which is no FID, is measured on more than 240 pairs.
    """
    from ..fid.command import find_weights
    from ..reports.files import check_report
    from .measure import measure_run
    from .results import Settings

    named = name_models(models)
    require_baseline(baseline, named)
    require_table(table, baseline, results=True)
    require_whole(table, format)
    if (lpips_trunk is None) != (lpips_linear is None):
        raise UsageError("bench run: LPIPS needs two files; pass --lpips-trunk and --lpips-linear together")
    file = find_weights(weights, download=download_weights)
    check_report(output, (".json",), force=True)  # one that exists may be an interrupted run's
    settings = Settings(
        runs=runs,
        seconds=seconds,
        processes=processes,
        threads=parse_counts(threads, "--threads"),
        batches=parse_counts(batch, "--batch"),
        runtimes=tuple(dict.fromkeys(runtime or ())),
        pairs=str(pairs) if pairs else None,
        pair_count=pair_count,
        network=network,
        weights=str(file) if file else None,
        trust_weights=trust_weights,
        resize=resize,
        kid=kid,
        lpips=(str(lpips_trunk), str(lpips_linear)) if lpips_trunk and lpips_linear else None,
    )
    before = _find_version(output)
    try:
        results = measure_run(named, output, settings, force=force)
    except KeyboardInterrupt:
        if _find_version(output) != before:
            print_notice(f"what was measured is in {output}; the same command goes on from there")
        raise
    print(render_results(results, output, table, baseline, format), end="")


def _find_version(file: Path) -> tuple[int, int] | None:
    """Return what changes when a file is written anew; None where it is missing."""
    if not file.exists():
        return None
    stat = file.stat()
    return stat.st_ino, stat.st_mtime_ns


def compare_command(
    old: Annotated[Path, typer.Argument(help="A results file of bench run.")],
    new: Annotated[Path, typer.Argument(help="A later one, with models of the same names.")],
    *,
    baseline: BaselineName = None,
    format: FormatOption = "md",
) -> None:
    """Compare two results files; exit with 3 where something judged got worse beyond the noise, or is missing in NEW.

    Speed is compared as the ratio to the first model within each file, so that a busier machine does not count. Such
    ratios are taken to move by 1.5 % from run to run (standard deviation) beyond what the processes of a run show. How
    small a change is seen depends on that, on the processes and on the rows, and stands below the table: about 5 % with
    one ratio and 8 processes that agree, more with more rows or fewer processes.

    The first model's own time is taken to move by 20 %. It is judged where processor and versions are the same and
    neither run's machine was busy; else it is shown. Ratios that changed by it alone are no regression. Ratios and
    times are judged together: one in 20 comparisons of equal models, at most, calls any of them changed. On another
    processor no times are compared; other versions are named.

    Sizes, multiply-adds, and pictures of the same pairs (PSNR, SSIM, MS-SSIM, LPIPS, flow, FID and KID) are judged with
    the tolerances below the table. Loading, the first run and memory are shown and not judged.
    """
    from ..reports.changes_table import format_changes
    from .compare import compare_results
    from .results import read_results

    changes = compare_results(read_results(old), read_results(new), baseline=baseline)
    print(format_changes(changes, format), end="")
    if changes.regressions:
        raise BudgetError(f"{new}: worse than {old}: {'; '.join(changes.regressions)}")

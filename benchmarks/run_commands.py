"""The bench commands that measure any models: run, report and compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..optimize.artifacts import Force, NetworkName, PairCount, PairsFolder, Threads
from ..optimize.console import print_notice
from ..optimize.errors import BudgetError, InputError, UsageError
from ..optimize.networks import NETWORKS
from .fid.command import DownloadWeights, Kid, ResizeName, TrustWeights, WeightsFile
from .options import Format, ReportFormat, TableName, parse_counts

if TYPE_CHECKING:
    from .reports.report import Report
    from .run.results import Results

__all__ = ["compare_command", "report_command", "run_command"]

ModelsIn = Annotated[list[Path] | None, typer.Argument(metavar="[MODEL]...", show_default=False)]
TableOption = Annotated[
    TableName,
    typer.Option(
        help="Which table: all columns, those of a paper, the operations that bench run timed, or the kernel that "
        "bench correlation timed."
    ),
]
FormatOption = Annotated[Format, typer.Option(help="How to print the table.")]
ReportFormatOption = Annotated[
    ReportFormat, typer.Option(help="How to print the table; html is a page with charts and pictures.")
]
SUFFIXES = {"md": (".md",), "csv": (".csv",), "json": (".json",), "latex": (".tex",), "html": (".html",)}
BaselineName = Annotated[
    str | None, typer.Option(help="The model that others are a ratio to. Default: the first.", show_default=False)
]


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
    others. Speed is a ratio within the run, with the interval in which 95 % of other such runs find it. Interrupted,
    the same command goes on where it was.

    Pictures are compared with those of the first model, and with the truth where pairs have it. FID to the truth needs
    --weights; without, fd_random, which is no FID, is measured on more than 240 pairs.
    """
    from .fid.command import find_weights
    from .reports.files import check_report
    from .run.measure import measure_run
    from .run.results import Settings

    named = _name_models(models)
    _require_baseline(baseline, named)
    _require_table(table, baseline, results=True)
    _require_whole(table, format)
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
    try:
        results = measure_run(named, output, settings, force=force)
    except KeyboardInterrupt:
        if output.exists():
            print_notice(f"what was measured is in {output}; the same command goes on from there")
        raise
    print(_render_results(results, output, table, baseline, format), end="")


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
    from .reports.files import check_report, save_text

    if output:
        check_report(output, SUFFIXES[format], force=force)
    _require_whole(table, format)
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
        text = _render_file(files[0], table, baseline, format)
    else:
        _require_table(table, baseline, results=False)
        settings = {"count": pair_count or 8, "runs": runs or 20, "threads": threads}
        text = _render_models(*_measure_report(models, pairs, network, baseline, **settings), table, format)
    if output:
        print_notice(f"the report is in {save_text(text, output)}")
    else:
        print(text, end="")


def _render_file(path: Path, table: TableName, baseline: str | None, fmt: ReportFormat) -> str:
    """Read what a file has, and return it as a table or a page."""
    from .reports.kernel_table import read_kernel_table
    from .reports.rendering import render_report
    from .run.results import read_results

    if path.suffix == ".csv":
        if table != "kernel":
            raise UsageError(
                f"bench report: {path} is a CSV, of which --table kernel prints that of bench correlation; other "
                "tables are of the .json that bench run writes"
            )
        if baseline is not None:
            raise UsageError("--baseline: a kernel is compared with itself before; leave it out")
        assert fmt != "html"  # which --table kernel was refused
        return render_report(read_kernel_table(path), fmt)
    _require_table(table, baseline, results=True)
    return _render_results(read_results(path), path, table, baseline, fmt)


def _measure_report(
    models: list[Path] | None, pairs: Path | None, network: str | None, baseline: str | None, **settings: Any
) -> tuple[Report, dict[str, Path]]:
    """Measure models, or those of the last run, the baseline first; return the files too."""
    from .reports.report import measure_models
    from .reports.run_report import list_last_run

    if models:
        named = _name_models(models)
    else:
        named, run_pairs, run_network = list_last_run()
        pairs = pairs or run_pairs
        if network is None and run_network is not None:
            # A file in a folder does not choose which module is imported: a user's own network is named again.
            network = run_network if run_network in NETWORKS else None
    _require_baseline(baseline, named)
    named = {name: named[name] for name in sorted(named, key=lambda name: name != baseline)}
    return measure_models(named, folder=pairs, network=network, **settings), named


def _render_models(report: Report, models: dict[str, Path], table: TableName, fmt: ReportFormat) -> str:
    from .page.document import format_page
    from .page.models_page import make_models_page, profile_models
    from .reports.paper_tables import make_table
    from .reports.rendering import render_report

    if fmt != "html":
        return render_report(make_table(report, table), fmt)
    profiles = profile_models(report, models)
    return format_page(make_models_page(report, models, title=", ".join(models), profiles=profiles))


def _render_results(results: Results, path: Path, table: TableName, baseline: str | None, fmt: ReportFormat) -> str:
    from .page.document import format_page
    from .page.results_page import make_results_page
    from .reports.operations_table import make_operations_table
    from .reports.paper_tables import make_table
    from .reports.rendering import render_report
    from .reports.results_report import make_results_report

    if fmt == "html":
        return format_page(make_results_page(results, path, baseline))
    if table == "operations":
        return render_report(make_operations_table(results), fmt)
    return render_report(make_table(make_results_report(results, baseline), table), fmt)


def _require_whole(table: TableName, fmt: ReportFormat) -> None:
    """Raise UsageError for a part of a page."""
    if fmt == "html" and table != "report":
        raise UsageError("--format html: the page has all columns and the operations; leave --table out")


def _require_table(table: TableName, baseline: str | None, *, results: bool) -> None:
    """Raise UsageError for a table that results of bench run, or models measured quickly, have not."""
    if table == "kernel":
        from .reports.kernel_table import MEASURE

        raise UsageError(
            f"--table kernel: models have no such times; measure a kernel with: {MEASURE}, and print it with: "
            "vtopt bench report kernel.csv --table kernel"
        )
    if table == "operations" and not results:
        raise UsageError(
            "--table operations: bench report does not time operations; measure them with: vtopt bench run MODEL..., "
            "and give its results file"
        )
    if table == "operations" and baseline is not None:
        raise UsageError("--baseline: times of operations are no ratios; leave it out")


def compare_command(
    old: Annotated[Path, typer.Argument(help="A results file of bench run.")],
    new: Annotated[Path, typer.Argument(help="A later one, with models of the same names.")],
    *,
    baseline: BaselineName = None,
    format: FormatOption = "md",
) -> None:
    """Compare two results files; exit with 3 where something got worse beyond the noise, or is missing in NEW.

    Speed is compared as the ratio to the first model within each file, so that a busier machine does not count. Such
    ratios are taken to move by 1.5 % from run to run (standard deviation) beyond what the processes of a run show, so
    that a change below about 5 % is not seen; how small a one is stands below the table. All are judged together:
    one in 20 comparisons of equal models, at most, calls any of them changed. On another processor speeds are not
    compared; other versions are named.
    """
    from .reports.changes_table import format_changes
    from .run.compare import compare_results
    from .run.results import read_results

    changes = compare_results(read_results(old), read_results(new), baseline=baseline)
    print(format_changes(changes, format), end="")
    if changes.regressions:
        raise BudgetError(f"{new}: worse than {old}: {'; '.join(changes.regressions)}")


def _name_models(models: list[Path]) -> dict[str, Path]:
    """Name models by their files, with folders where two files have one name."""
    stems = [path.stem for path in models]
    named = {path.stem if stems.count(path.stem) == 1 else str(path): path for path in models}
    if len(named) < len(models):
        raise InputError("bench: a model is named twice; name each once")
    return named


def _require_baseline(baseline: str | None, named: dict[str, Path]) -> None:
    if baseline is not None and baseline not in named:
        raise UsageError(f"--baseline: '{baseline}' is not among the models; choose one of {', '.join(named)}")

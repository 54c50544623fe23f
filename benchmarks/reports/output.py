"""What a report is printed as: a table by its name, in a format, or the page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...optimize.errors import UsageError
from ..options import ReportFormat, TableName

if TYPE_CHECKING:
    from ..run.results import Results
    from .report import Report

__all__ = ["render_file", "render_models", "render_results", "require_table", "require_whole"]


def render_file(path: Path, table: TableName, baseline: str | None, fmt: ReportFormat) -> str:
    """Read what a file has, and return it as a table or a page."""
    from ..run.results import read_results
    from .kernel_table import read_kernel_table
    from .rendering import render_report

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
    require_table(table, baseline, results=True)
    return render_results(read_results(path), path, table, baseline, fmt)


def render_models(report: Report, models: dict[str, Path], table: TableName, fmt: ReportFormat) -> str:
    from ..page.document import format_page
    from ..page.models_page import make_models_page, profile_models
    from .paper_tables import make_table
    from .rendering import render_report

    if fmt != "html":
        return render_report(make_table(report, table), fmt)
    profiles = profile_models(report, models)
    return format_page(make_models_page(report, models, title=", ".join(models), profiles=profiles))


def render_results(results: Results, path: Path, table: TableName, baseline: str | None, fmt: ReportFormat) -> str:
    from ..page.document import format_page
    from ..page.results_page import make_results_page
    from .operations_table import make_operations_table
    from .paper_tables import make_table
    from .rendering import render_report
    from .results_report import make_results_report

    if fmt == "html":
        return format_page(make_results_page(results, path, baseline))
    if table == "operations":
        return render_report(make_operations_table(results), fmt)
    return render_report(make_table(make_results_report(results, baseline), table), fmt)


def require_whole(table: TableName, fmt: ReportFormat) -> None:
    """Raise UsageError for a part of a page."""
    if fmt == "html" and table != "report":
        raise UsageError("--format html: the page has all columns and the operations; leave --table out")


def require_table(table: TableName, baseline: str | None, *, results: bool) -> None:
    """Raise UsageError for a table that results of bench run, or models measured quickly, have not."""
    if table == "kernel":
        from .kernel_table import MEASURE

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

"""What the bench commands take: names of tables and formats, and lists of counts as people write them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ..optimize.errors import InputError, UsageError

__all__ = [
    "BaselineName",
    "Format",
    "FormatOption",
    "ReportFormat",
    "ReportFormatOption",
    "TableName",
    "TableOption",
    "name_models",
    "parse_counts",
    "require_baseline",
]

Format = Literal["md", "csv", "json", "latex"]
ReportFormat = Literal["md", "csv", "json", "latex", "html"]
"""A report is a page too."""
TableName = Literal["report", "pruning", "quantisation", "kernel", "final", "operations"]

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
BaselineName = Annotated[
    str | None, typer.Option(help="The model that others are a ratio to. Default: the first.", show_default=False)
]


def parse_counts(text: str, option: str) -> tuple[int, ...]:
    """Return the counts of a text like 1,2,4, each once; raises UsageError for what is no whole number from 1 on."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"{option}: '{text}' is not a list of counts; write whole numbers from 1 on, for example 1,2")
    return tuple(dict.fromkeys(map(int, parts)))


def name_models(models: list[Path]) -> dict[str, Path]:
    """Name models by their files, with folders where two files have one name."""
    stems = [path.stem for path in models]
    named = {path.stem if stems.count(path.stem) == 1 else str(path): path for path in models}
    if len(named) < len(models):
        raise InputError("bench: a model is named twice; name each once")
    return named


def require_baseline(baseline: str | None, named: dict[str, Path]) -> None:
    if baseline is not None and baseline not in named:
        raise UsageError(f"--baseline: '{baseline}' is not among the models; choose one of {', '.join(named)}")

"""What the bench commands take: names of tables and formats, and lists of counts as people write them."""

from __future__ import annotations

from typing import Literal

from ..optimize.errors import UsageError

__all__ = ["Format", "ReportFormat", "TableName", "parse_counts"]

Format = Literal["md", "csv", "json", "latex"]
ReportFormat = Literal["md", "csv", "json", "latex", "html"]
"""A report is a page too."""
TableName = Literal["report", "pruning", "quantisation", "kernel", "final", "operations"]


def parse_counts(text: str, option: str) -> tuple[int, ...]:
    """Return the counts of a text like 1,2,4, each once; raises UsageError for what is no whole number from 1 on."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"{option}: '{text}' is not a list of counts; write whole numbers from 1 on, for example 1,2")
    return tuple(dict.fromkeys(map(int, parts)))

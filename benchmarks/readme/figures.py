"""Read committed figures: rows of a CSV, and one figure of them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...optimize.errors import InputError

__all__ = ["Figure", "Row", "Where", "list_rows", "pick_figure", "read_rows"]

Row = Mapping[str, str]
Where = Mapping[str, str | tuple[str, ...]]
"""Which rows: column -> its text, or any of several."""

Figure = int | float | str | None


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a CSV as text. Raises InputError for a file that is absent, empty or ragged."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows: list[Row] = [*csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); restore it or measure it anew") from error
    if not rows:
        raise InputError(f"{path}: has no rows; measure it anew")
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise InputError(f"{path}: row {number} has not as many cells as the first; measure it anew")
    return rows


def list_rows(rows: Sequence[Row], where: Where) -> list[Row]:
    """Return the rows that have these texts, in their order."""
    wanted = {column: (text,) if isinstance(text, str) else text for column, text in where.items()}
    return [row for row in rows if all(row.get(column) in texts for column, texts in wanted.items())]


def pick_figure(rows: Sequence[Row], column: str, where: Where) -> Figure:
    """Return the figure of the one row: a number where it is one, None where it is empty or there is no such row.

    Raises InputError when there are several rows, or no such column.
    """
    found = list_rows(rows, where)
    if len(found) > 1:
        raise InputError(f"{column}: {len(found)} rows have {dict(where)}; name more of their columns")
    if absent := next((row for row in found if column not in row), None):
        raise InputError(f"{column}: is no column; there are {', '.join(absent)}")
    return _parse(found[0][column]) if found else None


def _parse(text: str) -> Figure:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text or None

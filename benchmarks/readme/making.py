"""Make a table of committed figures from a description of its rows and cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ...optimize.errors import InputError
from ..reports.tables import format_table
from .figures import Row, Where, list_rows, pick_figure, read_rows

__all__ = ["Cell", "Table", "list_absent", "make_table"]


class Cell(NamedTuple):
    """A figure: its column in the CSV, which of the rows of one key it is in, and what is made of it."""

    column: str
    where: Where = MappingProxyType({})
    show: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class Table:
    """One row for each value of the column `key`, in the order of the files, and one cell for each title."""

    files: tuple[str, ...]
    key: str
    cells: Mapping[str, Cell]
    heading: str = ""
    """Of the first column; by default the key."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What a value of the key is called, where not by itself."""
    where: Where = field(default_factory=dict)


def list_absent(table: Table, results: Path) -> list[str]:
    """Return the table's files that are not measured yet."""
    return [name for name in table.files if not (results / name).exists()]


def make_table(table: Table, results: Path) -> str:
    """Return the table in Markdown, from the CSV files in the folder `results`.

    Raises InputError for a file that cannot be used, and for a column that stays empty.
    """
    rows: list[Row] = [{"file": Path(name).stem, **row} for name in table.files for row in _read(table, results / name)]
    heading = table.heading or table.key
    try:
        made = [
            {heading: table.names.get(key, key)}
            | {title: _show(rows, cell, {table.key: key, **cell.where}) for title, cell in table.cells.items()}
            for key in dict.fromkeys(row[table.key] for row in rows)
        ]
    except InputError as error:
        raise InputError(f"{', '.join(table.files)}: {error}") from error
    if empty := ", ".join(title for title in table.cells if all(row[title] is None for row in made)):
        raise InputError(f"{', '.join(table.files)}: no row has what column '{empty}' of the table shows")
    return format_table(made, [heading, *table.cells])


def _read(table: Table, path: Path) -> list[Row]:
    rows = list_rows(read_rows(path), table.where)
    if not rows:
        raise InputError(f"{path}: no row has {dict(table.where)}; measure it anew")
    if table.key not in {"file", *rows[0]}:
        raise InputError(f"{path}: has no column '{table.key}'; measure it anew")
    return rows


def _show(rows: list[Row], cell: Cell, where: Where) -> Any:
    figure = pick_figure(rows, cell.column, where)
    return figure if figure is None or cell.show is None else cell.show(figure)

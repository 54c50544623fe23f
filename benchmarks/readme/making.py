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
    """A figure: its column in the CSV, the row beside those with the table's key, and what is written of it."""

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
    keys = dict.fromkeys(row[table.key] for row in rows)
    heading = table.heading or table.key
    made = [{heading: table.names.get(key, key), **_make_cells(table, rows, key)} for key in keys]
    if empty := ", ".join(title for title in table.cells if all(row[title] is None for row in made)):
        raise InputError(f"{', '.join(table.files)}: no row has what column '{empty}' of the table shows")
    return format_table(made, [heading, *table.cells])


def _read(table: Table, path: Path) -> list[Row]:
    rows = list_rows(read_rows(path), table.where)
    if not rows:
        raise InputError(f"{path}: no row has {dict(table.where)}")
    return rows


def _make_cells(table: Table, rows: list[Row], key: str) -> dict[str, Any]:
    figures = {
        title: pick_figure(rows, cell.column, {table.key: key, **cell.where}) for title, cell in table.cells.items()
    }
    shows = {title: cell.show for title, cell in table.cells.items()}
    return {
        title: show(figure) if figure is not None and (show := shows[title]) else figure
        for title, figure in figures.items()
    }

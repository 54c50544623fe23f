"""Print rows as a table: Markdown for reading, CSV and JSON for programs, LaTeX for papers."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np

from ...optimize.errors import InputError
from ..options import Format

__all__ = ["Format", "format_column", "format_table", "to_json_value"]

Row = Mapping[str, object]

ABSENT = "-"
DECIMALS: Sequence[tuple[float, int]] = ((10_000, 0), (1_000, 1), (1, 2), (0.01, 4))
"""(largest value of a column at least, decimals); below the last a column is written as 1.2e-03."""


def format_table(rows: Sequence[Row], columns: Sequence[str], fmt: Format = "md") -> str:
    """Return the rows as a table with these columns, ending in a line break.

    - md: aligned; a column's numbers share one count of decimals, whole numbers have separators
      (1,234,567), what is missing or None is "-";
    - csv: values unrounded, what is missing is empty;
    - json: a list of objects, values unrounded; what is missing is null, infinite numbers are "inf";
    - latex: a tabular that needs no package, numbers as in md.

    Raises InputError for another format.
    """
    if fmt not in _WRITERS:
        raise InputError(f"tables: format '{fmt}' is not known; choose one of {', '.join(_WRITERS)}")
    return _WRITERS[fmt]([{key: _to_plain(row.get(key)) for key in columns} for row in rows], columns)


def to_json_value(value: Any) -> Any:
    """Return a value that strict JSON can hold: infinite numbers as "inf" and "-inf", dataclasses as dicts."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): to_json_value(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_value(entry) for entry in value]
    value = _to_plain(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _to_plain(value: Any) -> Any:
    """Return a numpy number as Python's; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def _write_markdown(rows: Sequence[Row], columns: Sequence[str]) -> str:
    cells = [[_escape(cell) for cell in (column, *format_column([row[column] for row in rows]))] for column in columns]
    numeric = [_is_numeric(rows, column) for column in columns]
    widths = [max(3, *map(len, column)) for column in cells]
    lines = [
        _join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        for line in zip(*cells, strict=True)
    ]
    rule = _join("-" * (width - 1) + (":" if right else "-") for width, right in zip(widths, numeric, strict=True))
    return "\n".join([*lines[:1], rule, *lines[1:]]) + "\n"


def _join(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def format_column(values: Sequence[object]) -> list[str]:
    """Write a column's values; its floats share the decimals that the largest of them calls for."""
    floats = [abs(value) for value in values if isinstance(value, float) and math.isfinite(value) and value]
    largest = max(floats, default=1.0)
    decimals = next((count for least, count in DECIMALS if largest >= least), None)
    style = "{:.1e}" if decimals is None else f"{{:,.{decimals}f}}"
    return [_format_cell(value, style) for value in values]


def _format_cell(value: object, style: str) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return style.format(value) if math.isfinite(value) else str(value)
    return str(value)


def _is_numeric(rows: Sequence[Row], column: str) -> bool:
    return any(_is_number(row[column]) for row in rows)


def _escape(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _write_csv(rows: Sequence[Row], columns: Sequence[str]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _write_json(rows: Sequence[Row], columns: Sequence[str]) -> str:
    chosen = [{column: to_json_value(row[column]) for column in columns} for row in rows]
    return json.dumps(chosen, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _write_latex(rows: Sequence[Row], columns: Sequence[str]) -> str:
    cells = [(column, *format_column([row[column] for row in rows])) for column in columns]
    lines = [" & ".join(_escape_latex(cell) for cell in line) + r" \\" for line in zip(*cells, strict=True)]
    places = "".join("r" if _is_numeric(rows, column) else "l" for column in columns)
    body = [
        rf"\begin{{tabular}}{{{places}}}",
        r"\hline",
        *lines[:1],
        r"\hline",
        *lines[1:],
        r"\hline",
        r"\end{tabular}",
    ]
    return "\n".join(body) + "\n"


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()))


_LATEX = {sign: rf"\{sign}" for sign in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
"""What LaTeX reads as its own -> how it is written."""

_WRITERS = {"md": _write_markdown, "csv": _write_csv, "json": _write_json, "latex": _write_latex}

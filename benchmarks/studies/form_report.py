"""What was measured of the forms of one operation, as a table to read and as CSV and JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..host import describe_host
from ..reports.files import save_csv
from ..reports.tables import format_table, to_json_value
from .rewrite_group import Group

__all__ = ["format_forms", "write_forms_csv"]

HOW_COLUMNS = ("runs", "warmup")
"""How a row was measured: in CSV columns, in Markdown below the table."""


def format_forms(groups: Sequence[Group], note: str, *, as_json: bool = False) -> str:
    """Return the figures of all groups as a table with notices and conditions, or as JSON.

    Columns are the keys of the rows; `note` says below the table what they are compared with.
    """
    rows = _list_rows(groups)
    notices = list(dict.fromkeys(notice for group in groups for notice in group.notices))
    conditions = describe_host()
    if as_json:
        data = {"rows": rows, "conditions": conditions, "notices": notices}
        return json.dumps(to_json_value(data), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    columns = _list_columns(rows)
    how = {
        column: ", ".join(dict.fromkeys(str(row[column]) for row in rows))
        for column in HOW_COLUMNS
        if column in columns
    }
    parts = [
        "".join(f"- **{notice}**\n" for notice in notices),
        format_table(rows, [column for column in columns if column not in how]),
        f"Measured: {', '.join(f'{key} {value}' for key, value in {**how, **conditions}.items())}, in turns. {note}\n",
    ]
    return "\n".join(part for part in parts if part)


def write_forms_csv(groups: Sequence[Group], path: Path) -> Path:
    """Write all rows to `path`, with the conditions as columns."""
    conditions = describe_host()
    rows = [{**row, **conditions} for row in _list_rows(groups)]
    return save_csv(rows, _list_columns(rows), path)


def _list_rows(groups: Sequence[Group]) -> list[Mapping[str, object]]:
    return [row for group in groups for row in group.rows]


def _list_columns(rows: Sequence[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(column for row in rows for column in row))

"""What was measured of the rewrites, as tables to read and as CSV and JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...optimize.errors import InputError
from ..host import describe_host, find_version
from ..reports.files import save_csv
from ..reports.tables import format_table, to_json_value
from .rewrite_group import Group

__all__ = ["COLUMNS", "OP_COLUMNS", "format_rewrites", "write_csv"]

COLUMNS = (
    "network",
    "form",
    "runtime",
    "threads",
    "batch",
    "median ms",
    "p90 ms",
    "min ms",
    "ratio",
    "difference",
    "conv share",
    "warp share",
    "memory MiB",
    "imports MiB",
    "file MiB",
)
OP_COLUMNS = ("network", "threads", "batch", "operation", "plain ms", "all rewrites ms")
HOW_COLUMNS = ("size", "runs", "warmup")
"""How a row was measured: in CSV columns, in Markdown below the table."""

TOOLS = ("onnx", "onnxsim", "onnxslim")
LEAST_SHARE = 0.01
"""Operation types that take less of both models are added up in the table."""

OTHER, TOTAL = "(other)", "(all)"


def format_rewrites(groups: Sequence[Group], *, as_json: bool = False) -> str:
    """Return the figures of all groups as two tables with notices and conditions, or as JSON.

    The first table has a row per model, the second the time of each operation type on onnxruntime, in the
    plain model and in the one with all rewrites.

    Raises InputError when nothing was measured.
    """
    rows = [row for group in groups for row in group.rows]
    if not rows:
        raise InputError("bench rewrites: nothing was measured; name at least one --network")
    notices = [notice for group in groups for notice in group.notices]
    op_rows = [row for group in groups for row in group.op_rows]
    conditions = _list_conditions(rows)
    if as_json:
        data = {"rows": rows, "operations": op_rows, "conditions": conditions, "notices": notices}
        return json.dumps(to_json_value(data), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    parts = [
        "".join(f"- **{notice}**\n" for notice in notices),
        format_table(rows, COLUMNS),
        format_table([row for group in groups for row in _shorten(group.op_rows)], OP_COLUMNS) if op_rows else "",
        f"Measured: {', '.join(f'{key} {value}' for key, value in conditions.items())}. "
        "Ratio and difference: to the plain form on the same runtime; torch to plain on onnxruntime.\n",
    ]
    return "\n".join(part for part in parts if part)


def _list_conditions(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    def join(column: str) -> str:
        return ", ".join(map(str, dict.fromkeys(row[column] for row in rows)))

    return {
        "pairs from": "drawn pairs, seeds from 0",
        "size": join("size"),
        "batch": join("batch"),
        "runs": f"{join('runs')} in turns after {join('warmup')} of warm-up",
        "threads": join("threads"),
        **_list_versions(),
    }


def _list_versions() -> dict[str, str]:
    """Return the processor and the versions of runtimes and tools."""
    return {**describe_host(), **{tool: find_version(tool) for tool in TOOLS}}


def _shorten(op_rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return a group's operations with the small ones added up in one row before the last, the sum."""
    if not op_rows:
        return []
    *ops, total = op_rows
    columns = ("plain ms", "all rewrites ms")
    large = [row for row in ops if any(row[column] >= LEAST_SHARE * total[column] for column in columns)]
    small = [row for row in ops if row not in large]
    if not small:
        return [*large, total]
    sums = {column: sum(row[column] for row in small) for column in columns}
    return [*large, {**total, "operation": OTHER, **sums}, total]


def write_csv(groups: Sequence[Group], path: Path) -> Path:
    """Write all rows to `path`, with the conditions as columns."""
    conditions = _list_versions()
    rows = [{**row, **conditions} for group in groups for row in group.rows]
    return save_csv(rows, (*COLUMNS, *HOW_COLUMNS, *conditions), path)

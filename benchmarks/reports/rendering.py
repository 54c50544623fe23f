"""A report as text, with how it was measured in every format that can hold it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..cost.flops import FLOPS_PER_MAC
from .report import Report
from .tables import Format, format_table, to_json_value

__all__ = ["render_report"]

COUNTS = ("GMACs", "GFLOPs", "FLOPs")
"""Columns of multiply-adds."""
CONVENTION = f"of one picture, 1 MAC is {FLOPS_PER_MAC} FLOPs"


def render_report(report: Report, fmt: Format = "md") -> str:
    """Return the report as text, ending in a line break.

    - md: the notices, the table, and below it how it was measured;
    - json: an object with rows, conditions and notices;
    - csv: the table, each condition a further column;
    - latex: the table alone.

    JSON and CSV have GFLOPs beside GMACs. Raises InputError for another format.
    """
    if any(column in COUNTS for column in report.columns):
        report = replace(report, conditions={**report.conditions, "MACs": CONVENTION})
    if fmt == "md":
        return _render_markdown(report)
    if fmt == "latex":
        return format_table(report.rows, report.columns, fmt)
    columns = _add_gflops(report.columns)
    rows = [_count_gflops(row) for row in report.rows]
    if fmt == "json":
        chosen = [{column: row.get(column) for column in columns} for row in rows]
        data = {"rows": chosen, "conditions": report.conditions, "notices": report.notices}
        return json.dumps(to_json_value(data), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    told = {name: value for name, value in report.conditions.items() if name not in columns}
    return format_table([{**row, **told} for row in rows], [*columns, *told], fmt)


def _render_markdown(report: Report) -> str:
    notices = "".join(f"- **{notice}**\n" for notice in report.notices)
    conditions = ", ".join(f"{name} {value}" for name, value in report.conditions.items())
    medians = " PSNR and SSIM: median over pairs." if any("PSNR" in column for column in report.columns) else ""
    table = format_table(report.rows, report.columns, "md")
    return f"{notices}{chr(10) if notices else ''}{table}\nMeasured: {conditions}.{medians}\n"


def _add_gflops(columns: Sequence[str]) -> list[str]:
    return [added for column in columns for added in ((column, "GFLOPs") if column == "GMACs" else (column,))]


def _count_gflops(row: Mapping[str, Any]) -> Mapping[str, Any]:
    macs = row.get("GMACs")
    return row if macs is None else {**row, "GFLOPs": FLOPS_PER_MAC * macs}

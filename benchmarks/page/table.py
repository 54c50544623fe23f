"""The table of figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..engines.sets import Key
from ..reports.report import Report
from ..reports.tables import format_column
from .markup import Markup, tag
from .number_text import keep_value

__all__ = ["show_table"]


def show_table(report: Report, chosen: Key | None) -> Markup:
    """Show the report's rows, numbers as in its Markdown; each cell keeps its unrounded value as data-value."""
    texts = {column: format_column([row.get(column) for row in report.rows]) for column in report.columns}
    numeric = {column for column in report.columns if any(keep_value(row.get(column)) for row in report.rows)}
    first, *_ = report.columns
    head = (tag("th", column, scope="col", class_="number" if column in numeric else None) for column in report.columns)
    body = (
        tag(
            "tr",
            *(
                tag(
                    "th" if column == first else "td",
                    texts[column][index],
                    scope="row" if column == first else None,
                    data_value=keep_value(row.get(column)),
                    class_="number" if column in numeric else None,
                )
                for column in report.columns
            ),
            class_="chosen" if _is(row, chosen) else None,
        )
        for index, row in enumerate(report.rows)
    )
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body))
    return tag("div", table, class_="scroll", role="region", aria_label="Table of figures", tabindex=0)


def _is(row: Mapping[str, Any], key: Key | None) -> bool:
    return key is not None and (row.get("model"), row.get("runtime")) == key

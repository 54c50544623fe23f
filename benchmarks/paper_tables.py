"""The tables that papers on smaller try-on networks print, made of a report's figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from ..optimize.errors import InputError
from .flops import FLOPS_PER_MAC
from .report import UNCHANGED, Report

__all__ = ["PAPER_TABLES", "PRUNING_COLUMNS", "TableName", "make_pruning_row", "make_table"]

TableName = Literal["report", "pruning"]

PRUNING_COLUMNS = ("Metrics", "GFLOPs", "Para(M)", "SIZE(MB)", "Compression ratio", "PSNR (dB)", "PSNR loss (dB)")
"""One multiply-add is 2 FLOPs: those of convolutions and linear layers, of ONNX and IR also those of warps. A MB is
2**20 bytes, a compression ratio the first size over this one, PSNR the median to the truth where pairs have it."""
LATENCY_COLUMNS = ("median ms", "of the first")

Row = Mapping[str, Any]


def make_table(report: Report, name: TableName) -> Report:
    """Return the report with the rows and columns of a table by name; "report" is the report as it is."""
    return PAPER_TABLES[name](report)


def make_pruning_row(
    name: str, *, gflops: float | None, parameters_m: float, size_mb: float, psnr_db: float | None, first: Row | None
) -> dict[str, Any]:
    """Return a row of the pruning table; `first` is the row of the unpruned network, None for that itself."""
    row = {
        "Metrics": name,
        "GFLOPs": gflops,
        "Para(M)": parameters_m,
        "SIZE(MB)": size_mb,
        "Compression ratio": (first["SIZE(MB)"] if first else size_mb) / size_mb,
        "PSNR (dB)": psnr_db,
    }
    before = first["PSNR (dB)"] if first else None
    return row | {"PSNR loss (dB)": None if before is None or psnr_db is None else before - psnr_db}


def _make_pruning(report: Report) -> Report:
    """Return a row for each model on the first model's runtime."""
    found = [row for row in report.rows if row["model"] != UNCHANGED]
    if not found:
        raise InputError("bench: there are no models to put into a table")
    runtime = found[0]["runtime"]
    there = [row for row in found if row["runtime"] == runtime]
    rows: list[dict[str, Any]] = []
    for row in there:
        made = make_pruning_row(
            row["model"],
            gflops=None if row["GMACs"] is None else FLOPS_PER_MAC * row["GMACs"],
            parameters_m=row["params M"],
            size_mb=row["size MiB"],
            psnr_db=row.get("truth PSNR dB"),
            first=rows[0] if rows else None,
        )
        timing = {"median ms": row["median ms"], "of the first": row["median ms"] / found[0]["median ms"]}
        rows.append(made | timing)
    shown = {row["model"] for row in there}
    notices = report.notices
    if absent := ", ".join(dict.fromkeys(row["model"] for row in found if row["model"] not in shown)):
        notices += (f"left out, as {runtime} does not run it: {absent}; give files of one kind",)
    return replace(
        report,
        rows=tuple(rows),
        columns=(*PRUNING_COLUMNS, *LATENCY_COLUMNS),
        conditions={"runtime": runtime, **report.conditions},
        notices=notices,
    )


PAPER_TABLES: Mapping[TableName, Callable[[Report], Report]] = {
    "report": lambda report: report,
    "pruning": _make_pruning,
}

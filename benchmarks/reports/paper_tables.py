"""The tables that papers on smaller try-on networks print, made of a report's figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from ...optimize.errors import InputError
from ..cost.flops import FLOPS_PER_MAC
from ..options import TableName
from ..quality.comparison import UNCHANGED
from .report import Report

__all__ = [
    "FINAL_COLUMNS",
    "PAPER_TABLES",
    "PRUNING_COLUMNS",
    "QUANTISATION_COLUMNS",
    "make_pruning_row",
    "make_table",
]

PRUNING_COLUMNS = ("Metrics", "GFLOPs", "Para(M)", "SIZE(MB)", "Compression ratio", "PSNR (dB)", "PSNR loss (dB)")
"""One multiply-add is 2 FLOPs: those that `mac_rules` counts; `vtopt prune` counts convolutions and linear layers
alone. A MB is 2**20 bytes, a compression ratio the first size over this one, PSNR the median to the truth where pairs
have it."""
FID_COLUMNS = ("FID", "FID loss")
LATENCY_COLUMNS = ("median ms", "of the first")
QUANTISATION_COLUMNS = ("Optimization", "CPU-FID", "GPU-FID", "original size", "quantised size")
FINAL_COLUMNS = ("precision", "model size (MB)", "FLOPs", "parameters (M)", "FID")

Row = Mapping[str, Any]


def make_table(report: Report, name: TableName) -> Report:
    """Return the report with the rows and columns of one of `PAPER_TABLES`; "report" is the report as it is."""
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
    """Return a row for each model on the first model's runtime.

    Models named by folder and file, as two files of one name are, are parts, full/warp and full/generator: each is
    compared with the first of its file name, and the total is that of its folder.
    """
    there = _take_first_runtime(report)
    rows: list[dict[str, Any]] = []
    for row in there.rows:
        first = _find_first(row["model"], rows)
        made = make_pruning_row(
            row["model"],
            gflops=_to_gflops(row),
            parameters_m=row["params M"],
            size_mb=row["size MiB"],
            psnr_db=row.get("truth PSNR dB"),
            first=first,
        )
        fid, before = row.get("FID"), first["FID"] if first else None
        rows.append(
            made
            | {
                "Total SIZE(MB)": _add_folder(row["model"], there.rows),
                "FID": fid,
                "FID loss": None if fid is None or before is None else fid - before,
                "median ms": row["median ms"],
                "of the first": _divide_times(row, there.rows[0]),
            }
        )
    has_parts = any(_is_part(row["model"]) for row in there.rows)
    has_fid = any(row["FID"] is not None for row in rows)
    columns = [*PRUNING_COLUMNS, *(FID_COLUMNS if has_fid else ()), *LATENCY_COLUMNS]
    if has_parts:
        columns.insert(columns.index("SIZE(MB)") + 1, "Total SIZE(MB)")
    return replace(there, rows=tuple(rows), columns=tuple(columns))


def _divide_times(row: Row, first: Row) -> float:
    """Return the latency as a part of the first's: by their speeds where both have one, else by their medians."""
    if row.get("speed x") and first.get("speed x"):
        return first["speed x"] / row["speed x"]
    return row["median ms"] / first["median ms"]


def _find_first(model: str, rows: Sequence[Row]) -> Row | None:
    """Return the row that a model is compared with; None for a first one."""
    if not _is_part(model):
        return rows[0] if rows else None
    return next((row for row in rows if PurePath(row["Metrics"]).name == PurePath(model).name), None)


def _add_folder(model: str, rows: Sequence[Row]) -> float:
    """Return the size of a model, or that of all parts in its folder."""
    alike = [
        row for row in rows if row["model"] == model or (_is_part(model) and _folder(row["model"]) == _folder(model))
    ]
    return sum(row["size MiB"] for row in alike)


def _is_part(model: str) -> bool:
    return _folder(model) != PurePath()


def _folder(model: str) -> PurePath:
    return PurePath(model).parent


def _make_quantisation(report: Report) -> Report:
    """Return a row for each model after the first, with its size and that of the first, in MB of 2**20 bytes."""
    there = _take_first_runtime(report)
    first, *others = there.rows
    rows = [
        {
            "Optimization": row["model"],
            "CPU-FID": row.get("FID"),
            "GPU-FID": row.get("GPU FID"),
            "original size": first["size MiB"],
            "quantised size": row["size MiB"],
            "PSNR dB": row.get("PSNR dB"),
        }
        for row in others
    ]
    return replace(_note_fid(there), rows=tuple(rows), columns=(*QUANTISATION_COLUMNS, "PSNR dB"))


def _make_final(report: Report) -> Report:
    """Return a row for each model: MB of 2**20 bytes, FLOPs of one picture, millions of parameters."""
    there = _take_first_runtime(report)
    rows = [
        {
            "precision": row["model"],
            "model size (MB)": row["size MiB"],
            "FLOPs": None if row["GMACs"] is None else FLOPS_PER_MAC * row["GMACs"] * 1e9,
            "parameters (M)": row["params M"],
            "FID": row.get("FID"),
            "PSNR dB": row.get("PSNR dB"),
        }
        for row in there.rows
    ]
    return replace(_note_fid(there), rows=tuple(rows), columns=(*FINAL_COLUMNS, "PSNR dB"))


def _to_gflops(row: Row) -> float | None:
    return None if row["GMACs"] is None else FLOPS_PER_MAC * row["GMACs"]


def _note_fid(report: Report) -> Report:
    """Say that there is no FID where there is none."""
    if any(row.get("FID") is not None for row in report.rows):
        return report
    return replace(
        report, notices=(*report.notices, "FID was not measured; PSNR is to the pictures of the first model")
    )


def _take_first_runtime(report: Report) -> Report:
    """Return the report with the rows of the first model's runtime, threads and batch alone."""
    found = [row for row in report.rows if row["model"] != UNCHANGED]
    if not found:
        raise InputError("bench: there are no models to put into a table")
    how = {key: found[0][key] for key in ("runtime", "threads", "batch") if key in found[0]}
    there = [row for row in found if all(row[key] == value for key, value in how.items())]
    notices = report.notices
    shown = {row["model"] for row in there}
    if absent := ", ".join(dict.fromkeys(row["model"] for row in found if row["model"] not in shown)):
        notices += (f"left out, as {how['runtime']} does not run it: {absent}; give files of one kind",)
    return replace(report, rows=tuple(there), conditions={**how, **report.conditions, **how}, notices=notices)


PAPER_TABLES: Mapping[TableName, Callable[[Report], Report]] = {
    "report": lambda report: report,
    "pruning": _make_pruning,
    "quantisation": _make_quantisation,
    "final": _make_final,
}

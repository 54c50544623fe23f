"""The table of a rewritten kernel: seconds that n runs take before and after, as bench correlation writes them."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from ...optimize.errors import InputError
from ..host import HOST
from .report import Report

__all__ = ["COLUMNS", "MEASURE", "read_kernel_table"]

COLUMNS = ("runtime", "n", "before (s)", "after (s)", "FPS", "acceleration")
VARIED = ("case", "threads")
"""Columns before the others where they vary; else they are conditions."""
MEASURE = "vtopt bench correlation --count 1000 -o kernel.csv"
"""The command that makes such a CSV."""


def read_kernel_table(path: Path) -> Report:
    """Read the CSV that `bench correlation --count N` writes, as a report.

    A row stands for n runs of a kernel on a runtime: seconds before and after the rewrite, runs per second after it
    (FPS), and before over after. Runs that were stopped before n are noticed.

    Raises InputError for a file that cannot be read, that is no such CSV, and that has no rows.
    """
    from ..studies.single_correlation import SHIPPED, SLICES

    again = f"make it with: {MEASURE}"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; {again}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; {again}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text; {again}") from error
    found = csv.DictReader(lines, restval="")
    if missing := [name for name in (*COLUMNS, *VARIED, "made") if name not in (found.fieldnames or ())]:
        raise InputError(f"{path}: is no table of a kernel, it has no column {', '.join(missing)}; {again}")
    rows = [_read_row(row, path, number) for number, row in enumerate(found, 1)]
    if not rows:
        raise InputError(f"{path}: has no rows; {again}")
    varied = tuple(name for name in VARIED if len({row[name] for row in rows}) > 1)
    same = {name: _join(rows, name) for name in (*VARIED, *HOST) if name not in varied}
    stopped = tuple(
        f"{row['case']} on {row['runtime']}, threads {row['threads']}: stopped after {row['made']:,} of {row['n']:,} "
        "runs, whose seconds these are"
        for row in rows
        if row["made"] != row["n"]
    )
    return Report(tuple(rows), (*varied, *COLUMNS), {"before": SLICES, "after": SHIPPED, **same}, stopped)


def _read_row(row: Mapping[str, str], path: Path, number: int) -> dict[str, object]:
    counts = ("threads", "n", "made")
    times = COLUMNS[2:]
    try:
        read = {name: int(row[name]) for name in counts} | {name: float(row[name]) for name in times}
        if not all(math.isfinite(value) and value > 0 for value in read.values()):
            raise ValueError
    except ValueError as error:
        raise InputError(
            f"{path}: row {number} is damaged: {', '.join((*counts, *times))} must be numbers above 0; "
            f"make it again with: {MEASURE}"
        ) from error
    return {**row, **read}


def _join(rows: list[dict[str, object]], name: str) -> str:
    return ", ".join(dict.fromkeys(str(row.get(name, "unknown")) for row in rows))

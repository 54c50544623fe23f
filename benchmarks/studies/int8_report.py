"""What was measured of int8, as a table to read, as CSV and JSON for programs, and as pictures of the worst pairs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...optimize.artifacts import write_picture
from ...optimize.cpu_target import detect_target
from ...optimize.errors import InputError, OutputError
from ..host import describe_host, find_version
from ..quality.sheets import make_difference_sheet
from ..reports.files import save_csv
from ..reports.tables import format_table, to_json_value
from .flow_shifts import FLOW_PAIRS
from .int8_figures import Int8Group

__all__ = [
    "COLUMNS",
    "check_sheets",
    "format_int8",
    "list_conditions",
    "list_versions",
    "write_int8_csv",
    "write_sheets",
]

COLUMNS = (
    "network",
    "form",
    "runtime",
    "size MiB",
    "median ms",
    "of plain",
    "PSNR dB",
    "worst dB",
    "of range dB",
    "SSIM",
    "flow px",
    "truth PSNR dB",
)
HOW_COLUMNS = (
    "p90 ms",
    "min ms",
    "worst pair",
    "threads",
    "runs",
    "warmup",
    "pairs",
    "calibrated on",
    "pairs from",
    "picture size",
)
"""How a row was measured: in CSV columns, in Markdown below the table."""

TOOLS = ("onnx", "onnxsim", "nncf", "neural_compressor")


def format_int8(groups: Sequence[Int8Group], *, as_json: bool = False) -> str:
    """Return the figures of all networks as a table with notices and conditions, or as JSON.

    Raises InputError when nothing was measured.
    """
    rows = [row for group in groups for row in group.rows]
    notices = [notice for group in groups for notice in group.notices]
    if not rows:
        raise InputError(f"bench int8: nothing was measured; {'; '.join(notices) or 'name at least one --network'}")
    conditions = {**list_conditions(rows), **list_versions()}
    if as_json:
        data = {"rows": rows, "conditions": conditions, "notices": notices}
        return json.dumps(to_json_value(data), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    told = "".join(f"- **{notice}**\n" for notice in notices)
    measured = ", ".join(f"{key} {value}" for key, value in conditions.items())
    return "\n".join(
        part
        for part in (
            told,
            format_table(rows, COLUMNS),
            f"Measured: {measured}. Of plain: the median time to that of the plain form on the same runtime. Quality: "
            "to the pictures of vtopt fp32 on onnxruntime, medians; of range: with the reference's own range as the "
            f"range of PSNR; flow: to the float model that a form was made from, on the first {FLOW_PAIRS} pairs.\n",
        )
        if part
    )


def list_conditions(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return how rows of calibrated forms were measured, each thing once."""

    def join(column: str) -> str:
        return ", ".join(map(str, dict.fromkeys(row[column] for row in rows)))

    return {
        "pairs": f"{join('pairs')} from {join('pairs from')}",
        "calibrated on": join("calibrated on"),
        "size": join("picture size"),
        "runs": f"{join('runs')} in turns after {join('warmup')} of warm-up",
        "threads": join("threads"),
    }


def list_versions() -> dict[str, str]:
    """Return the processor, what it does with int8, and the versions of runtimes and tools."""
    return {**describe_host(), "target": detect_target(), **{tool: find_version(tool) for tool in TOOLS}}


def write_int8_csv(groups: Sequence[Int8Group], path: Path) -> Path:
    """Write all rows to `path`, with the conditions as columns."""
    conditions = list_versions()
    rows = [{**row, **conditions} for group in groups for row in group.rows]
    return save_csv(rows, (*COLUMNS, *HOW_COLUMNS, *conditions), path)


def check_sheets(folder: Path, *, force: bool = False) -> None:
    """Raise OutputError when sheets cannot go there: before measuring, not after."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is no folder; choose another name")
    if folder.is_dir() and any(folder.glob("*.png")) and not force:
        raise OutputError(f"{folder}: holds pictures already; choose another name or pass --force")


def write_sheets(group: Int8Group, folder: Path) -> list[Path]:
    """Write the worst pair of each form: its picture, the reference, and eight times their difference."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror}; choose another folder") from error
    made = []
    for worst in group.worst:
        network = next((row["network"] for row in group.rows), "network")
        name = f"{network}-{worst.variant.form}-{worst.variant.runtime}"
        sheet = make_difference_sheet(worst.picture, worst.reference, worst.pair)
        path = folder / f"{'-'.join(''.join(c if c.isalnum() or c in '_.' else ' ' for c in name).split())}.png"
        made.append(write_picture(sheet, path, force=True))
    return made

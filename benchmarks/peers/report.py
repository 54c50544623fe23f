"""What was measured beside peers: a table for each network to read, and CSV and JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...optimize.errors import InputError
from ..host import find_version
from ..reports.files import save_csv
from ..reports.tables import format_table, to_json_value
from ..studies.flow_shifts import FLOW_PAIRS
from ..studies.int8_report import list_conditions, list_versions
from .figures import PeersGroup
from .olive import find_olive_version

__all__ = ["COLUMNS", "format_peers", "list_tools", "write_peers_csv"]

SHOWN = (
    "tool",
    "form",
    "runtime",
    "size MiB",
    "median ms",
    "of onnxsim",
    "PSNR dB",
    "worst dB",
    "of range dB",
    "SSIM",
    "flow px",
    "truth PSNR dB",
    "made in s",
)
COLUMNS = (
    "network",
    *SHOWN,
    "note",
    "worst pair",
    "p90 ms",
    "min ms",
    "threads",
    "runs",
    "warmup",
    "pairs",
    "calibrated on",
    "pairs from",
    "picture size",
)
"""Those of the CSV; Markdown has `SHOWN` in the table, and the notes and how it was measured below."""

ABOUT = (
    "Of onnxsim: the median time to that of torch.onnx + onnxsim on the same runtime. Times are medians of one process "
    "in which all forms ran in turns, and do not tell how much of a ratio is noise: vtopt bench run gives intervals. "
    "Quality: to the pictures of the float network in torch, medians; of range: with the reference's own range as the "
    "range of PSNR; flow: to the float model that a form was made from, on the first "
    f"{FLOW_PAIRS} pairs. Made in: from the weights on, in vtopt with its checks of each step. Each tool has its own "
    "defaults, and the same pairs to calibrate on."
)

Row = Mapping[str, Any]


def format_peers(groups: Sequence[PeersGroup], tools: Mapping[str, str], *, as_json: bool = False) -> str:
    """Return a table for each network with what kept forms from having figures, or JSON; `tools` are versions.

    Raises InputError when nothing was measured.
    """
    rows = [row for group in groups for row in group.rows]
    notices = [notice for group in groups for notice in group.notices]
    if not rows:
        raise InputError(f"bench peers: nothing was measured; {'; '.join(notices) or 'name at least one --network'}")
    conditions = {**list_conditions(rows), **tools}
    if as_json:
        data = {"rows": rows, "conditions": conditions, "notices": notices}
        return json.dumps(to_json_value(data), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    told = ["".join(f"- **{notice}**\n" for notice in notices)] if notices else []
    measured = ", ".join(f"{key} {value}" for key, value in conditions.items())
    networks = (list(group.rows) for group in groups if group.rows)
    return "\n".join([*told, *(_format_network(each) for each in networks), f"Measured: {measured}. {ABOUT}\n"])


def _format_network(rows: Sequence[Row]) -> str:
    """Return the table of one network, then the notes."""
    runtimes: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["note"]:
            runtimes.setdefault((f"{row['tool']}, {row['form']}", row["note"]), []).append(row["runtime"])
    notes = "".join(f"- {form} on {' and '.join(where)}: {note}\n" for (form, note), where in runtimes.items())
    return "\n".join(part for part in (f"**{rows[0]['network']}**\n", format_table(rows, SHOWN), notes) if part)


def list_tools(olive: str) -> dict[str, str]:
    """Return the processor, what it does with int8, and the versions of runtimes and tools."""
    return {**list_versions(), "onnxslim": find_version("onnxslim"), "olive": find_olive_version(olive)}


def write_peers_csv(groups: Sequence[PeersGroup], tools: Mapping[str, str], path: Path) -> Path:
    """Write all rows to `path`, with the conditions as columns."""
    rows = [{**row, **tools} for group in groups for row in group.rows]
    return save_csv(rows, (*COLUMNS, *tools), path)

"""The table of a network before and after pruning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..provenance import read_history

__all__ = ["format_pruning"]


def format_pruning(path: Path) -> str:
    """Return the table in Markdown from what `vtopt prune` wrote into its output, and what the figures are of."""
    from ...benchmarks.reports.paper_tables import PRUNING_COLUMNS, make_pruning_row
    from ...benchmarks.reports.tables import format_table

    figures = read_history(path)[-1].figures
    rows: list[dict[str, Any]] = []
    for name, suffix in (("original", "_before"), ("pruned", "")):
        row = make_pruning_row(
            name,
            gflops=figures[f"gflops{suffix}"],
            parameters_m=figures[f"parameters{suffix}"] / 1e6,
            size_mb=figures[f"size_mb{suffix}"],
            psnr_db=figures.get(f"truth_psnr_db{suffix}"),
            first=rows[0] if rows else None,
        )
        rows.append(row)
    table = format_table(rows, PRUNING_COLUMNS)
    told = "GFLOPs: convolutions and linear layers of one picture, 1 multiply-add is 2 FLOPs.\n"
    if "truth_psnr_db" in figures:
        return table + told
    psnr = "equal" if figures["psnr_db"] is None else f"{figures['psnr_db']} dB"
    count = figures["compared_pairs"]
    return f"{table}{told}The pairs have no truth; PSNR to the original's pictures: {psnr}, the median of {count}.\n"

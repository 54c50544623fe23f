"""Draw what each convolution costs the picture, as an SVG of horizontal bars."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from .sensitivity import Sensitivity, SensitivityRow

__all__ = ["draw_sensitivity"]

LARGEST_ROWS = 60
LONGEST_NAME = 40

ROW, TOP = 18, 70
NAMES, BARS, VALUES, FLOWS = 290, 420, 60, 80
WIDTH = NAMES + BARS + VALUES + FLOWS
TICK_DB = 20

STYLE = """
  svg { background: #ffffff; }
  text { font: 12px system-ui, sans-serif; fill: #1f2328; }
  .title { font-size: 15px; font-weight: 600; }
  .note, .tick { fill: #59636e; }
  .bar { fill: #0969da; }
  .line { stroke: #d1d9e0; }
  .all { stroke: #bc4c00; stroke-dasharray: 4 3; }
  .alltext { fill: #bc4c00; }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117; }
    text { fill: #f0f6fc; }
    .note, .tick { fill: #9198a1; }
    .bar { fill: #4493f8; }
    .line { stroke: #3d444d; }
    .all { stroke: #f0883e; }
    .alltext { fill: #f0883e; }
  }
"""


def draw_sensitivity(sensitivity: Sensitivity) -> str:
    """Return an SVG with a bar for each convolution, the worst first, at most 60; it says so where it leaves some out.

    The bars are decibels from 0, a line is all of them in int8; pixels of flow shift stand in a column.
    """
    rows = sensitivity.rows[:LARGEST_ROWS]
    cut = len(sensitivity.rows) - len(rows)
    whole = sensitivity.all_int8
    finite = [row.psnr_db for row in (*rows, whole) if math.isfinite(row.psnr_db)]
    limit = max(TICK_DB, TICK_DB * math.ceil(max(finite, default=0.0) / TICK_DB))
    bottom = TOP + ROW * len(rows)
    which = f"the worst {len(rows)} of {len(sensitivity.rows)}" if cut else f"all {len(rows)}"
    name = Path(str(sensitivity.conditions.get("model", "model"))).name
    parts = [
        _write(12, 22, f"{name}: each convolution alone in int8", "title"),
        _write(12, 40, f"PSNR to the float picture in dB, shorter is worse; {which} convolutions", "note"),
        _write(WIDTH - 12, 60, "flow, px", "note", "end"),
    ]
    for tick in range(0, limit + 1, TICK_DB):
        x = NAMES + BARS * tick / limit
        parts.append(f'<line class="line" x1="{x:.1f}" y1="{TOP - 4}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(_write(x, 60, f"{tick} dB", "tick", "middle"))
    for place, row in enumerate(rows):
        parts += _draw_row(row, TOP + ROW * place, limit)
    if math.isfinite(whole.psnr_db):
        x = NAMES + BARS * max(0.0, whole.psnr_db) / limit
        flow = "" if whole.flow_px is None else f", {whole.flow_px:.3f} px"
        parts.append(f'<line class="all" x1="{x:.1f}" y1="{TOP - 4}" x2="{x:.1f}" y2="{bottom + 6}"/>')
        parts.append(_write(x, bottom + 20, f"all in int8: {whole.psnr_db:.1f} dB{flow}", "alltext", "middle"))
    height = bottom + 32
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img">\n<title>{escape(name)}: each convolution alone in int8, PSNR in dB</title>\n'
        f"<style>{STYLE}</style>\n{body}\n</svg>\n"
    )


def _draw_row(row: SensitivityRow, y: float, limit: float) -> list[str]:
    length = BARS * min(max(row.psnr_db, 0.0), limit) / limit
    name = row.node if len(row.node) <= LONGEST_NAME else "…" + row.node[1 - LONGEST_NAME :]
    shown = f"{row.psnr_db:.1f}"
    if math.isinf(row.psnr_db):
        shown = "equal" if row.psnr_db > 0 else "NaN"
    base = y + ROW - 5
    return [
        _write(NAMES - 8, base, name, "name", "end"),
        f'<rect class="bar" x="{NAMES}" y="{y + 2}" width="{length:.1f}" height="{ROW - 4}" rx="2"/>',
        _write(NAMES + length + 6, base, shown, "value"),
        _write(WIDTH - 12, base, "-" if row.flow_px is None else f"{row.flow_px:.3f}", "note", "end"),
    ]


def _write(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'

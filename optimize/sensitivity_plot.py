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
NAMES, BARS, VALUES, COLUMN = 290, 340, 60, 80
WIDTH = NAMES + BARS + VALUES + 2 * COLUMN

STYLE = """
  svg { background: #ffffff; }
  text { font: 12px system-ui, sans-serif; fill: #1f2328; }
  .title { font-size: 15px; font-weight: 600; }
  .note { fill: #59636e; }
  .bar { fill: #0969da; }
  .all { fill: #bc4c00; }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117; }
    text { fill: #f0f6fc; }
    .note { fill: #9198a1; }
    .bar { fill: #4493f8; }
    .all { fill: #f0883e; }
  }
"""


def draw_sensitivity(sensitivity: Sensitivity) -> str:
    """Return an SVG with a bar for each convolution, the worst first, at most 60; it says so where it leaves some out.

    A bar is the share of the squared error of all, each alone; PSNR and pixels of flow shift stand beside it, and
    under them those of all in int8 together.
    """
    rows = sensitivity.rows[:LARGEST_ROWS]
    whole = sensitivity.all_int8
    longest = max((row.error_share or 0.0 for row in rows), default=0.0) or 1.0
    total = len(sensitivity.rows)
    which = f"all {total}" if len(rows) == total else f"the worst {len(rows)} of {total}"
    name = Path(str(sensitivity.conditions.get("model", "model"))).name
    bottom = TOP + ROW * (len(rows) + 1)
    body = "\n".join(
        [
            _write(12, 22, f"{name}: each convolution alone in int8", "title"),
            _write(12, 40, f"share of the squared error that they make one by one; {which} convolutions", "note"),
            *_write_columns(60, "PSNR, dB", "flow, px", "note"),
            *(line for place, row in enumerate(rows) for line in _draw_row(row, TOP + ROW * place, longest)),
            _write(NAMES, bottom, "all in int8 together", "all"),
            *_write_columns(bottom, *_show_scores(whole), "all"),
        ]
    )
    height = bottom + 16
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img">\n<title>{escape(name)}: what each convolution alone in int8 costs the picture</title>\n'
        f"<style>{STYLE}</style>\n{body}\n</svg>\n"
    )


def _draw_row(row: SensitivityRow, y: float, longest: float) -> list[str]:
    share = row.error_share or 0.0
    length = BARS * share / longest
    name = row.node if len(row.node) <= LONGEST_NAME else "…" + row.node[1 - LONGEST_NAME :]
    base = y + ROW - 5
    return [
        _write(NAMES - 8, base, name, "name", "end"),
        f'<rect class="bar" x="{NAMES}" y="{y + 2}" width="{length:.1f}" height="{ROW - 4}" rx="2"/>',
        _write(NAMES + length + 6, base, "" if row.error_share is None else f"{share:.1%}", "value"),
        *_write_columns(base, *_show_scores(row), "note"),
    ]


def _show_scores(row: SensitivityRow) -> tuple[str, str]:
    psnr = f"{row.psnr_db:.1f}"
    if math.isinf(row.psnr_db):
        psnr = "equal" if row.psnr_db > 0 else "NaN"
    return psnr, "-" if row.flow_px is None else f"{row.flow_px:.3f}"


def _write_columns(y: float, psnr: str, flow: str, kind: str) -> list[str]:
    return [_write(WIDTH - 12 - COLUMN, y, psnr, kind, "end"), _write(WIDTH - 12, y, flow, kind, "end")]


def _write(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'

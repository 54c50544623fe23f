"""Widths of an SDAFN that runs in no time."""

from __future__ import annotations

SMALL = {
    "pyramid_widths": (4, 6),
    "pyramid_dim": 8,
    "heads": 2,
    "mfe_filters": (8, 8),
    "shallow_hidden": 4,
    "shallow_dim": 4,
}
"""Two levels, so pictures are multiples of four."""

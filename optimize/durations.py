"""Durations as people write them: 90s, 10m, 1.5h."""

from __future__ import annotations

import re

import typer

__all__ = ["parse_duration"]

SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


def parse_duration(text: str | float) -> float:
    """Return seconds from a number with s, m or h behind it; raises typer.BadParameter for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([smh]?)", str(text).strip().lower())
    seconds = float(found[1]) * SECONDS[found[2]] if found else 0.0
    if not seconds:
        raise typer.BadParameter(f"'{text}' is not a duration; write a number above 0 with s, m or h, for example 10m")
    return seconds

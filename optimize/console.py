"""What the command line prints: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .artifacts import hash_artifact, list_files
from .provenance import Record, read_history

__all__ = [
    "format_figures",
    "format_record",
    "format_value",
    "print_error",
    "print_json",
    "print_notice",
    "print_step",
    "show_size",
]


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str))


def print_error(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)


def print_notice(message: str) -> None:
    print(f"note: {message}", file=sys.stderr)


def show_size(size: int) -> str:
    """Write a number of bytes as MiB, or KiB where that is little."""
    return f"{size / 2**20:,.2f} MiB" if size >= 2**20 else f"{size / 2**10:,.1f} KiB"


def print_step(output: Path, *, as_json: bool) -> None:
    """Print what a step made, from what the artifact says of itself."""
    history = read_history(output)
    size = sum(file.stat().st_size for file in list_files(output))
    if as_json:
        record = vars(history[-1]) if history else {}
        print_json({"output": str(output), "bytes": size, "sha256": hash_artifact(output), **record})
        return
    if not history:
        print(f"{output}: {show_size(size)}")
        return
    record = history[-1]
    print(f"{record.step}: {output}, {show_size(size)} ({_compare_sizes(size, record.parent_bytes)})")
    for line in format_record(record):
        print(f"  {line}")


def _compare_sizes(size: int, parent: int) -> str:
    return f"{size / parent:.2f}x of {show_size(parent)}" if parent else "new"


def format_record(record: Record) -> list[str]:
    """Return a step's figures and notices as lines."""
    return format_figures(record.figures) + [f"note: {notice}" for notice in record.notices]


def format_figures(figures: Mapping[str, Any]) -> list[str]:
    """Return figures as lines, those of a comparison of pictures as one."""
    figures = dict(figures)
    lines = [_format_pictures(figures)] if "pairs" in figures else []
    return lines + [line for key, value in figures.items() for line in _format_figure(key.replace("_", " "), value)]


def _format_figure(label: str, value: Any) -> list[str]:
    """Return a figure as a line, a list of sentences as a line each under it."""
    if isinstance(value, list | tuple) and any(" " in str(entry) for entry in value):
        return [f"{label}:", *(f"  {entry}" for entry in value)]
    return [f"{label}: {format_value(value)}"]


def _format_pictures(figures: dict[str, Any]) -> str:
    """Take the figures of a comparison out of `figures` and write them as one line."""
    count, worst = figures.pop("pairs"), figures.pop("worst_pair")
    median, lowest = (_format_db(figures.pop(key)) for key in ("psnr_median_db", "psnr_worst_db"))
    ssim, largest, relative = (figures.pop(key) for key in ("ssim_median", "max_abs", "max_relative"))
    flow = ""
    if "flow_px_median" in figures:
        shift, furthest = (_format_px(figures.pop(key)) for key in ("flow_px_median", "flow_px_worst"))
        flow = f", flow shift {shift} (worst {furthest})"
    return (
        f"pictures on {count} pairs: PSNR {median} (worst {lowest}, {worst}), SSIM {ssim}, "
        f"largest difference {largest} ({relative} of the largest value){flow}"
    )


def _format_db(value: float | None) -> str:
    return "infinite" if value is None else f"{value:.1f} dB"


def _format_px(value: float | None) -> str:
    return "infinite" if value is None else f"{value:g} px"


def format_value(value: Any) -> str:
    """Write a figure for people: numbers with separators, lists and mappings with commas."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {entry}" for key, entry in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)

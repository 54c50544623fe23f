"""What a report is: rows and columns, how the figures were taken, and what was noticed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..engines.sets import Key
from ..quality.comparison import ShownPair
from ..quality.pictures import Quality

__all__ = ["COLUMNS", "QUALITY_COLUMNS", "TRUTH_COLUMNS", "Report", "show_quality", "show_truth"]

QUALITY_COLUMNS = ("PSNR dB", "worst dB", "SSIM")
COLUMNS = (
    "model",
    "runtime",
    "size MiB",
    "params M",
    "GMACs",
    "median ms",
    "p90 ms",
    "speed x",
    *QUALITY_COLUMNS,
)
TRUTH_COLUMNS = ("truth PSNR dB", "truth SSIM")


@dataclass(frozen=True)
class Report:
    """One row per model and runtime, the first is the reference; and how the figures were taken."""

    rows: tuple[Mapping[str, Any], ...]
    columns: tuple[str, ...]
    conditions: Mapping[str, Any]
    notices: tuple[str, ...]
    shown: Mapping[Key, tuple[ShownPair, ...]] = field(default_factory=dict)
    """The worst and the median pair of each model that differs from the reference."""


def show_quality(quality: Quality | None) -> dict[str, float | None]:
    """Return the columns of quality to the first model; it has none itself."""
    if quality is None:
        return dict.fromkeys(QUALITY_COLUMNS)
    return {"PSNR dB": quality.psnr_median, "worst dB": quality.psnr_worst, "SSIM": quality.ssim_median}


def show_truth(quality: Quality) -> dict[str, float]:
    return {"truth PSNR dB": quality.psnr_median, "truth SSIM": quality.ssim_median}

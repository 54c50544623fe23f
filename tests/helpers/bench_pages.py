"""Pages of models that were never measured, for tests of what is shown of them."""

from __future__ import annotations

import math
from typing import Any

from PIL import Image

from vtopt.benchmarks.page.content import SAME_SPEED_RATIO, Artifact, Page, Point, Profile, View
from vtopt.benchmarks.reports.report import COLUMNS, Report

__all__ = ["REFERENCE", "make_page", "make_point", "make_view"]

REFERENCE = ("fp32", "onnxruntime")
SIZE = (24, 32)


def make_point(
    model: str,
    median_ms: float,
    worst_db: float | None = 40.0,
    size_mib: float = 4.0,
    runtime: str = "onnxruntime",
    interval: tuple[float, float] | None = None,
    speed_interval: tuple[float, float] | None = None,
) -> Point:
    """Return a point whose median pair is 6 dB above its worst; its speed is to fp32 on onnxruntime of 20 ms."""
    speed = 20.0 / median_ms
    low, high = speed_interval or (speed / SAME_SPEED_RATIO, speed * SAME_SPEED_RATIO)
    return Point(
        model=model,
        runtime=runtime,
        size_mib=size_mib,
        median_ms=median_ms,
        interval=interval,
        speed=speed,
        speed_interval=speed_interval,
        within_noise=None if (model, runtime) == REFERENCE else low <= 1 <= high,
        worst_db=worst_db,
        median_db=None if worst_db is None else worst_db + 6,
    )


def make_view(model: str = "int8", role: str = "worst", psnr: float = 38.0, runtime: str = "onnxruntime") -> View:
    """Return a view of two plain pictures that differ by 4 of 255 in red."""
    pictures = [Image.new("RGB", SIZE, (red, 90, 60)) for red in (104, 100)]
    return View(model, runtime, role, f"pair-{role}", psnr, *pictures)


def make_page(**changed: Any) -> Page:
    """Return a page of fp32 and an int8 that is twice as fast; fields may be given instead."""
    rows = (
        {
            "model": "fp32",
            "runtime": "onnxruntime",
            "size MiB": 8.0,
            "params M": 2.0,
            "GMACs": 3.0,
            "median ms": 20.0,
            "p90 ms": 21.0,
            "speed x": 1.0,
            "PSNR dB": None,
            "worst dB": None,
            "SSIM": None,
        },
        {
            "model": "int8",
            "runtime": "onnxruntime",
            "size MiB": 2.0123456789,
            "params M": 2.0,
            "GMACs": 3.0,
            "median ms": 10.0,
            "p90 ms": 11.0,
            "speed x": 2.0,
            "PSNR dB": 44.0,
            "worst dB": 38.0,
            "SSIM": 0.99,
        },
    )
    record = {
        "step": "quantize",
        "parent": "fp32.onnx",
        "parent_sha256": "1" * 64,
        "parent_bytes": 8 * 2**20,
        "settings": {"engine": "onnxruntime", "seed": 0},
        "figures": {"psnr_worst_db": 38.5},
        "notices": ["calibrated on few pairs"],
        "versions": {"vtopt": "0.1.0", "onnxruntime": "1.0"},
    }
    given: dict[str, Any] = {
        "title": "cpu-int8",
        "table": Report(rows, COLUMNS, {}, ()),
        "points": (make_point("fp32", 20.0, math.inf, 8.0), make_point("int8", 10.0, 38.0, 2.0)),
        "reference": REFERENCE,
        "baseline": REFERENCE,
        "profiles": (Profile("int8", "onnxruntime", 1, {"QLinearConv": 6.0, "GridSample": 3.0}),),
        "views": (make_view(), make_view(role="median", psnr=44.0)),
        "artifacts": (Artifact("int8", "int8.onnx", "2" * 64, 2 * 2**20, (record,)),),
        "conditions": {"size": "32x24", "pairs": 2, "cpu": "Some CPU", "threads": 1},
        "notices": ("int8 has no row on openvino",),
        "noise": "Medians within 3% are not told apart.",
    }
    return Page(**(given | changed))

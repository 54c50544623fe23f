"""What a step's output is worse at than the file that it was made from."""

from __future__ import annotations

from pathlib import Path

from .artifacts import list_files

__all__ = ["find_losses"]

QUICK_RUNS = 5
NOISE = 1.03
"""Medians of a few runs differ by so much on a quiet machine."""


def find_losses(source: Path, output: Path) -> list[str]:
    """Say whether an ONNX file is larger than the one it was made from, or slower on onnxruntime on this machine.

    Both run in turns, a few times; what is less than `NOISE` slower is not told from noise.
    """
    from ..benchmarks.engines.engine import open_engine
    from ..benchmarks.engines.feeds import draw_noise
    from ..benchmarks.timing.latency import measure_latency

    losses = []
    before, after = (sum(file.stat().st_size for file in list_files(path)) for path in (source, output))
    if after > before:
        losses.append(f"{output} is {after / before:.2f} times larger than {source}")
    engines = {path: open_engine(path) for path in (source, output)}
    feeds = {path: draw_noise(engine) for path, engine in engines.items()}
    timing = measure_latency(engines, feeds, runs=QUICK_RUNS, warmup=1)
    ratio = timing[output].median_ms / timing[source].median_ms
    if ratio > NOISE:
        losses.append(f"{output} is {ratio:.2f} times slower than {source} on onnxruntime on this machine")
    return losses

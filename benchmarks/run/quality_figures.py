"""The columns of pictures that are there only where something was measured: MS-SSIM, LPIPS, flow and distances."""

from __future__ import annotations

from collections.abc import Iterator

from ..engines.runtimes import GPU_RUNTIMES
from .results import Comparison, Results

__all__ = ["MEASURES", "make_quality_figures"]

MEASURES = ("MS-SSIM", "LPIPS", "flow px")
"""Columns that stand before those of distances."""


def make_quality_figures(results: Results, model: str, runtime: str) -> dict[str, float]:
    """Return a model's further figures on one runtime, by column.

    MS-SSIM and LPIPS are medians over the pairs to the first model's pictures, "flow px" the mean over the pairs of
    how far it looks from where the first does. A model that also ran on a GPU has the distances of those pictures as
    "GPU FID".
    """
    found = results.find_quality(model, runtime)
    figures: dict[str, float | None] = {}
    if found and found != results.quality[0]:
        flow = found.flow.mean_px if found.flow else None
        figures = dict(zip(MEASURES, (found.to_first.ms_ssim_median, found.to_first.lpips_median, flow), strict=True))
    for each in results.quality:
        if each.model == model:
            figures |= dict(_list_distances(each, runtime))
    return {name: value for name, value in figures.items() if value is not None}


def _list_distances(compared: Comparison, runtime: str) -> Iterator[tuple[str, float]]:
    for distance in compared.distances:
        if compared.runtime == runtime:
            yield distance.title, distance.value
        elif compared.runtime in GPU_RUNTIMES:
            yield f"GPU {distance.title}", distance.value

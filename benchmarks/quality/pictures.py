"""How much two pictures differ: PSNR, SSIM and the largest difference, per pair and over all pairs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ...optimize.errors import InputError
from ..host import need

__all__ = ["FlowShift", "PictureScores", "Quality", "compare_pictures", "summarize_quality"]

DATA_RANGE = 2.0
"""Pictures lie in [-1, 1]."""
SSIM_WINDOW = 11
"""Side of torchmetrics' Gaussian window of sigma 1.5; smaller pictures have no SSIM."""
WORST_COUNT = 3
"""So many of the worst pairs are named."""


@dataclass(frozen=True)
class PictureScores:
    """How far one picture is from its reference."""

    psnr: float
    """Decibels, over all channels; inf for equal pictures, -inf where one holds NaN or infinite values."""
    ssim: float
    """1 for equal pictures; -1 where one holds NaN or infinite values."""
    max_abs: float
    """The largest difference, on the scale of [-1, 1]; inf where one holds NaN or infinite values."""
    rel_max: float
    """`max_abs` over the reference's largest absolute value."""
    ms_ssim: float | None = None
    """At most 1; None where it was not measured, as with `lpips` (see `compare_by_all`)."""
    ms_ssim_scales: int = 0
    lpips: float | None = None


@dataclass
class Quality:
    """The scores over all pairs; a median is that of a pair (the lower middle one of an even count).

    PSNR may be infinite. For JSON, which has no such number, `tables.to_json_value` writes "inf", which
    `float()` reads back.
    """

    psnr_median: float
    psnr_worst: float
    ssim_median: float
    ssim_worst: float
    max_abs: float
    """The largest of all pairs."""
    rel_max: float
    """The largest of all pairs."""
    worst: str
    """Name of the pair with the lowest PSNR, the first of equals."""
    median: str
    """Name of the pair with the median PSNR, the first of equals."""
    pairs: int
    worst_pairs: Mapping[str, float] = field(default_factory=dict)
    """Names of the pairs with the lowest PSNR -> PSNR, the worst first."""
    ms_ssim_median: float | None = None
    ms_ssim_worst: float | None = None
    ms_ssim_scales: int = 0
    """How many scales fit the pictures: only values of equally many compare."""
    lpips_median: float | None = None
    lpips_worst: float | None = None
    """The largest of all pairs."""


@dataclass(frozen=True)
class FlowShift:
    """How far a model looks from where another looks; a pair's shift is that of the warp that moved most."""

    mean_px: float
    """Over the pairs, in pixels of the picture."""
    worst_px: float
    worst: str
    """Name of the pair with the largest shift, the first of equals."""
    pairs: int


def compare_pictures(picture: np.ndarray, reference: np.ndarray) -> PictureScores:
    """Compare a picture with its reference, both (3, H, W) in [-1, 1].

    PSNR and SSIM have a data range of 2. Raises InputError for pictures of different shapes, or with a
    side under 11 pixels.
    """
    if picture.shape != reference.shape or picture.ndim != 3:
        raise InputError(
            f"pictures of shapes {picture.shape} and {reference.shape} cannot be compared; "
            "make both with the same size, (3, H, W)"
        )
    if min(picture.shape[1:]) < SSIM_WINDOW:
        raise InputError(f"pictures of shape {picture.shape} are too small to compare; make them 11 or more wide")
    first, second = picture.astype(np.float64), reference.astype(np.float64)
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return PictureScores(psnr=-math.inf, ssim=-1.0, max_abs=math.inf, rel_max=math.inf)
    difference = np.abs(first - second)
    largest = float(difference.max())
    peak = float(np.abs(second).max())
    return PictureScores(
        psnr=_measure_psnr(difference),
        ssim=_measure_ssim(first, second),
        max_abs=largest,
        rel_max=largest / peak if peak else (math.inf if largest else 0.0),
    )


def summarize_quality(scores: Mapping[str, PictureScores]) -> Quality:
    """Return medians, worst values and the worst pair of scores by pair name.

    Raises InputError when there are none.
    """
    if not scores:
        raise InputError("quality: there are no pairs to compare; give at least one")
    psnr = {name: score.psnr for name, score in scores.items()}
    ssim = [score.ssim for score in scores.values()]
    ms_ssim = _list_known(score.ms_ssim for score in scores.values())
    lpips = _list_known(score.lpips for score in scores.values())
    ordered = sorted(psnr, key=lambda name: psnr[name])
    worst = ordered[0]
    middle = statistics.median_low(psnr.values())
    return Quality(
        psnr_median=middle,
        psnr_worst=psnr[worst],
        ssim_median=statistics.median_low(ssim),
        ssim_worst=min(ssim),
        max_abs=max(score.max_abs for score in scores.values()),
        rel_max=max(score.rel_max for score in scores.values()),
        worst=worst,
        median=next(name for name, value in psnr.items() if value == middle),
        pairs=len(scores),
        worst_pairs={name: psnr[name] for name in ordered[:WORST_COUNT]},
        ms_ssim_median=statistics.median_low(ms_ssim) if ms_ssim else None,
        ms_ssim_worst=min(ms_ssim, default=None),
        ms_ssim_scales=min(score.ms_ssim_scales for score in scores.values()),
        lpips_median=statistics.median_low(lpips) if lpips else None,
        lpips_worst=max(lpips, default=None),
    )


def _list_known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _measure_psnr(difference: np.ndarray) -> float:
    error = float(np.mean(difference**2))
    return 10 * math.log10(DATA_RANGE**2 / error) if error else math.inf


def _measure_ssim(picture: np.ndarray, reference: np.ndarray) -> float:
    torch, metrics = need("torch"), need("torchmetrics.functional.image")
    # In float64 torch has no fast convolution: fifteen times the time, for the seventh digit.
    batch = (torch.from_numpy(array.astype(np.float32)).unsqueeze(0) for array in (picture, reference))
    return float(metrics.structural_similarity_index_measure(*batch, data_range=DATA_RANGE))

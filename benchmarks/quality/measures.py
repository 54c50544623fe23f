"""Every measure of two pictures at once: PSNR, SSIM, MS-SSIM, and LPIPS where its weights are given."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .ms_ssim import measure_ms_ssim
from .pictures import PictureScores, compare_pictures

if TYPE_CHECKING:
    import numpy as np

    from .lpips import Lpips

__all__ = ["compare_by_all"]


def compare_by_all(picture: np.ndarray, reference: np.ndarray, *, lpips: Lpips | None = None) -> PictureScores:
    """Compare a picture with its reference, both (3, H, W) in [-1, 1], by all measures.

    MS-SSIM takes half the time of the others. Raises InputError for pictures of different shapes, or too small.
    """
    scores = compare_pictures(picture, reference)
    structure = measure_ms_ssim(picture, reference)
    scores = replace(scores, ms_ssim=structure.value, ms_ssim_scales=structure.scales)
    if lpips is None:
        return scores
    from .lpips import measure_lpips

    return replace(scores, lpips=measure_lpips(lpips, picture, reference))

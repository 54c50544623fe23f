"""MS-SSIM: how alike two pictures are in structure, at several scales."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...optimize.errors import InputError
from ..host import need
from .pictures import DATA_RANGE, SSIM_WINDOW

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MultiScaleSsim", "measure_ms_ssim"]

EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales, the finest first, as viewers weighed them."""
SIGMA = 1.5
LUMINANCE_FLOOR, CONTRAST_FLOOR = (0.01 * DATA_RANGE) ** 2, (0.03 * DATA_RANGE) ** 2


class MultiScaleSsim(NamedTuple):
    """The value, at most 1, and how many scales it is of: compare only values of equally many."""

    value: float
    scales: int


def measure_ms_ssim(picture: np.ndarray, reference: np.ndarray) -> MultiScaleSsim:
    """Return the MS-SSIM of a picture and its reference, both (3, H, W) in [-1, 1]; 0 where one is not finite.

    Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality assessment", Asilomar 2003: five
    scales, each half the one before, windows of 11 pixels that lie wholly inside, intensities from 0 up, channels
    averaged. Pictures with a side under 176 pixels have fewer scales, as many as an 11 pixel window fits in, and their
    exponents are scaled to the same sum. Negative contrast counts as 0.

    Raises InputError for pictures of different shapes, or with a side under 11 pixels.
    """
    if picture.shape != reference.shape or picture.ndim != 3:
        raise InputError(
            f"pictures of shapes {picture.shape} and {reference.shape} cannot be compared; "
            "make both with the same size, (3, H, W)"
        )
    scales = sum(min(picture.shape[1:]) >> scale >= SSIM_WINDOW for scale in range(len(EXPONENTS)))
    if not scales:
        raise InputError(f"pictures of shape {picture.shape} are too small to compare; make them 11 or more wide")
    if not (np.isfinite(picture).all() and np.isfinite(reference).all()):
        return MultiScaleSsim(0.0, scales)
    torch, functional = need("torch"), need("torch.nn.functional")
    one, other = (torch.from_numpy(array.astype(np.float64) + DATA_RANGE / 2) for array in (picture, reference))
    exponents = np.array(EXPONENTS[:scales]) * (sum(EXPONENTS) / sum(EXPONENTS[:scales]))
    value = 1.0
    for scale, exponent in enumerate(exponents, 1):
        luminance, contrast = _compare_windows(one, other)
        likeness = (luminance * contrast if scale == scales else contrast).mean()
        value *= max(float(likeness), 0.0) ** exponent
        one, other = (functional.avg_pool2d(array, 2) for array in (one, other))
    return MultiScaleSsim(value, scales)


def _compare_windows(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Return the luminance and the contrast-structure terms of every window, (3, H - 10, W - 10)."""
    mean, other_mean = _blur(one), _blur(other)
    variance, other_variance = _blur(one * one) - mean**2, _blur(other * other) - other_mean**2
    covariance = _blur(one * other) - mean * other_mean
    luminance = (2 * mean * other_mean + LUMINANCE_FLOOR) / (mean**2 + other_mean**2 + LUMINANCE_FLOOR)
    contrast = (2 * covariance + CONTRAST_FLOOR) / (variance + other_variance + CONTRAST_FLOOR)
    return luminance, contrast


def _blur(picture: Tensor) -> Tensor:
    torch, functional = need("torch"), need("torch.nn.functional")
    places = torch.arange(SSIM_WINDOW, dtype=picture.dtype) - SSIM_WINDOW // 2
    window = torch.exp(-(places**2) / (2 * SIGMA**2))
    row = (window / window.sum()).view(1, 1, 1, -1)
    return functional.conv2d(functional.conv2d(picture.unsqueeze(1), row), row.transpose(2, 3)).squeeze(1)

"""Resizes: what each filter makes of detail, and that nothing is rounded."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vtopt.benchmarks.fid.picture_distance import Resize
from vtopt.benchmarks.fid.resizing import RESIZES, resize_picture

MIDDLE = {"clean": 128.0, "legacy": 127.5}


def _draw(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("resize", list(RESIZES))
def test_a_picture_of_that_size_is_only_scaled(resize: Resize) -> None:
    picture = _draw(12, 12)
    expected = (picture.transpose(2, 0, 1).astype(np.float64) - MIDDLE[resize]) / MIDDLE[resize]
    np.testing.assert_allclose(resize_picture(picture, 12, resize), expected, atol=1e-6)


def test_legacy_skips_the_pixels_between_and_clean_does_not() -> None:
    """To a quarter of the size bilinear looks at two pixels of four in each direction."""
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, 0::4] = stripes[:, 3::4] = 255  # the columns that it does not look at
    legacy, clean = (resize_picture(stripes, 8, resize) for resize in ("legacy", "clean"))
    np.testing.assert_allclose(legacy, -1.0)
    assert abs(clean[:, 2:-2, 2:-2].mean() - (127.5 - 128) / 128) < 0.05


def test_legacy_is_bilinear_between_centres() -> None:
    """Of two pixels four: the outer are theirs, the inner lie a quarter on the way."""
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[:, 1] = 100
    row = resize_picture(picture, 4, "legacy")[0, 0] * 127.5 + 127.5
    np.testing.assert_allclose(row, [0, 25, 75, 100], atol=1e-4)


def test_clean_is_clipped_and_not_rounded() -> None:
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[:, 8:] = 255
    values = resize_picture(picture, 40, "clean") * 128 + 128
    assert values.min() == 0  # bicubic overshoots at an edge
    assert values.max() == 255
    assert np.abs(values - values.round()).max() > 0.1


@pytest.mark.parametrize("resize", list(RESIZES))
def test_any_size_becomes_a_square_of_channels(resize: Resize) -> None:
    resized = resize_picture(_draw(64, 48), 29, resize)
    assert (resized.shape, resized.dtype) == ((3, 29, 29), np.float32)

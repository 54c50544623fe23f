"""Sheets: two pictures and their difference, at sizes and colours that follow from the pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vtopt.benchmarks.quality.sheets import CAPTION_HEIGHT, GAIN, GAP, make_difference_sheet

HEIGHT, WIDTH = 32, 24


def _fill(value: float, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.full((3, height, width), value, np.float32)


def _cut_panel(sheet: Image.Image, index: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    left = index * (width + GAP)
    return np.asarray(sheet)[CAPTION_HEIGHT : CAPTION_HEIGHT + height, left : left + width]


def _to_pixel(value: float) -> int:
    return round((value + 1) * 255 / 2)


@pytest.mark.parametrize(("height", "width"), [(32, 24), (24, 32), (256, 192)])
def test_make_difference_sheet_is_three_pictures_and_two_gaps_wide_and_a_caption_higher(
    height: int, width: int
) -> None:
    sheet = make_difference_sheet(_fill(0, height, width), _fill(0, height, width), "a-b")
    assert (sheet.mode, sheet.size) == ("RGB", (3 * width + 2 * GAP, height + CAPTION_HEIGHT))


def test_make_difference_sheet_shows_the_picture_then_the_reference() -> None:
    sheet = make_difference_sheet(_fill(0.5), _fill(-1))
    assert (_cut_panel(sheet, 0) == _to_pixel(0.5)).all()
    assert (_cut_panel(sheet, 1) == _to_pixel(-1)).all()


def test_make_difference_sheet_keeps_the_channels_and_the_places() -> None:
    picture = _fill(-1)
    picture[0, 0, 0], picture[2, -1, -1] = 1, 1
    panel = _cut_panel(make_difference_sheet(picture, _fill(-1)), 0)
    assert panel[0, 0].tolist() == [255, 0, 0]
    assert panel[-1, -1].tolist() == [0, 0, 255]
    assert panel.sum() == 2 * 255


def test_make_difference_sheet_is_black_where_pictures_are_equal() -> None:
    picture = np.random.default_rng(0).uniform(-1, 1, (3, HEIGHT, WIDTH)).astype(np.float32)
    assert not _cut_panel(make_difference_sheet(picture, picture), 2).any()


@pytest.mark.parametrize(
    ("difference", "gain", "pixel"),
    [
        pytest.param(0.05, GAIN, round(GAIN * 0.05 * 255 / 2), id="a small difference is multiplied by the gain"),
        pytest.param(-0.05, GAIN, round(GAIN * 0.05 * 255 / 2), id="its sign does not matter"),
        pytest.param(0.05, 1, round(0.05 * 255 / 2), id="a gain of 1 shows it as it is"),
        pytest.param(2 / GAIN, GAIN, 255, id="2 / gain is full brightness"),
        pytest.param(1.0, GAIN, 255, id="more is not brighter"),
        pytest.param(float("nan"), GAIN, 255, id="NaN is full brightness"),
    ],
)
def test_make_difference_sheet_brightens_the_difference(difference: float, gain: int, pixel: int) -> None:
    sheet = make_difference_sheet(_fill(difference), _fill(0), gain=gain)
    assert (_cut_panel(sheet, 2) == pixel).all()


def test_make_difference_sheet_clips_and_shows_nan_as_grey() -> None:
    sheet = make_difference_sheet(_fill(7), _fill(float("nan")))
    assert (_cut_panel(sheet, 0) == 255).all()
    assert (_cut_panel(sheet, 1) == _to_pixel(0)).all()


def test_make_difference_sheet_writes_captions_above_their_own_panels() -> None:
    bare = make_difference_sheet(_fill(0), _fill(0), labels=("", ""))
    named = make_difference_sheet(_fill(0), _fill(0), "a pair of a very long name", labels=("int8", ""))
    changed = (np.asarray(bare) != np.asarray(named)).any(axis=(0, 2))
    assert changed[:WIDTH].any()  # "int8" stands above the first
    assert not changed[WIDTH : 2 * (WIDTH + GAP)].any()
    assert (np.asarray(bare)[CAPTION_HEIGHT:] == np.asarray(named)[CAPTION_HEIGHT:]).all()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param((3, 32, 24), (3, 24, 32), id="pictures of different shapes"),
        pytest.param((1, 32, 24), (1, 32, 24), id="one channel"),
        pytest.param((32, 24), (32, 24), id="no channels"),
    ],
)
def test_make_difference_sheet_refuses(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="two pictures of one shape"):
        make_difference_sheet(np.zeros(first), np.zeros(second))

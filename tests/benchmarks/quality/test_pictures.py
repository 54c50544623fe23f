"""Quality: PSNR and SSIM by formula, and what pictures that are not finite score."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vtopt.benchmarks.quality.pictures import (
    DATA_RANGE,
    SSIM_WINDOW,
    PictureScores,
    compare_pictures,
    summarize_quality,
)
from vtopt.optimize.errors import InputError

EXACT = 1e-9
"""Tolerance where float64 rounds a formula."""


def _draw(seed: int = 0, side: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (3, side, side)).astype(np.float32)


def _fill(value: float, side: int = 16) -> np.ndarray:
    return np.full((3, side, side), value, np.float32)


def _score(psnr: float, ssim: float = 1.0, max_abs: float = 0.0, rel_max: float = 0.0) -> PictureScores:
    return PictureScores(psnr, ssim, max_abs, rel_max)


def test_compare_pictures_of_equal_pictures_is_perfect() -> None:
    scores = compare_pictures(_draw(), _draw())
    assert (scores.psnr, scores.max_abs, scores.rel_max) == (math.inf, 0, 0)
    assert scores.ssim == pytest.approx(1, abs=EXACT)


@pytest.mark.parametrize("step", [0.5, 0.125, 2.0**-10])
def test_compare_pictures_measures_a_shift_of_all_values_by_formula(step: float) -> None:
    """Powers of two, so that float32 holds the difference exactly."""
    scores = compare_pictures(_fill(0.25 + step), _fill(0.25))
    assert scores.psnr == pytest.approx(10 * math.log10(DATA_RANGE**2 / step**2), abs=EXACT)
    assert scores.max_abs == step
    assert scores.rel_max == pytest.approx(step / 0.25, abs=EXACT)


def test_compare_pictures_spreads_one_wrong_value_over_all_of_them() -> None:
    picture = _fill(0)
    picture[1, 3, 5] = -1
    scores = compare_pictures(picture, _fill(0))
    assert scores.psnr == pytest.approx(10 * math.log10(DATA_RANGE**2 * picture.size / 1**2), abs=EXACT)
    assert scores.max_abs == 1


def test_compare_pictures_has_the_ssim_of_two_flat_pictures_by_formula() -> None:
    """Without variance SSIM is its luminance term, with c1 = (0.01 * range)^2."""
    a, b, c1 = 0.5, -0.25, (0.01 * DATA_RANGE) ** 2
    scores = compare_pictures(_fill(a), _fill(b))
    assert scores.ssim == pytest.approx((2 * a * b + c1) / (a**2 + b**2 + c1), abs=1e-6)


def test_compare_pictures_scores_more_noise_worse() -> None:
    noise = 0.1 * _draw(1)
    slight, strong = (compare_pictures(_draw() + factor * noise, _draw()) for factor in (1, 3))
    assert strong.psnr == pytest.approx(slight.psnr - 20 * math.log10(3), abs=1e-3)  # float32 noise
    assert strong.ssim < slight.ssim < 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["picture", "reference"])
def test_compare_pictures_scores_values_that_are_not_finite_worst_of_all(value: float, side: str) -> None:
    broken = _draw()
    broken[0, 0, 0] = value
    pictures = (broken, _draw()) if side == "picture" else (_draw(), broken)
    scores = compare_pictures(*pictures)
    assert scores == PictureScores(psnr=-math.inf, ssim=-1.0, max_abs=math.inf, rel_max=math.inf)
    assert scores.psnr < 0  # a NaN would be neither below nor above a budget


@pytest.mark.parametrize(
    ("picture", "share"),
    [pytest.param(0.0, 0.0, id="equal is 0"), pytest.param(0.5, math.inf, id="different is infinite")],
)
def test_compare_pictures_relative_to_a_reference_of_zeros(picture: float, share: float) -> None:
    assert compare_pictures(_fill(picture), _fill(0)).rel_max == share


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param((3, 16, 16), (3, 16, 12), id="shapes that differ"),
        pytest.param((1, 3, 16, 16), (1, 3, 16, 16), id="batches"),
        pytest.param((16, 16), (16, 16), id="pictures without channels"),
    ],
)
def test_compare_pictures_refuses(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"cannot be compared; make both with the same size, \(3, H, W\)"):
        compare_pictures(np.zeros(first), np.zeros(second))


def test_compare_pictures_needs_the_window_of_ssim() -> None:
    compare_pictures(_draw(side=SSIM_WINDOW), _draw(1, side=SSIM_WINDOW))
    with pytest.raises(InputError, match=f"too small to compare; make them {SSIM_WINDOW} or more"):
        compare_pictures(_draw(side=SSIM_WINDOW - 1), _draw(side=SSIM_WINDOW - 1))


def test_summarize_quality_names_the_worst_pair_and_takes_the_largest_differences() -> None:
    quality = summarize_quality(
        {
            "good": _score(50, 0.99, 0.1, 0.4),
            "bad": _score(20, 0.7, 0.3, 0.3),
            "fair": _score(30, 0.6, 0.2, 0.2),
        }
    )
    assert (quality.worst, quality.psnr_worst, quality.psnr_median) == ("bad", 20, 30)
    assert (quality.ssim_worst, quality.ssim_median) == (0.6, 0.7)  # of another pair than the worst PSNR
    assert (quality.max_abs, quality.rel_max, quality.pairs) == (0.3, 0.4, 3)


def test_summarize_quality_takes_the_lower_middle_pair_of_an_even_count() -> None:
    scores = {str(index): _score(psnr, ssim) for index, (psnr, ssim) in enumerate([(10, 0.1), (20, 0.2)] * 2)}
    quality = summarize_quality(scores)
    assert (quality.psnr_median, quality.ssim_median) == (10, 0.1)
    assert quality.worst == "0"  # the first of equals


def test_summarize_quality_of_equal_pictures_stays_infinite() -> None:
    quality = summarize_quality({"a": _score(math.inf), "b": _score(math.inf)})
    assert (quality.psnr_median, quality.psnr_worst, quality.worst) == (math.inf, math.inf, "a")


def test_summarize_quality_does_not_lose_a_broken_picture_among_good_ones() -> None:
    broken = PictureScores(psnr=-math.inf, ssim=-1.0, max_abs=math.inf, rel_max=math.inf)
    quality = summarize_quality({"a": _score(60), "broken": broken, "b": _score(60)})
    assert (quality.worst, quality.psnr_worst, quality.psnr_median) == ("broken", -math.inf, 60)
    assert (quality.ssim_worst, quality.max_abs) == (-1, math.inf)


def test_summarize_quality_refuses_no_pairs() -> None:
    with pytest.raises(InputError, match="there are no pairs to compare; give at least one"):
        summarize_quality({})

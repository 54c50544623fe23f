"""MS-SSIM: by formula, against another implementation, and with the scales that fit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vtopt.benchmarks.quality.ms_ssim import EXPONENTS, LUMINANCE_FLOOR, measure_ms_ssim
from vtopt.optimize.data.synthetic import draw_pair
from vtopt.optimize.errors import InputError


def _draw(height: int = 256, width: int = 192, seed: int = 0) -> np.ndarray:
    pixels = draw_pair(seed, (height, width)).person.transpose(2, 0, 1)
    return (pixels / 127.5 - 1).astype(np.float32)


def _add_noise(picture: np.ndarray, strength: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=picture.shape)
    return (picture + strength * noise).clip(-1, 1).astype(np.float32)


@pytest.mark.parametrize(
    ("size", "scales"),
    [((256, 192), 5), ((176, 400), 5), ((175, 400), 4), ((64, 48), 3), ((22, 22), 2), ((21, 30), 1), ((11, 11), 1)],
    ids=str,
)
def test_equal_pictures_have_1_on_as_many_scales_as_fit(size: tuple[int, int], scales: int) -> None:
    picture = np.random.default_rng(0).uniform(-1, 1, (3, *size)).astype(np.float32)
    value = measure_ms_ssim(picture, picture)
    assert value.value == pytest.approx(1, abs=1e-12)
    assert value.scales == scales


def test_it_is_about_that_of_torchmetrics() -> None:
    """Which counts windows beyond the border in the last scale."""
    torch, metrics = pytest.importorskip("torch"), pytest.importorskip("torchmetrics.functional.image")
    picture, reference = _add_noise(_draw(), 0.2), _draw()
    batch = [torch.from_numpy(array + 1).unsqueeze(0) for array in (picture, reference)]
    expected = float(metrics.multiscale_structural_similarity_index_measure(*batch, data_range=2.0))
    assert 0.5 < expected < 0.97
    assert measure_ms_ssim(picture, reference).value == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("side", [192, 48])
def test_flat_pictures_differ_in_luminance_of_the_last_scale_alone(side: int) -> None:
    a, b = 1.5, 0.75  # above black, which is -1
    pictures = [np.full((3, side, side), value - 1, np.float32) for value in (a, b)]
    value, scales = measure_ms_ssim(*pictures)
    exponent = EXPONENTS[scales - 1] * sum(EXPONENTS) / sum(EXPONENTS[:scales])
    luminance = (2 * a * b + LUMINANCE_FLOOR) / (a**2 + b**2 + LUMINANCE_FLOOR)
    assert value == pytest.approx(luminance**exponent, rel=1e-6)


@pytest.mark.parametrize("size", [(256, 192), (64, 48)], ids=str)
def test_noise_makes_it_worse(size: tuple[int, int]) -> None:
    values = [measure_ms_ssim(_add_noise(_draw(*size), strength), _draw(*size)).value for strength in (0.4, 0.1, 0.02)]
    assert 0 < values[0] < values[1] < values[2] < 1


def test_a_negative_is_not_alike() -> None:
    assert measure_ms_ssim(-_draw(), _draw()).value == 0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_not_alike(value: float) -> None:
    broken = _draw(64, 48)
    broken[0, 0, 0] = value
    assert measure_ms_ssim(broken, _draw(64, 48)) == (0.0, 3)
    assert measure_ms_ssim(_draw(64, 48), broken) == (0.0, 3)


def test_pictures_that_do_not_compare_are_refused() -> None:
    with pytest.raises(InputError, match=r"cannot be compared; make both with the same size, \(3, H, W\)"):
        measure_ms_ssim(np.zeros((3, 16, 16)), np.zeros((3, 16, 12)))
    with pytest.raises(InputError, match="too small to compare; make them 11 or more"):
        measure_ms_ssim(np.zeros((3, 16, 10)), np.zeros((3, 16, 10)))

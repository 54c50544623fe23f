"""LPIPS: files of torchvision's layout with random weights, and its formula written out."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from seeded_lpips import Weights, draw_weights, save_weights
from torch import Tensor
from torch.nn import functional as F

from vtopt.benchmarks.quality.lpips import SCALE, SHIFT, load_lpips, measure_lpips
from vtopt.optimize.errors import InputError


def _draw_picture(seed: int, height: int = 48, width: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (3, height, width)).astype(np.float32)


def test_it_is_the_formula_on_alexnet(tmp_path: Path) -> None:
    trunk, linear = draw_weights("alex")
    pictures = [_draw_picture(seed) for seed in (0, 1)]

    def look(picture: np.ndarray) -> list[Tensor]:
        def conv(place: int, x: Tensor, **more: int) -> Tensor:
            return F.conv2d(x, trunk[f"features.{place}.weight"], trunk[f"features.{place}.bias"], **more).relu()

        x = (torch.from_numpy(picture)[None] - torch.tensor(SHIFT).view(3, 1, 1)) / torch.tensor(SCALE).view(3, 1, 1)
        first = conv(0, x, stride=4, padding=2)
        second = conv(3, F.max_pool2d(first, 3, 2), padding=2)
        third = conv(6, F.max_pool2d(second, 3, 2), padding=1)
        fourth = conv(8, third, padding=1)
        return [F.normalize(x, dim=1) for x in (first, second, third, fourth, conv(10, fourth, padding=1))]

    expected = sum(
        float(((one - other) ** 2 * linear[f"lin{index}.model.1.weight"]).sum(1).mean())
        for index, (one, other) in enumerate(zip(*map(look, pictures), strict=True))
    )
    network = load_lpips(*save_weights((trunk, linear), tmp_path))
    assert network.name == "alex"
    assert measure_lpips(network, *pictures) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["alex", "vgg"])
def test_it_is_0_for_equal_pictures_and_grows_with_noise(name: str, tmp_path: Path) -> None:
    network = load_lpips(*save_weights(draw_weights(name), tmp_path))
    assert network.name == name
    picture, noise = _draw_picture(0), _draw_picture(1)
    values = [measure_lpips(network, picture + strength * noise, picture) for strength in (0, 0.1, 0.3, 1)]
    assert values[0] == 0
    assert values == sorted(values)
    assert values[1] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda trunk, linear: trunk.pop("features.8.bias"),
            r"trunk\.pth: is not torchvision's alexnet or vgg16: features\.8\.bias is missing",
            id="a layer is missing",
        ),
        pytest.param(
            lambda trunk, linear: trunk.update({"features.0.weight": torch.ones(2, 3, 3, 3)}),
            r"trunk\.pth: is not torchvision's alexnet or vgg16; save",
            id="another network",
        ),
        pytest.param(
            lambda trunk, linear: linear.update({"lin1.model.1.weight": torch.ones(1, 128, 1, 1)}),
            r"linear\.pth: is not the LPIPS weights of alex: lin1\.model\.1\.weight is \[1, 128, 1, 1\], not \[1, 192",
            id="linear weights of vgg",
        ),
        pytest.param(
            lambda trunk, linear: linear.pop("lin4.model.1.weight"),
            r"linear\.pth: .*lin4\.model\.1\.weight is missing.*v0\.1/alex\.pth",
            id="a linear layer is missing",
        ),
        pytest.param(
            lambda trunk, linear: linear["lin0.model.1.weight"].fill_(torch.nan), "NaN or infinite values", id="NaN"
        ),
    ],
)
def test_other_weights_are_refused(change: Callable[[Weights, Weights], object], message: str, tmp_path: Path) -> None:
    weights = draw_weights("alex")
    change(*weights)
    with pytest.raises(InputError, match=message):
        load_lpips(*save_weights(weights, tmp_path))


def test_pictures_that_do_not_compare_are_refused_and_broken_ones_infinite(tmp_path: Path) -> None:
    network = load_lpips(*save_weights(draw_weights("alex"), tmp_path))
    with pytest.raises(InputError, match="cannot be compared; make both with the same size"):
        measure_lpips(network, _draw_picture(0), _draw_picture(0, 40))
    with pytest.raises(InputError, match="too small for LPIPS; make them 32 or more"):
        measure_lpips(network, *[_draw_picture(0, 31)] * 2)
    assert measure_lpips(network, *[_draw_picture(0, 32, 32)] * 2) == 0
    broken = _draw_picture(0)
    broken[0, 0, 0] = math.nan
    assert measure_lpips(network, broken, _draw_picture(0)) == math.inf

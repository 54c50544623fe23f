"""An export is as near to its network as the network is to itself."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vtopt.optimize import rounding
from vtopt.optimize.errors import DifferenceError
from vtopt.optimize.networks import InputSpec, Network
from vtopt.optimize.rounding import compare_rounded, require_export_close
from vtopt.optimize.verify import Difference

PICTURE = np.full((3, 8, 6), 0.9, np.float32)
STEADY = Difference(1, 140.0, 140.0, 1.0, 1e-6, 1e-6, "anna-shirt", (PICTURE, PICTURE))
DECIDING = replace(STEADY, psnr_worst_db=63.0, max_abs=0.7, max_relative=0.7)


def _require(difference: Difference, own: Difference, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(rounding, "compare_rounded", lambda source, **asked: own)
    return require_export_close(difference, 1e-4, Path("in.pth"), Path("out.onnx"), pair_count=1)


def test_what_is_within_the_tolerance_needs_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _require(replace(STEADY, max_relative=9.9e-5), DECIDING, monkeypatch) == ""


def test_a_network_that_decides_otherwise_by_itself_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    notice = _require(replace(DECIDING, max_abs=0.72, max_relative=0.72), DECIDING, monkeypatch)
    assert notice == (
        "pictures differ from the network's by 0.72 of their largest value at most, 63 dB over all pixels; the network "
        "is not steadier: it differs from itself by 0.7 (63 dB) when the last bit of its inputs changes"
    )


FAINT = replace(DECIDING, max_abs=0.007, worst_pictures=(PICTURE / 100, PICTURE / 100))
LOUD = replace(DECIDING, psnr_worst_db=12.0, max_abs=0.7 * 244)
"""Beside a picture that is another, an output of numbers up to 244."""


@pytest.mark.parametrize(
    ("difference", "own"),
    [
        pytest.param(DECIDING, STEADY, id="the network is steady"),
        pytest.param(replace(DECIDING, psnr_worst_db=59.0), DECIDING, id="it can be seen"),
        pytest.param(LOUD, DECIDING, id="another output is large"),
        pytest.param(FAINT, DECIDING, id="it could be seen, were the picture not faint"),
        pytest.param(replace(STEADY, max_abs=math.inf, max_relative=math.inf), DECIDING, id="not finite"),
        pytest.param(replace(STEADY, max_abs=math.nan, max_relative=math.nan), DECIDING, id="NaN"),
    ],
)
def test_any_other_difference_is_refused(
    difference: Difference, own: Difference, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DifferenceError, match=r"^out\.onnx: pictures differ from the input's by .*nothing was written"):
        _require(difference, own, monkeypatch)


class _Deciding(nn.Module):
    """Paint by whole numbers from what lies in the middle between two: the last bit decides."""

    def __init__(self) -> None:
        super().__init__()
        self.strength = nn.Conv2d(3, 3, 1, bias=False)
        self.strength.weight.data = 127.5 * torch.eye(3).view(3, 3, 1, 1)

    def forward(self, person: Tensor, clothes: Tensor) -> Tensor:
        return torch.where(self.strength(person).round() % 2 == 0, person, clothes)


class _Smooth(_Deciding):
    def forward(self, person: Tensor, clothes: Tensor) -> Tensor:
        return self.strength(person + clothes) / 255


def _build(module: nn.Module) -> Network:
    return Network(module, (InputSpec("person"), InputSpec("clothes")), size=(64, 48))


def build_deciding() -> Network:
    return _build(_Deciding())


def build_smooth() -> Network:
    return _build(_Smooth())


@pytest.mark.parametrize(("factory", "low", "high"), [("build_deciding", 0.1, 2.0), ("build_smooth", 1e-9, 1e-6)])
def test_the_last_bit_shows_what_a_network_decides(factory: str, low: float, high: float, tmp_path: Path) -> None:
    torch.save(_Smooth().state_dict(), path := tmp_path / "net.pth")
    network = f"{__name__}:{factory}"
    found = compare_rounded(path, pair_count=2, network=network)
    assert low < found.max_relative < high
    assert compare_rounded(path, pair_count=2, network=network).max_relative == found.max_relative

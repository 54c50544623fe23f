"""Which pairs are calibrated on and which compared: what recipes calibrate on is not compared, as far as there are."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_registered import build_small

from vtopt.benchmarks.peers.task import HELD_OUT, PeersTask, choose_pairs
from vtopt.optimize.data.pairs import Pair
from vtopt.optimize.quantize import quantize_onnx


def _write_pairs(folder: Path, count: int) -> Path:
    for number in range(count):
        for name in ("test_img", "test_clothes"):
            path = folder / name / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((16, 12, 3), number, np.uint8)).save(path)
    return folder


def _task(pairs: Path | None, count: int) -> PeersTask:
    return PeersTask(build_small("sdafn_plus_tiny"), pairs, count)


def _number(pairs: Sequence[Pair]) -> list[int]:
    return [int(pair.name.partition("-")[0]) for pair in pairs]


def test_so_many_pairs_are_held_out_as_recipes_hold_out() -> None:
    assert inspect.signature(quantize_onnx).parameters["pair_count"].default == HELD_OUT


def test_drawn_pairs_that_are_compared_are_others_than_those_of_steps() -> None:
    chosen = choose_pairs(_task(None, 2))
    assert [pair.name for pair in chosen.compared] == ["drawn-001000", "drawn-001001"]
    assert [pair.name for pair in chosen.calibration] == [f"drawn-{seed}" for seed in range(500_000, 500_016)]
    assert not chosen.notices


@pytest.mark.parametrize(("count", "compared"), [(3, [0, 1, 2]), (6, [0, 1, 2, 3, 20, 21])])
def test_pairs_of_a_folder_are_compared_or_calibrated_on(tmp_path: Path, count: int, compared: list[int]) -> None:
    chosen = choose_pairs(_task(_write_pairs(tmp_path, 22), count))
    assert _number(chosen.compared) == compared
    assert _number(chosen.calibration) == [*range(4, 20)]
    assert not chosen.notices


def test_a_folder_with_too_few_pairs_is_told(tmp_path: Path) -> None:
    chosen = choose_pairs(_task(_write_pairs(tmp_path, 7), 6))
    assert _number(chosen.compared) == [0, 1, 2, 3, 4, 5]
    assert any("2 of 6 compared ones were calibrated on as well" in notice for notice in chosen.notices)

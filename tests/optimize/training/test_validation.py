"""Validation: PSNR by its formula, against truth or teacher."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vtopt.optimize.data.pairs import Pair
from vtopt.optimize.networks import Network
from vtopt.optimize.training.batches import feed_batch, pair_to_batch
from vtopt.optimize.training.validation import make_validation, measure_psnr


def test_psnr_has_a_data_range_of_two() -> None:
    picture = torch.zeros(1, 3, 4, 4)
    assert measure_psnr(picture + 0.5, picture) == pytest.approx(10 * math.log10(2**2 / 0.5**2))
    assert measure_psnr(picture, picture) == 100.0
    assert measure_psnr(picture * math.nan, picture) == -100.0


def _make_pair(seed: int) -> Pair:
    draw = np.random.default_rng(seed)
    person, clothes, truth = draw.uniform(-1, 1, (3, 3, 8, 4)).astype(np.float32)
    return Pair(str(seed), person, clothes, None, truth)


@pytest.mark.parametrize("truth", [True, False])
def test_the_score_is_the_mean_over_the_pairs(truth: bool, student: Network, teacher: Network) -> None:
    pairs = [_make_pair(seed) for seed in range(3)]
    expected = []
    for pair in pairs:
        batch = {name: tensor[None] for name, tensor in pair_to_batch(pair).items()}
        made, other = (net.module(*feed_batch(net.inputs, batch)).clamp(-1, 1) for net in (student, teacher))
        expected.append(measure_psnr(made.detach(), batch["truth"] if truth else other.detach()))
    validate = make_validation(student, teacher, pairs, "cpu", truth=truth)
    assert validate(student.module) == validate(student.module) == pytest.approx(sum(expected) / 3)
    assert len(set(expected)) == 3

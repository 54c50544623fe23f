"""Rounding in training: the numbers of the int8 file, and gradients that lead ranges to what serves them best."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vtopt.optimize.cpu_target import TARGETS
from vtopt.optimize.int8.qdq import make_grid, quantize_weight
from vtopt.optimize.int8.ranges import Range
from vtopt.optimize.training.int8_rounding import RoundedTensor, round_weight
from vtopt.optimize.training.state import start_training


@pytest.mark.parametrize(
    "ends",
    [
        pytest.param((-1.0, 1.0), id="zero in the middle"),
        pytest.param((0.0, 2.7), id="from zero up"),
        pytest.param((-3.1, 0.0), id="up to zero"),
        pytest.param((-0.013, 0.9), id="zero near an end"),
        pytest.param((0.0, 0.0), id="zeros alone"),
    ],
)
def test_numbers_are_those_of_the_file(ends: tuple[float, float]) -> None:
    numbers = 8 * torch.rand(4000, generator=torch.Generator().manual_seed(0)) - 4
    low, high = (float(np.float32(end)) for end in ends)
    grid = make_grid(Range(low, high), TARGETS["vnni"])
    step, zero = float(grid.step), int(grid.zero)
    integers = np.rint(numbers.numpy() / grid.step).astype(np.float64) + zero
    expected = (integers.clip(0, 255) - zero) * step
    assert np.allclose(RoundedTensor(low, high)(numbers).detach().numpy(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("target", ["avx2", "vnni"])
def test_weights_are_those_of_the_file(target: str) -> None:
    weight = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    weight[2] = 0
    cpu = TARGETS[target]
    made = quantize_weight(weight.numpy(), None, None, np.float32(1), cpu)
    expected = made.values * made.steps[:, None, None, None]
    assert np.allclose(round_weight(weight, 64 if cpu.reduce_range else 127).numpy(), expected, rtol=1e-6, atol=0)


def test_rounding_commutes_with_a_folded_batch_norm() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, factor = torch.randn(6, 4, 3, 3, generator=generator), torch.randn(6, 1, 1, 1, generator=generator)
    assert torch.allclose(round_weight(weight * factor, 127), round_weight(weight, 127) * factor, atol=1e-6)


@pytest.mark.parametrize(
    ("ends", "spread"),
    [pytest.param((-9.0, 9.0), 1.0, id="too wide"), pytest.param((-0.4, 0.4), 1.0, id="too narrow")],
)
def test_a_range_learns_to_lose_less(ends: tuple[float, float], spread: float) -> None:
    numbers = spread * torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    rounded = RoundedTensor(*ends)
    optimizer = torch.optim.Adam(rounded.parameters(), lr=0.002)
    errors = []
    for _ in range(100):
        error = F.mse_loss(rounded(numbers), numbers)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert errors[-1] < errors[0] / 2


def test_small_gradients_move_a_range_as_far_as_large_ones() -> None:
    numbers = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    moved = []
    for factor in (1, 1e-3):
        rounded = RoundedTensor(-9, 9)
        training = start_training(rounded, 0.002, "cpu")
        (factor * F.mse_loss(rounded(numbers), numbers)).backward()
        assert rounded.growth.grad is not None
        assert (rounded.growth.grad.abs() < 1e-8).all() == (factor < 1)
        training.optimizer.step()
        moved.append(rounded.growth.detach())
    assert torch.allclose(*moved, rtol=0.01)


def test_an_end_at_zero_stays_there() -> None:
    rounded = RoundedTensor(0.0, 1.0)
    rounded(torch.randn(100)).square().sum().backward()
    assert rounded.growth.grad is not None
    assert rounded.growth.grad[0] == 0
    assert rounded.growth.grad[1] != 0


def test_gradients_pass_where_nothing_is_cut_off() -> None:
    numbers = torch.tensor([-2.0, -0.5, 0.3, 2.0], requires_grad=True)
    RoundedTensor(-1.0, 1.0)(numbers).sum().backward()
    assert numbers.grad is not None
    assert numbers.grad.tolist() == [0, 1, 1, 0]

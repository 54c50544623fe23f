"""Second-order smoothness: the formula on flows whose second differences are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vtopt.optimize.networks.warping import offsets_to_grids
from vtopt.optimize.training.smoothness import EPSILON, EXPONENT, measure_grid_bend, measure_second_order


def _penalty(x: float) -> float:
    return (x * x + EPSILON**2) ** EXPONENT


def _make_flow(across: Tensor, down: Tensor) -> Tensor:
    return torch.stack(torch.broadcast_tensors(across, down))[None].double()


ROWS, COLUMNS = torch.arange(6.0)[:, None], torch.arange(5.0)[None]


@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        pytest.param(_make_flow(3 * COLUMNS + ROWS, -2 * ROWS), _penalty(0), id="stretched and sheared, but straight"),
        pytest.param(
            _make_flow(COLUMNS**2 / 2, 0 * ROWS), (3 * _penalty(1) + 5 * _penalty(0)) / 8, id="bent along rows"
        ),
        pytest.param(
            _make_flow(0 * COLUMNS, 2 * ROWS**2), (3 * _penalty(4) + 5 * _penalty(0)) / 8, id="bent along columns"
        ),
        pytest.param(
            _make_flow(COLUMNS * ROWS, 0 * ROWS), (2 * _penalty(2) + 6 * _penalty(0)) / 8, id="bent along diagonals"
        ),
    ],
)
def test_second_order_is_the_formula(flow: Tensor, expected: float) -> None:
    assert float(measure_second_order(flow)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("size", [(2, 9), (9, 2), (1, 1)])
def test_a_flow_without_second_differences_costs_nothing(size: tuple[int, int]) -> None:
    assert float(measure_second_order(torch.randn(1, 2, *size))) == 0.0


def test_grids_are_measured_in_pixels() -> None:
    straight = offsets_to_grids(torch.zeros(1, 2, 6, 8))
    assert float(measure_grid_bend(straight)) == pytest.approx(_penalty(0), rel=0.05)
    bent = straight.clone()
    bent[:, 0] += (torch.arange(8.0) ** 2 / 2) * 2 / 8  # of the 8 pixels across, as a grid has them
    assert float(measure_grid_bend(bent)) == pytest.approx((3 * _penalty(1) + 5 * _penalty(0)) / 8, rel=1e-3)


def test_smoothness_can_be_learned() -> None:
    generator = torch.Generator().manual_seed(0)
    flow = torch.randn(1, 2, 12, 9, generator=generator).requires_grad_()
    optimizer = torch.optim.Adam([flow], lr=0.1)
    losses = []
    for _ in range(30):
        loss = measure_second_order(flow)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]

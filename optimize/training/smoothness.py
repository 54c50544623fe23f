"""How smooth a flow is: the second-order smoothness of a try-on warp."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["measure_grid_bend", "measure_second_order"]

EXPONENT = 0.45
EPSILON = 1e-3


def measure_second_order(flow: Tensor) -> Tensor:
    """Return the mean penalty on second differences of a flow (N, 2, H, W), in pixels; a scalar.

    Each place t and each of its four pairs of opposite neighbours, along rows, columns and both diagonals, pays
    P(f(t - p) + f(t + p) - 2 f(t)) with the generalised Charbonnier penalty P(x) = (x^2 + 1e-6) ^ 0.45. Straight
    flows, however steep, pay next to nothing, so cloth may stretch and turn but not crumple.

    Ge et al., "Parser-Free Virtual Try-on via Distilling Appearance Flows", CVPR 2021
    (https://arxiv.org/abs/2103.04559), equation 4. A flow narrower than three pixels has no second differences
    and costs nothing.
    """
    if min(flow.shape[2:]) < 3:
        return flow.new_zeros(())
    middle = flow[:, :, 1:-1, 1:-1]
    around = (
        (flow[:, :, 1:-1, :-2], flow[:, :, 1:-1, 2:]),
        (flow[:, :, :-2, 1:-1], flow[:, :, 2:, 1:-1]),
        (flow[:, :, :-2, :-2], flow[:, :, 2:, 2:]),
        (flow[:, :, :-2, 2:], flow[:, :, 2:, :-2]),
    )
    penalties = [((before + after - 2 * middle).square() + EPSILON**2) ** EXPONENT for before, after in around]
    return torch.stack([penalty.mean() for penalty in penalties]).mean()


def measure_grid_bend(grids: Tensor) -> Tensor:
    """Return `measure_second_order` of normalised sampling grids (M, 2, H, W), x before y in [-1, 1].

    A grid is a flow and the pixels' own places, which have no second differences.
    """
    height, width = grids.shape[2:]
    pixels = grids.new_tensor([width / 2, height / 2]).view(1, 2, 1, 1)
    return measure_second_order(grids * pixels)

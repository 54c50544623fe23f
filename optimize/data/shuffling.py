"""Pairs over and over, in an order by seed and position alone: a resumed training sees what it would have seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["shuffle_pairs"]


def shuffle_pairs(position: int, count: int, seed: int) -> tuple[NDArray[np.intp], int, np.random.Generator]:
    """Return the order of `count` pairs the time around that `position` falls in, its place there, and its own draws.

    Positions count on from one time around to the next; each has its own order.
    """
    epoch, place = divmod(position, count)
    order = np.random.default_rng((seed, epoch)).permutation(count)
    return order, place, np.random.default_rng((seed, epoch, place))

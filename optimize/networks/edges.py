"""The garment's edge, as networks are given it."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["EDGE_THRESHOLD", "cut_edge"]

EDGE_THRESHOLD = 0.5


def cut_edge(edge: Tensor) -> Tensor:
    """Return 1 where an edge (N, 1, H, W) is above a half, and 0 where it is not."""
    # A cast from bool to float would stay float32 in a float16 graph, beside what is not.
    return torch.where(edge > EDGE_THRESHOLD, 1.0, 0.0).to(edge.dtype)

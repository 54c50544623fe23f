"""How good the pictures of a network in training are: PSNR on pairs it never learns from."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from .batches import feed_batch, list_pictures, pair_to_batch
from .targets import make_picture

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..data.pairs import Pair
    from ..networks import Network

__all__ = ["make_validation", "measure_psnr"]

MOST_PSNR = 100.0
"""Equal pictures have this: JSON knows no infinity."""


def make_validation(
    student: Network, teacher: Network | None, pairs: Sequence[Pair], device: Any, *, truth: bool
) -> Callable[[nn.Module], float]:
    """Return the function that scores a student's module: the mean PSNR of its pictures, in dB.

    The mean tells near networks apart on fewer pairs than the median, which moves with the one or two in the middle.
    They are compared with the truth of the pairs, or without `truth` with the teacher's pictures, made once.
    """
    network = student if truth or teacher is None else teacher
    pictures = list_pictures(student, network)
    wanted: dict[int, Tensor] = {}

    @torch.no_grad()
    def validate(module: nn.Module) -> float:
        scores = []
        for index in range(len(pairs)):
            batch = {name: tensor[None].to(device) for name, tensor in pair_to_batch(pairs[index], pictures).items()}
            if not truth and index not in wanted:
                wanted[index] = make_picture(network.module, feed_batch(network.inputs, batch))
            reference = batch["truth"] if truth else wanted[index]
            scores.append(measure_psnr(make_picture(module, feed_batch(student.inputs, batch)), reference))
        return statistics.fmean(scores)

    return validate


def measure_psnr(picture: Tensor, reference: Tensor) -> float:
    """Return the PSNR in dB of a picture in [-1, 1] over all its values: 100 at most, -100 for NaN."""
    error = float((picture.double() - reference.double()).square().mean())
    if not math.isfinite(error):
        return -MOST_PSNR
    return min(10 * math.log10(4 / error), MOST_PSNR) if error else MOST_PSNR

"""What is measured of one network beside its peers: the pairs that all are calibrated on, and those compared on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...optimize.int8.request import CALIBRATION_COUNT

if TYPE_CHECKING:
    from ...optimize.data.pairs import Pair
    from ...optimize.networks import Network

__all__ = ["OLIVE_SECONDS", "ChosenPairs", "PeersTask", "choose_pairs"]

HELD_OUT = 4
"""So many of a folder's first pairs `vtopt quantize --int8` keeps to compare on, where it is not told."""

COMPARED_SEED = 1000
"""Drawn pairs to compare on start here: the steps of a recipe draw theirs from 0 and from 500,000 on."""

OLIVE_SECONDS = 600.0


@dataclass(frozen=True)
class PeersTask:
    """One network, and how it is measured; pictures have the network's own size."""

    network: Network
    pairs: Path | None = None
    pair_count: int = 20
    threads: int = 2
    runs: int = 10
    warmup: int = 2
    olive: str = "olive"
    """Its executable: a name on PATH, or a path."""
    olive_seconds: float = OLIVE_SECONDS
    """How long one of its commands may take."""


@dataclass(frozen=True)
class ChosenPairs:
    """The pairs that forms are compared on, those that peers are calibrated on, and what is to be said of them."""

    compared: Sequence[Pair]
    calibration: Sequence[Pair]
    notices: tuple[str, ...] = ()


def choose_pairs(task: PeersTask) -> ChosenPairs:
    """Choose the pairs to calibrate on as vtopt's recipes do, and others to compare on, as far as there are.

    A folder's pairs 5 to 20 are calibrated on. Compared are the first four, those from the 21st on, and, with a notice,
    the others where these are fewer than asked for.
    """
    from ...optimize.data.pairs import open_pairs
    from ...optimize.int8.pairs import choose_calibration_pairs

    size = task.network.size
    calibration, notices = choose_calibration_pairs(task.pairs, size, CALIBRATION_COUNT, HELD_OUT)
    if task.pairs is None:
        return ChosenPairs(open_pairs(None, size, task.pair_count, seed=COMPARED_SEED), calibration, notices)
    everything = open_pairs(task.pairs, size)
    end = HELD_OUT + CALIBRATION_COUNT
    order = [*range(HELD_OUT), *range(end, len(everything)), *range(HELD_OUT, end)]
    chosen = [index for index in order if index < len(everything)][: task.pair_count]
    both = sum(HELD_OUT <= index < end for index in chosen)
    if both:
        notices += (f"{task.pairs} has few pairs: {both} of {len(chosen)} compared ones were calibrated on as well",)
    return ChosenPairs([everything[index] for index in chosen], calibration, notices)

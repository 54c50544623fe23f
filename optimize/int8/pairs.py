"""Which pairs int8 is calibrated on: others than its pictures are compared on, where there are enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.pairs import Pair, open_pairs
from ..errors import InputError
from ..progress import track
from .limits import NEVER, Deadline

if TYPE_CHECKING:
    from ...benchmarks.engines.engine import Engine
    from .calibration import Feeds

__all__ = ["CALIBRATION_SEED", "choose_calibration_pairs", "feed_calibration"]

CALIBRATION_SEED = 500_000
"""Drawn calibration pairs start here; those that outputs are compared on start at 0."""


def choose_calibration_pairs(
    folder: Path | None, size: tuple[int, int], count: int, held_out: int
) -> tuple[Sequence[Pair], tuple[str, ...]]:
    """Return up to `count` pairs to calibrate on, apart from the `held_out` compared on.

    A folder with no more pairs than `held_out` gives them all, and a notice that says so; so is said when there is
    one only.
    """
    if folder is None:
        return open_pairs(None, size, count, seed=CALIBRATION_SEED), ()
    everything = open_pairs(folder, size)
    notices: tuple[str, ...] = ()
    if len(everything) > held_out:
        chosen = everything[held_out : held_out + count]
        if len(chosen) < count:
            few = f"{folder} leaves {len(chosen)} of {count} pairs to calibrate on, the others are compared on"
            notices = (few,)
    else:
        chosen = everything[:count]
        notices = (f"{folder} has only {len(everything)} pairs: int8 was calibrated on the pairs it is compared on",)
    if len(chosen) == 1 and count > 1:
        notices += ("int8 was calibrated on one pair only: other pictures may leave its ranges; give 16 or more",)
    return chosen, notices


def feed_calibration(
    engine: Engine, pairs: Sequence[Pair], notices: list[str], deadline: Deadline = NEVER
) -> Iterator[Feeds]:
    """Yield the engine's inputs for each pair, with progress; `notices` gets a line of pairs that show nothing.

    Past the deadline no more follow the first. Raises InputError where all of them are of one colour: their ranges
    would cut off real pictures.
    """
    from ...benchmarks.engines.feeds import feed_pair

    plain, telling = [], 0
    for pair in track(pairs, "calibrate", total=len(pairs)):
        if all((picture.max((1, 2)) == picture.min((1, 2))).all() for picture in (pair.person, pair.clothes)):
            plain.append(pair.name)
        else:
            telling += 1
        yield feed_pair(engine, pair)
        if not deadline.left():
            break
    if plain and not telling:
        raise InputError("calibration: every pair is of one colour; calibrate on pictures like those to come")
    if plain:
        notices.append(f"calibrated on {len(plain)} pairs of one colour ({plain[0]}), which say nothing")

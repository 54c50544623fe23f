"""How far one form's pictures are from the reference's, and from the truth, over all pairs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..engines.engine import Engine
from ..engines.feeds import feed_pair, take_picture
from ..quality.pictures import DATA_RANGE, PictureScores, compare_pictures, summarize_quality

if TYPE_CHECKING:
    from ...optimize.data.pairs import Pair

__all__ = ["WorstPair", "make_pictures", "measure_pictures", "scale_psnr"]


class WorstPair(NamedTuple):
    """The pair that a form is furthest from the reference on, and both pictures, (3, H, W) in [-1, 1]."""

    pair: str
    picture: np.ndarray
    reference: np.ndarray


def make_pictures(engine: Engine, pairs: Sequence[Pair]) -> list[np.ndarray]:
    """Return what an engine makes of each pair, (3, H, W) in [-1, 1]; raises InputError where it fails."""
    return [take_picture(engine, engine.run(feed_pair(engine, pair))) for pair in pairs]


def measure_pictures(
    engine: Engine, pairs: Sequence[Pair], references: Sequence[np.ndarray]
) -> tuple[dict[str, Any], WorstPair]:
    """Return the figures of an engine's pictures held against the references, and the worst of the pairs.

    The PSNR to the truth is None where not every pair has one. Raises InputError where the engine fails.
    """
    scores: dict[str, PictureScores] = {}
    truth: list[float] = []
    in_range: list[float] = []
    shown: WorstPair | None = None
    least = math.inf
    for pair, reference in zip(pairs, references, strict=True):
        picture = take_picture(engine, engine.run(feed_pair(engine, pair)))
        scores[pair.name] = score = compare_pictures(picture, reference)
        in_range.append(scale_psnr(score.psnr, reference))
        if pair.truth is not None:
            truth.append(compare_pictures(picture, pair.truth).psnr)
        if shown is None or score.psnr < least:
            least, shown = score.psnr, WorstPair(pair.name, picture, reference)
    quality = summarize_quality(scores)
    assert shown is not None
    figures = {
        "PSNR dB": quality.psnr_median,
        "worst dB": quality.psnr_worst,
        "of range dB": statistics.median_low(in_range),
        "SSIM": quality.ssim_median,
        "worst pair": quality.worst,
        "truth PSNR dB": statistics.median_low(truth) if len(truth) == len(pairs) else None,
    }
    return figures, shown


def scale_psnr(psnr: float, reference: np.ndarray) -> float:
    """Return a PSNR with the reference's own range, from its least to its largest value, in place of 2.

    Pictures of random weights are faint: to the range of 2 any two of them are equal.
    """
    spread = float(reference.max() - reference.min())
    return psnr + 20 * math.log10(spread / DATA_RANGE) if spread and math.isfinite(psnr) else psnr

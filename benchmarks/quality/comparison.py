"""Run models on pairs and compare what they make: with the pictures of the first model, and with the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ...optimize.errors import InputError
from ...optimize.progress import track
from ..engines.engine import Engine
from ..engines.feeds import feed_pair, take_picture
from ..engines.sets import Key
from .ms_ssim import measure_ms_ssim
from .pictures import PictureScores, Quality, compare_pictures, summarize_quality

if TYPE_CHECKING:
    import numpy as np

    from ...optimize.data.pairs import Pair
    from .lpips import Lpips

__all__ = ["UNCHANGED", "Compared", "ShownPair", "compare_by_all", "compare_models", "show_pairs"]

UNCHANGED = "(person unchanged)"
"""The trivial answer; a model that puts nothing on the person scores like it."""

Role = Literal["worst", "median"]


@dataclass(frozen=True)
class Compared:
    """How far every model's pictures are from the first's, and from the truth where pairs have it."""

    to_first: Mapping[Key, Quality]
    to_truth: Mapping[Any, Quality]
    """By model and runtime, and for `UNCHANGED`; empty without a truth."""


@dataclass(frozen=True)
class ShownPair:
    """A pair on which a model's picture is shown beside the first model's, both (3, H, W) in [-1, 1]."""

    role: Role
    pair: str
    psnr: float
    picture: np.ndarray
    reference: np.ndarray


def compare_models(
    engines: Mapping[Key, Engine],
    pairs: Sequence[Pair],
    *,
    compare: Callable[[np.ndarray, np.ndarray], PictureScores] = compare_pictures,
    watch: Callable[[Key, np.ndarray], None] = lambda key, picture: None,
    drop: Callable[[Key, InputError], None] | None = None,
) -> Compared:
    """Run every engine on every pair, once, and compare the pictures; two are in memory at a time.

    `compare` scores a picture and its reference; `watch` is shown every picture, (3, H, W) in [-1, 1]. An engine other
    than the first that fails, or whose picture cannot be compared, is left out and told to `drop`.

    Raises InputError for the first engine, and for any without `drop`.
    """
    first, *others = engines
    to_first: dict[Key, dict[str, PictureScores]] = {key: {} for key in engines}
    to_truth: dict[Any, dict[str, PictureScores]] = {}

    def judge(key: Key, picture: np.ndarray, reference: np.ndarray, pair: Pair) -> None:
        watch(key, picture)
        to_first[key][pair.name] = compare(picture, reference)
        if pair.truth is not None:
            to_truth.setdefault(key, {})[pair.name] = compare(picture, pair.truth)

    for pair in track(pairs, "compare pictures", total=len(pairs)):
        reference = _make_picture(engines[first], pair)
        judge(first, reference, reference, pair)
        for key in (key for key in others if key in to_first):
            try:
                judge(key, _make_picture(engines[key], pair), reference, pair)
            except InputError as error:
                if drop is None:
                    raise
                drop(key, error)
                to_first.pop(key)
                to_truth.pop(key, None)
        if pair.truth is not None:
            to_truth.setdefault(UNCHANGED, {})[pair.name] = compare(pair.person, pair.truth)
    return Compared(
        {key: summarize_quality(scores) for key, scores in to_first.items()},
        {key: summarize_quality(scores) for key, scores in to_truth.items()},
    )


def compare_by_all(picture: np.ndarray, reference: np.ndarray, *, lpips: Lpips | None = None) -> PictureScores:
    """Compare a picture with its reference, both (3, H, W) in [-1, 1], by all measures; LPIPS where it is given.

    MS-SSIM takes half the time of the others. Raises InputError for pictures of different shapes, or too small.
    """
    scores = compare_pictures(picture, reference)
    structure = measure_ms_ssim(picture, reference)
    scores = replace(scores, ms_ssim=structure.value, ms_ssim_scales=structure.scales)
    if lpips is None:
        return scores
    from .lpips import measure_lpips

    return replace(scores, lpips=measure_lpips(lpips, picture, reference))


def show_pairs(
    engines: Mapping[Key, Engine], pairs: Iterable[Pair], to_first: Mapping[Key, Quality]
) -> dict[Key, tuple[ShownPair, ...]]:
    """Return the worst and the median pair of every model whose pictures differ from the first's, made anew.

    Where one pair is both it is shown once, as the worst. Engines that `to_first` lacks are left out.
    """
    first = next(iter(engines))
    named = {pair.name: pair for pair in pairs}
    shown: dict[Key, tuple[ShownPair, ...]] = {}
    for key in (key for key in engines if key in to_first):
        quality = to_first[key]
        if key == first or not quality.max_abs:
            continue
        roles: dict[str, Role] = {quality.median: "median", quality.worst: "worst"}
        found = []
        for name, role in reversed(roles.items()):
            reference, picture = (_make_picture(engines[each], named[name]) for each in (first, key))
            score = compare_pictures(picture, reference)
            found.append(ShownPair(role, name, score.psnr, picture, reference))
        shown[key] = tuple(found)
    return shown


def _make_picture(engine: Engine, pair: Pair) -> np.ndarray:
    return take_picture(engine, engine.run(feed_pair(engine, pair)))

"""What the pictures of a run's models are like: beside those of the first, the truth, and as sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...optimize.errors import InputError, VtoptError
from ..engines.sets import Key
from ..quality.comparison import UNCHANGED, ShownPair, compare_by_all, compare_models, show_pairs
from .pictures import keep_shown
from .results import Comparison, Settings, Shown

if TYPE_CHECKING:
    from ...optimize.data.pairs import Pair
    from ..fid.picture_distance import PictureSetDistance
    from ..quality.lpips import Lpips
    from ..quality.pictures import FlowShift, Quality
    from .distances import DistanceMeter
    from .opening import Opening

__all__ = ["Judged", "Measures", "judge_pictures", "open_measures"]


@dataclass(frozen=True)
class Judged:
    quality: tuple[Comparison, ...] = ()
    unchanged: Quality | None = None
    shown: tuple[Shown, ...] = ()
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measures:
    """What is measured besides, where it is asked for."""

    lpips: Lpips | None
    meter: DistanceMeter | None


def open_measures(settings: Settings, pairs: Sequence[Pair]) -> Measures:
    """Load the weights of LPIPS and of the network for FID; raises InputError for files that are not these."""
    from .distances import open_meter

    lpips = None
    if settings.lpips:
        from ..quality.lpips import load_lpips

        lpips = load_lpips(*map(Path, settings.lpips))
    return Measures(lpips, open_meter(settings, pairs))


def judge_pictures(
    lots: Opening,
    measures: Measures,
    models: Mapping[str, Path],
    pairs: Sequence[Pair],
    settings: Settings,
    output: Path,
) -> Judged:
    """Compare all models' pictures with those of the first and the truth; say of which this fails, and why.

    Engines come in lots, the first in each. The worst and the median pairs are kept in a folder beside `output`. Where
    the first fails nothing is compared. Raises OutputError where pictures cannot be kept.
    """
    notices: list[str] = []
    to_first: dict[Key, Quality] = {}
    to_truth: dict[Any, Quality] = {}
    shown: dict[Key, tuple[ShownPair, ...]] = {}
    try:
        for engines in lots():
            compared = compare_models(
                engines,
                pairs,
                compare=partial(compare_by_all, lpips=measures.lpips),
                watch=partial(_watch, measures.meter, frozenset(to_first)),
                drop=lambda key, error: notices.append(f"pictures of {_name(key)} are not compared: {error}"),
            )
            to_first |= compared.to_first
            to_truth |= compared.to_truth
            shown |= show_pairs(engines, pairs, compared.to_first)
            del engines
    except InputError as error:
        return Judged(shown=keep_shown({}, output), notices=(f"pictures are not compared: {error}",))
    flows, distances = _measure_flows(to_first, models, pairs, settings, notices), {}
    if measures.meter:
        distances = _finish_distances(measures.meter, to_first, notices)
    quality = tuple(
        Comparison(*key, score, to_truth.get(key), flows.get(key), distances.get(key, ()))
        for key, score in to_first.items()
    )
    told = (*_describe_distances(quality), *notices)
    return Judged(quality, to_truth.get(UNCHANGED), keep_shown(shown, output), told)


def _name(key: Key) -> str:
    return " on ".join(key)


def _watch(meter: DistanceMeter | None, seen: frozenset[Key], key: Key, picture: Any) -> None:
    """Show the meter a picture, unless it saw those of this engine in an earlier lot."""
    if meter and key not in seen:
        meter.watch(key, picture)


def _measure_flows(
    keys: Iterable[Key], models: Mapping[str, Path], pairs: Sequence[Pair], settings: Settings, notices: list[str]
) -> dict[Key, FlowShift]:
    """Return the flow shifts of ONNX models to the first, where that ran on onnxruntime too.

    Why one fails is added to `notices`.
    """
    from ..quality.flow_shift import measure_flows

    first, *others = [name for name, runtime in keys if runtime == "onnxruntime"] or [""]
    if first != next(iter(models)):
        return {}
    shifts = {}
    for name in others:
        try:
            shifts |= measure_flows(
                {each: models[each] for each in (first, name)}, pairs, threads=max(settings.threads)
            )
        except VtoptError as error:
            notices.append(f"the flow of {name} is not compared: {error}")
    return {(name, "onnxruntime"): shift for name, shift in shifts.items()}


def _finish_distances(
    meter: DistanceMeter, keys: Iterable[Key], notices: list[str]
) -> dict[Key, tuple[PictureSetDistance, ...]]:
    """Return the distances of each model's pictures; why one has none is added to `notices`."""
    distances = {}
    for key in keys:
        try:
            distances[key] = meter.finish(key)
        except VtoptError as error:
            notices.append(f"the pictures of {_name(key)} have no distance to the truth: {error}")
    return distances


def _describe_distances(quality: Sequence[Comparison]) -> tuple[str, ...]:
    """Say of each distance what its numbers are of, and what they can say."""
    told: dict[str, None] = {}
    for distance in next((found.distances for found in quality if found.distances), ()):
        told |= dict.fromkeys((f"{distance.describe()}.", *distance.notes))
    return (" ".join(told),) if told else ()

"""What the pictures of a run's models are like: beside those of the first, the truth, and as sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...optimize.errors import InputError
from ..engines.sets import Key
from ..quality.comparison import UNCHANGED, ShownPair, compare_by_all, compare_models, show_pairs
from .pictures import keep_shown
from .results import Comparison, Settings, Shown

if TYPE_CHECKING:
    from ...optimize.data.pairs import Pair
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
    lots: Opening, models: Mapping[str, Path], pairs: Sequence[Pair], settings: Settings, output: Path
) -> Judged:
    """Compare all models' pictures with those of the first and the truth; say why not where they make none.

    Engines come in lots, the first in each. The worst and the median pairs are kept in a folder beside `output`.
    Raises InputError for weights of LPIPS or of FID's network that are none.
    """
    measures = open_measures(settings, pairs)
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
            )
            to_first |= compared.to_first
            to_truth |= compared.to_truth
            shown |= show_pairs(engines, pairs, compared.to_first)
            del engines
        kept = keep_shown(shown, output)
        flows = _measure_flows(to_first, models, pairs, settings)
    except InputError as error:
        return Judged(notices=(f"pictures are not compared: {error}",))
    quality = tuple(
        Comparison(
            *key,
            score,
            to_truth.get(key),
            flows.get(key),
            measures.meter.finish(key) if measures.meter else (),
        )
        for key, score in to_first.items()
    )
    return Judged(quality, to_truth.get(UNCHANGED), kept, _describe_distances(quality))


def _watch(meter: DistanceMeter | None, seen: frozenset[Key], key: Key, picture: Any) -> None:
    """Show the meter a picture, unless it saw those of this engine in an earlier lot."""
    if meter and key not in seen:
        meter.watch(key, picture)


def _measure_flows(
    keys: Iterable[Key], models: Mapping[str, Path], pairs: Sequence[Pair], settings: Settings
) -> dict[Key, FlowShift]:
    """Return the flow shifts of ONNX models to the first, where that ran on onnxruntime too."""
    from ..quality.flow_shift import measure_flows

    names = [name for name, runtime in keys if runtime == "onnxruntime"]
    if names[:1] != [next(iter(models))]:
        return {}
    shifts = measure_flows({name: models[name] for name in names}, pairs, threads=max(settings.threads))
    return {(name, "onnxruntime"): shift for name, shift in shifts.items()}


def _describe_distances(quality: Sequence[Comparison]) -> tuple[str, ...]:
    """Say of each distance what its numbers are of, and what they can say."""
    told: dict[str, None] = {}
    for distance in (each for found in quality[:1] for each in found.distances):
        told |= dict.fromkeys((f"{distance.describe()}.", *distance.notes))
    return (" ".join(told),) if told else ()

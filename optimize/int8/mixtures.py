"""Measure what a mixture costs the picture: some units in int8, the others float."""

from __future__ import annotations

import hashlib
import math
import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .measurements import Measurements
from .switches import add_switches, make_switch_feeds
from .units import Unit

if TYPE_CHECKING:
    from ...benchmarks.engines.engine import Engine
    from ...benchmarks.engines.runtimes import Arrays
    from ..cpu_target import CpuTarget
    from ..data.pairs import Pair
    from .ranges import Range
    from .static import Calibrated

__all__ = ["Mixtures", "Score", "open_mixtures"]


@dataclass(frozen=True)
class Score:
    """How far a mixture's pictures and flows are from those of the float model, over the pairs."""

    psnr_db: float
    """Lower median, pictures in [-1, 1]; inf for equal pictures, -inf for NaN."""
    psnr_worst_db: float
    error: float
    """Mean squared error, over all pairs: those of several units about add up."""
    flow_px: float | None
    """Lower median of the flow shift (see `flow`), None for a model without warps."""
    flow_worst_px: float | None
    seconds: float = field(default=0.0, compare=False)
    """How long it took to measure, now or when it was first done."""


@dataclass(frozen=True)
class Mixtures:
    """Measures mixtures of `units`; what was measured in this process or an earlier one is not run again."""

    units: Sequence[Unit]
    pairs: Sequence[Pair]
    known: Measurements
    compare: Callable[[int, Collection[str]], tuple[float, float | None]]
    """(a pair's place, the units in int8) -> the mean squared error and the flow shift."""

    def measure(self, int8: Collection[str], pairs: int | None = None) -> Score:
        """Return the score of the mixture with the named units in int8, on the first `pairs` pairs."""
        found = [self._compare(place, int8, name) for place, name in enumerate(self._name(int8, pairs))]
        count = len(found)
        errors, flows = [error for error, _, _ in found], [flow for _, flow, _ in found if flow is not None]
        decibels = [_to_psnr(error) for error in errors]
        return Score(
            psnr_db=statistics.median_low(decibels),
            psnr_worst_db=min(decibels),
            error=statistics.fmean(errors),
            flow_px=statistics.median_low(flows) if len(flows) == count else None,
            flow_worst_px=max(flows) if len(flows) == count else None,
            seconds=sum(seconds for _, _, seconds in found),
        )

    def is_known(self, int8: Collection[str], pairs: int | None = None) -> bool:
        """Tell whether `measure` would run nothing."""
        return all(self.known.get(name) for name in self._name(int8, pairs))

    def _name(self, int8: Collection[str], pairs: int | None) -> list[str]:
        """Return what the measurements of a mixture are called, one for each of the first `pairs` pairs."""
        count = min(pairs or len(self.pairs), len(self.pairs))
        places = "".join(str(int(unit.name in int8)) for unit in self.units)
        mixture = hashlib.sha256(places.encode()).hexdigest()[:24]
        return [f"{mixture} {place}" for place in range(count)]

    def _compare(self, place: int, int8: Collection[str], name: str) -> tuple[float, float | None, float]:
        kept = self.known.get(name)
        if kept is None:
            began = time.monotonic()
            error, flow = self.compare(place, int8)
            kept = {
                "error": str(error),
                "flow_px": None if flow is None else str(flow),
                "seconds": round(time.monotonic() - began, 3),
            }
            self.known.put(name, kept)
        return float(kept["error"]), None if kept["flow_px"] is None else float(kept["flow_px"]), kept["seconds"]


def _to_psnr(error: float) -> float:
    if not math.isfinite(error):
        return -math.inf
    return 10 * math.log10(4 / error) if error else math.inf


def open_mixtures(
    engine: Engine,
    calibrated: Calibrated,
    ranges: Mapping[str, Range],
    target: CpuTarget,
    pairs: Sequence[Pair],
    known: Measurements,
) -> Mixtures:
    """Open a calibrated model with switches; `engine` is the float model's own, and feeds it.

    The reference pictures are made when a pair is first compared, and kept: a picture and the flows of each.
    """
    import onnxruntime as ort

    from ...benchmarks.engines.feeds import feed_pair, take_picture
    from ...benchmarks.engines.runtimes import make_session_options
    from ..flow import expose_flows, measure_flow_shift

    units = calibrated.units
    exposed, flows = expose_flows(calibrated.prepared.model)
    switched = add_switches(exposed, units, ranges, target, calibrated.means)
    session = ort.InferenceSession(
        switched.SerializeToString(), make_session_options(engine.threads), providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_outputs()]
    references: dict[int, Arrays] = {}

    def run(place: int, int8: Collection[str]) -> Arrays:
        feeds = {**feed_pair(engine, pairs[place]), **make_switch_feeds(units, int8)}
        return {name: np.asarray(value) for name, value in zip(names, session.run(names, feeds), strict=True)}

    def compare(place: int, int8: Collection[str]) -> tuple[float, float | None]:
        if place not in references:
            references[place] = run(place, ())
        expected = references[place]
        made = run(place, int8) if int8 else expected
        picture, reference = take_picture(engine, made), take_picture(engine, expected)
        difference = picture.astype(np.float64) - reference
        error = float(np.mean(difference**2)) if np.isfinite(difference).all() else math.inf
        flow = measure_flow_shift(expected, made, [(flow, flow) for flow in flows], picture.shape[1:])
        return error, flow

    return Mixtures(units, pairs, known, compare)

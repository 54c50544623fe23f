"""How far ONNX models look from where the first one looks, over pairs, in pixels."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...optimize.flow import match_flows, measure_flow_shift, open_flow_engine
from ...optimize.progress import track
from ..engines.feeds import feed_pair
from .pictures import FlowShift

if TYPE_CHECKING:
    from ...optimize.data.pairs import Pair
    from ...optimize.flow import Flow, FlowPair

__all__ = ["match_forms", "measure_flows"]


def measure_flows(
    models: Mapping[str, Path], pairs: Sequence[Pair], *, threads: int | None = None
) -> dict[str, FlowShift]:
    """Run ONNX models on onnxruntime beside the first, and return the flow shift of those that have its warps.

    A model's shift is the mean over all pairs; the studies of forms and int8 have the median of their pairs instead.
    They run once more for this, as what they show besides their pictures may change how they are computed. Two are
    open at a time. Empty where the first has no warps of a known size.
    """
    first, *others = models
    reference, expected = open_flow_engine(models[first], threads=threads)
    shifts = {}
    for name in others if expected else ():
        engine, made = open_flow_engine(models[name], threads=threads)
        flows = match_forms(expected, made)
        found = {}
        for pair in track(pairs, f"flow of {name}", total=len(pairs)) if flows else ():
            before, after = (each.run(feed_pair(each, pair)) for each in (reference, engine))
            found[pair.name] = measure_flow_shift(before, after, flows, pair.person.shape[1:])
        if found and None not in found.values():
            shifts[name] = _summarize({pair: shift for pair, shift in found.items() if shift is not None})
    return shifts


def match_forms(expected: Sequence[Flow], made: Sequence[Flow]) -> Sequence[FlowPair]:
    """Return the same warps of two forms of one model; casts or Q/DQ around a warp hide its heads, but not its name."""
    matched = match_flows(expected, made)
    if matched or [flow.name for flow in expected] != [flow.name for flow in made]:
        return matched
    return [
        (old, replace(new, heads=old.heads, attention="")) for old, new in zip(expected, made, strict=True) if old.name
    ]


def _summarize(shifts: Mapping[str, float]) -> FlowShift:
    worst = max(shifts, key=lambda pair: shifts[pair])
    return FlowShift(statistics.fmean(shifts.values()), shifts[worst], worst, len(shifts))

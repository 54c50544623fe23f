"""From a float32 model to the int8 one that keeps a budget: calibrate, choose ranges, quantise, and search."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..cpu_target import CpuTarget, resolve_target
from ..data.pairs import open_pairs
from ..errors import InputError
from .budget import Choice, search_budget
from .choice import choose_range_method
from .engines import AUTO_RANGES, TRAINED, load_engine
from .limits import Budget
from .measurements import Measurements
from .mixtures import Score, open_mixtures
from .pairs import choose_calibration_pairs, feed_calibration
from .request import Int8Request, open_known
from .settings import Int8Settings, RangeMethod
from .static import Calibrated, calibrate_model

if TYPE_CHECKING:
    from onnx import ModelProto

    from ...benchmarks.engines.engine import Engine
    from ..data.pairs import Pair

__all__ = ["Made", "build_int8", "list_float_ops", "pick_ranges"]

CALIBRATION_SHARE = 0.25
"""Of a time budget, calibration may take so much."""
FLOAT_OPS = ("ConvTranspose", "Gemm", "MatMul")
"""These compute too, and stay float: only convolutions are quantised."""


@dataclass(frozen=True)
class Made:
    """A quantised model, and what is to be said of it."""

    model: ModelProto
    settings: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


def build_int8(
    source: Path, model: Any, request: Int8Request, keep: Callable[[Made], None] = lambda made: None
) -> Made:
    """Return the model in int8; with a budget, the mixture that keeps it with the least in float.

    `keep` gets every model of a search that is better than all before it. What was measured is in the user's cache:
    the same request goes on from it.

    Raises InputError for pairs that cannot be calibrated on.
    """
    from ...benchmarks.engines.engine import open_engine

    cpu, notices = resolve_target(request.target)
    engine = open_engine(source, network=request.network)
    engine = replace(engine, size=request.size or engine.size)
    pairs, said = choose_calibration_pairs(request.pairs, engine.size, request.calibration_count, request.pair_count)
    notes = [*notices, *(said if request.engine != TRAINED else ())]
    settings = {"engine": request.engine, "target": cpu.name}
    feeds = feed_calibration(engine, pairs, notes, request.deadline.share(CALIBRATION_SHARE))
    if request.engine != "onnxruntime":
        if request.budget != Budget():
            notes.append(f"the budget was checked only: engine {request.engine} does not search for what keeps it")
        method: RangeMethod = AUTO_RANGES[request.engine] if request.ranges == "auto" else request.ranges
        made = load_engine(request.engine)(model, feeds, Int8Settings(cpu, method))
        notes += list_float_ops(made)
        if request.engine == TRAINED:
            return Made(made, settings, {"ranges": TRAINED}, (*notes, *model.ranges.compare_target(cpu)))
        return Made(made, settings, {"calibrated_on_pairs": len(pairs), "ranges": method}, tuple(notes))
    notes += list_float_ops(model)
    calibrated = calibrate_model(model, feeds)
    picked = pick_ranges(source, request, engine, calibrated, cpu, pairs)
    if picked.figures["calibrated_on_pairs"] < len(pairs) and calibrated.units:
        seen = picked.figures["calibrated_on_pairs"]
        notes.append(f"the time budget ended calibration after {seen} of {len(pairs)} pairs")
    ranges = calibrated.find_ranges(picked.method)

    def make(float_units: Collection[str], more: Mapping[str, Any]) -> Made:
        return Made(calibrated.write(ranges, cpu, float_units), settings, {**picked.figures, **more}, tuple(notes))

    if request.budget == Budget() or not calibrated.units:
        return make((), {})
    macs = count_unit_macs(calibrated)
    compared = open_pairs(request.pairs, engine.size, request.pair_count)
    mixtures = open_mixtures(engine, calibrated, ranges, cpu, compared, picked.known)
    if request.budget.max_flow_px is not None and mixtures.measure(()).flow_px is None:
        raise InputError(
            f"{source}: has no warps whose shift can be measured, and a limit to it; give --min-psnr alone"
        )
    place = f"best for {request.budget.min_psnr} dB and {request.budget.max_flow_px} px"

    def keep_best(best: Choice) -> None:
        picked.known.put(place, {"float_units": best.float_units})
        keep(make(best.float_units, describe_choice(best, macs)))

    before = (picked.known.get(place) or {}).get("float_units")
    choice = search_budget(mixtures, macs, request.budget, request.deadline, keep_best, before)
    if not choice.finished:
        notes.append("the time budget ended the search: the same command with more goes on, and may fit more into int8")
    return make(choice.float_units, describe_choice(choice, macs))


class Picked(NamedTuple):
    """A range method, what is to be said of it, and what was measured with it before."""

    method: RangeMethod
    figures: Mapping[str, Any]
    known: Measurements


def pick_ranges(
    source: Path, request: Int8Request, engine: Engine, calibrated: Calibrated, cpu: CpuTarget, pairs: Sequence[Pair]
) -> Picked:
    """Return the request's range method, for auto the one that is best on `pairs`, those calibrated on."""
    seen = max((histogram.samples for histogram in calibrated.histograms.values()), default=0)
    figures: dict[str, Any] = {"calibrated_on_pairs": seen}

    def open_measured(ranges: str) -> Measurements:
        return open_known(source, request, engine.size, cpu, seen, ranges)

    method: RangeMethod = "minmax" if request.ranges == "auto" else request.ranges
    if request.ranges == "auto" and calibrated.units:
        deadline = request.deadline.share(CALIBRATION_SHARE)
        tried = pairs[: max(seen, 1)]
        method, figures["ranges_psnr_db"] = choose_range_method(
            engine, calibrated, cpu, tried, open_measured("auto"), deadline
        )
    # The method's own: a choice that was cut short may fall on another one the next time.
    return Picked(method, figures | {"ranges": method}, open_measured(method))


def list_float_ops(model: ModelProto) -> list[str]:
    """Say which operations that compute are left float, as no engine here quantises them."""
    counts = Counter(node.op_type for node in model.graph.node if node.op_type in FLOAT_OPS)
    if not counts:
        return []
    told = ", ".join(f"{count} {op}" for op, count in sorted(counts.items()))
    return [f"left float: {told}; static int8 is for convolutions; --weight-only shrinks these too"]


def count_unit_macs(calibrated: Calibrated) -> dict[str, int]:
    """Return the multiply-adds of each unit."""
    from ...benchmarks.cost.flops import count_macs

    counted = count_macs(calibrated.prepared.model).by_node
    return {unit.name: counted.get(unit.name, 0) for unit in calibrated.units}


def describe_choice(choice: Choice, macs: Mapping[str, int]) -> dict[str, Any]:
    """Return the trail of a search as figures: what stayed float and why, what it cost, and what was tried."""
    total = sum(macs.values()) or 1
    alone = {name: group for group in choice.ranking for name in group.units}
    kept = []
    for name in sorted(choice.float_units, key=lambda name: -alone[name].score.error if name in alone else 0.0):
        why = "not measured, for want of time"
        if name in alone:
            others = len(alone[name].units) - 1
            which = f"with {others} neighbours" if others else "alone"
            why = f"in int8 {which} {_show_score(alone[name].score)}"
        kept.append(f"{name}: {why}; {macs[name] / total:.2%} of the multiply-adds")
    tried = []
    for trial in choice.trail:
        held = "in the budget" if trial.holds else "over it"
        tried.append(f"{trial.stage}, {len(trial.float_units)} float: {_show_score(trial.score)}, {held}")
    return {
        "float_for_the_budget": kept,
        "float_share_of_macs": round(sum(macs[name] for name in choice.float_units) / total, 5),
        "trail": tried,
        "finished": choice.finished,
    }


def _show_score(score: Score) -> str:
    flow = "" if score.flow_px is None else f", {score.flow_px:.3f} px"
    return ("equal" if math.isinf(score.psnr_db) and score.psnr_db > 0 else f"{score.psnr_db:.1f} dB") + flow

"""The int8 forms of a network side by side: size, time, and how far their pictures and flows are from float's."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...optimize.errors import VtoptError
from ...optimize.progress import track
from ..cost.size import measure_size
from ..engines.engine import Engine, open_engine
from ..engines.feeds import feed_pair, take_picture
from ..host import take_reason
from ..quality.pictures import DATA_RANGE, PictureScores, compare_pictures, summarize_quality
from ..timing.latency import Latency, count_rounds, measure_latency
from .int8_forms import FLOAT, Int8Task, choose_samples, make_int8_forms, open_compared_pairs
from .network_forms import PLAIN, Variant, build_seeded

if TYPE_CHECKING:
    from ...optimize.data.pairs import Pair
    from ...optimize.flow import Flow, FlowPair
    from ..engines.runtimes import Arrays

__all__ = ["DEFAULT_NETWORKS", "FLOW_PAIRS", "Int8Group", "WorstPicture", "measure_int8", "measure_network"]

DEFAULT_NETWORKS = ("sdafn_plus_tiny", "sdafn_plus_3")

FLOW_PAIRS = 8
"""Flow shift is measured on so many of the pairs: each is run once more, with the values of warps as outputs."""


@dataclass(frozen=True)
class WorstPicture:
    """The pair that a form is furthest from float on."""

    variant: Variant
    pair: str
    picture: np.ndarray
    reference: np.ndarray


@dataclass(frozen=True)
class Int8Group:
    """The figures of one network, one row per form and runtime."""

    rows: tuple[Mapping[str, Any], ...]
    notices: tuple[str, ...]
    worst: tuple[WorstPicture, ...] = ()


def measure_int8(networks: Sequence[str] = DEFAULT_NETWORKS, **asked: Any) -> Iterator[Int8Group]:
    """Measure every form of each network, and yield group after group; `asked` are fields of `Int8Task`.

    The demo's network has its trained weights, others random ones from a fixed seed. A network that cannot be
    measured is left out, with a notice.
    """
    built = {name: build_seeded(name) for name in dict.fromkeys(networks)}
    for name, network in built.items():
        try:
            yield measure_network(Int8Task(network, network.size, **asked))
        except VtoptError as error:
            yield Int8Group((), (f"{name} is left out: {error}",))


def measure_network(task: Int8Task) -> Int8Group:
    """Make and measure the forms of one network.

    All forms on one runtime are timed in turns. Pictures are those of each form on its own runtime, held against
    `FLOAT` on onnxruntime; a row's ratio is its median time to that of the plain form on its runtime.

    Raises VtoptError when there are no float forms to compare with.
    """
    notices: list[str] = []
    pairs = list(track(open_compared_pairs(task), f"{task.network.name}: pairs", total=task.pair_count))
    with tempfile.TemporaryDirectory(prefix="vtopt-int8-") as folder:
        variants = make_int8_forms(task, Path(folder), notices)
        expected = _make_expected(task, variants, pairs)
        figures: dict[Variant, dict[str, Any]] = {}
        worst: list[WorstPicture] = []
        latency: dict[Variant, Latency] = {}
        for runtime in dict.fromkeys(variant.runtime for variant in variants):
            engines = _open_engines(task, [each for each in variants if each.runtime == runtime], notices)
            for variant in track(list(engines), f"{task.network.name} on {runtime}: pictures", total=len(engines)):
                try:
                    figures[variant], shown = _measure_quality(variant, engines[variant], expected, pairs)
                except VtoptError as error:
                    notices.append(_leave_out(task, variant, error))
                    del engines[variant]
                    continue
                worst += [shown] if shown else []
            latency |= measure_latency(
                engines,
                {variant: feed_pair(engine, pairs[0]) for variant, engine in engines.items()},
                runs=task.runs,
                warmup=task.warmup,
                progress=count_rounds(f"{task.network.name} on {runtime}: latency", task.runs + task.warmup),
            )
            del engines
        rows = [_make_row(task, variant, latency, figures[variant], len(pairs)) for variant in latency]
    return Int8Group(tuple(rows), tuple(notices), tuple(worst))


@dataclass(frozen=True)
class _FlowReference:
    """A float model's flows, and their values on each of the first pairs."""

    flows: Sequence[Flow]
    made: Sequence[Arrays]


@dataclass(frozen=True)
class _Expected:
    """What the forms are held against."""

    variant: Variant
    pictures: Sequence[np.ndarray]
    flows: Mapping[Variant, _FlowReference]
    """Of every float form: the flows of what was quantised are compared with those of what it was made from."""


def _make_expected(task: Int8Task, variants: Sequence[Variant], pairs: Sequence[Pair]) -> _Expected:
    reference = next(each for each in variants if each.form == FLOAT and each.runtime == "onnxruntime")
    engine = open_engine(reference.path, runtime="onnxruntime", threads=task.threads)
    pictures = [take_picture(engine, engine.run(feed_pair(engine, pair))) for pair in pairs]
    flows = {}
    for variant in (each for each in variants if each.form in {PLAIN, FLOAT}):
        flow_engine, found = _open_flows(variant.path, "onnxruntime", task.threads)
        if flow_engine:
            flows[variant] = _FlowReference(found, _run_flows(flow_engine, found, pairs))
    return _Expected(reference, pictures, flows)


def _open_flows(path: Path, runtime: str, threads: int) -> tuple[Engine | None, Sequence[Flow]]:
    """Open a copy of a model that also gives the values of its flows; None where it is no ONNX or does not load."""
    import onnx

    from ...optimize.flow import expose_flows
    from ...optimize.onnx_files import load_onnx

    if path.suffix != ".onnx":
        return None, ()
    try:
        exposed, flows = expose_flows(load_onnx(path))
        with tempfile.TemporaryDirectory(prefix="vtopt-flows-") as folder:
            copy = Path(folder) / path.name
            onnx.save(exposed, copy)
            return (open_engine(copy, runtime=runtime, threads=threads) if flows else None), flows
    except (VtoptError, RuntimeError, ValueError):  # onnx_ir and protobuf have exceptions of their own
        return None, ()


def _run_flows(engine: Engine, flows: Sequence[Flow], pairs: Sequence[Pair]) -> list[Arrays]:
    wanted = {name for flow in flows for name in (*flow.places, flow.attention)}
    made = (engine.run(feed_pair(engine, pair)) for pair in pairs[:FLOW_PAIRS])
    return [{name: array for name, array in arrays.items() if name in wanted} for arrays in made]


def _open_engines(task: Int8Task, variants: Sequence[Variant], notices: list[str]) -> dict[Variant, Engine]:
    engines = {}
    for variant in variants:
        try:
            engines[variant] = open_engine(variant.path, runtime=variant.runtime, threads=task.threads)
        except VtoptError as error:
            notices.append(_leave_out(task, variant, error))
    return engines


def _leave_out(task: Int8Task, variant: Variant, error: Exception) -> str:
    reason = take_reason(error).removeprefix(f"{variant.path}: ").replace(str(variant.path), variant.path.name)
    return f"{task.network.name}: {variant.form} on {variant.runtime} is left out: {reason}"


def _measure_quality(
    variant: Variant, engine: Engine, expected: _Expected, pairs: Sequence[Pair]
) -> tuple[dict[str, Any], WorstPicture | None]:
    """Return the figures of one form's pictures, and the worst of them; the reference has only those of the truth."""
    scores: dict[str, PictureScores] = {}
    truth: list[float] = []
    in_range: list[float] = []
    shown: WorstPicture | None = None
    least = math.inf
    for pair, reference in zip(pairs, expected.pictures, strict=True):
        picture = take_picture(engine, engine.run(feed_pair(engine, pair)))
        scores[pair.name] = score = compare_pictures(picture, reference)
        in_range.append(scale_psnr(score.psnr, reference))
        if pair.truth is not None:
            truth.append(compare_pictures(picture, pair.truth).psnr)
        if shown is None or score.psnr < least:
            least, shown = score.psnr, WorstPicture(variant, pair.name, picture, reference)
    known: dict[str, Any] = {"truth PSNR dB": statistics.median_low(truth) if len(truth) == len(pairs) else None}
    if variant == expected.variant:
        return known, None
    quality = summarize_quality(scores)
    figures = {
        "PSNR dB": quality.psnr_median,
        "worst dB": quality.psnr_worst,
        "of range dB": statistics.median_low(in_range),
        "SSIM": quality.ssim_median,
        "flow px": _measure_flow(variant, engine.threads, expected, pairs),
        "worst pair": quality.worst,
    }
    return {**figures, **known}, shown


def scale_psnr(psnr: float, reference: np.ndarray) -> float:
    """Return a PSNR with the reference's own range, from its least to its largest value, in place of 2.

    Pictures of random weights are faint: to the range of 2 any two of them are equal.
    """
    spread = float(reference.max() - reference.min())
    return psnr + 20 * math.log10(spread / DATA_RANGE) if spread and math.isfinite(psnr) else psnr


def _measure_flow(variant: Variant, threads: int, expected: _Expected, pairs: Sequence[Pair]) -> float | None:
    """Return how far places moved from those of the float model that this one was made from; None if not known."""
    from ...optimize.flow import measure_flow_shift

    reference = _find_reference(variant, expected)
    engine, flows = _open_flows(variant.path, variant.runtime, threads)
    if engine is None or reference is None:
        return None
    matched = _match_flows(reference.flows, flows)
    if not matched:
        return None
    try:
        made = _run_flows(engine, flows, pairs)
    except VtoptError:
        return None
    size = pairs[0].person.shape[1], pairs[0].person.shape[2]
    shifts = [measure_flow_shift(old, new, matched, size) for old, new in zip(reference.made, made, strict=True)]
    known = [shift for shift in shifts if shift is not None]
    return statistics.median_low(known) if known and len(known) == len(shifts) else None


def _find_reference(variant: Variant, expected: _Expected) -> _FlowReference | None:
    """Return the flows of the float form that one was quantised from; of the reference where it is float itself."""
    if variant.form in {PLAIN, FLOAT}:
        return expected.flows.get(expected.variant)
    source = (FLOAT if variant.form.startswith("vtopt") else PLAIN), variant.runtime
    return next((found for each, found in expected.flows.items() if (each.form, each.runtime) == source), None)


def _match_flows(expected: Sequence[Flow], made: Sequence[Flow]) -> Sequence[FlowPair]:
    """Return the same warps of two models; Q/DQ around all of a warp hides its heads, but not its name."""
    from ...optimize.flow import match_flows

    matched = match_flows(expected, made)
    if matched or [flow.name for flow in expected] != [flow.name for flow in made]:
        return matched
    return [
        (old, replace(new, heads=old.heads, attention="")) for old, new in zip(expected, made, strict=True) if old.name
    ]


def _make_row(
    task: Int8Task, variant: Variant, latency: Mapping[Variant, Latency], figures: Mapping[str, Any], pairs: int
) -> dict[str, Any]:
    timing = latency[variant]
    plain = next((other for other in latency if other == replace(variant, form=PLAIN, path=other.path)), None)
    return {
        "network": task.network.name,
        "form": variant.form,
        "runtime": variant.runtime,
        "size MiB": measure_size(variant.path) / 2**20,
        "median ms": timing.median_ms,
        "of plain": timing.median_ms / latency[plain].median_ms if plain else None,
        **figures,
        "p90 ms": timing.p90_ms,
        "min ms": timing.min_ms,
        "threads": timing.threads,
        "runs": timing.runs,
        "warmup": timing.warmup,
        "pairs": pairs,
        "calibrated on": len(choose_samples(task)[0]),
        "pairs from": "drawn pairs" if task.pairs is None else task.pairs.name,
        "picture size": f"{task.size[0]}x{task.size[1]}",
    }

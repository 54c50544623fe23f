"""The int8 forms of a network side by side: size, time, and how far their pictures and flows are from float's."""

from __future__ import annotations

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
from ..engines.feeds import feed_pair
from ..host import take_reason
from ..timing.latency import Latency, count_rounds, measure_latency
from .flow_shifts import FlowReference, measure_flow, read_flow_reference
from .int8_forms import FLOAT, Int8Task, choose_samples, make_int8_forms, open_compared_pairs
from .network_forms import PLAIN, Variant, build_seeded
from .picture_figures import make_pictures, measure_pictures

if TYPE_CHECKING:
    from ...optimize.data.pairs import Pair

__all__ = ["DEFAULT_NETWORKS", "Int8Group", "WorstPicture", "measure_int8", "measure_network"]

DEFAULT_NETWORKS = ("sdafn_plus_tiny", "sdafn_plus_3")


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
class _Expected:
    """What the forms are held against."""

    variant: Variant
    pictures: Sequence[np.ndarray]
    flows: Mapping[Variant, FlowReference]
    """Of every float form: the flows of what was quantised are compared with those of what it was made from."""


def _make_expected(task: Int8Task, variants: Sequence[Variant], pairs: Sequence[Pair]) -> _Expected:
    reference = next(each for each in variants if each.form == FLOAT and each.runtime == "onnxruntime")
    engine = open_engine(reference.path, runtime="onnxruntime", threads=task.threads)
    flows = {}
    for variant in (each for each in variants if each.form in {PLAIN, FLOAT}):
        if found := read_flow_reference(variant.path, pairs, task.threads):
            flows[variant] = found
    return _Expected(reference, make_pictures(engine, pairs), flows)


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
    figures, worst = measure_pictures(engine, pairs, expected.pictures)
    if variant == expected.variant:
        return {"truth PSNR dB": figures["truth PSNR dB"]}, None
    reference = _find_reference(variant, expected)
    flow = measure_flow(variant.path, variant.runtime, engine.threads, reference, pairs)
    return {**figures, "flow px": flow}, WorstPicture(variant, *worst)


def _find_reference(variant: Variant, expected: _Expected) -> FlowReference | None:
    """Return the flows of the float form that one was quantised from; of the reference where it is float itself."""
    if variant.form in {PLAIN, FLOAT}:
        return expected.flows.get(expected.variant)
    source = (FLOAT if variant.form.startswith("vtopt") else PLAIN), variant.runtime
    return next((found for each, found in expected.flows.items() if (each.form, each.runtime) == source), None)


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

"""Measure models side by side: size, parameters, MACs, latency, and pictures against the first model's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...optimize.errors import InputError
from ..cost.flops import describe_uncounted
from ..cost.model_cost import count_model
from ..cost.size import measure_size
from ..engines.engine import Engine, feed_pair, open_engine
from ..engines.lots import plan_lots
from ..engines.sets import Key, find_size, open_engines
from ..host import describe_host
from ..quality.comparison import UNCHANGED, ShownPair, compare_models, show_pairs
from ..quality.pictures import Quality
from ..timing.latency import Latency, count_rounds, measure_latency
from .report import COLUMNS, TRUTH_COLUMNS, Report, show_quality, show_truth

if TYPE_CHECKING:
    from ...optimize.data.pairs import Pair

__all__ = ["measure_models"]

MAX_SECONDS = 120.0
"""What timing one lot of models takes at most, but for the least number of rounds."""


def measure_models(
    models: Mapping[str, Path],
    pairs: Sequence[Pair] | None = None,
    *,
    folder: Path | None = None,
    count: int = 8,
    threads: int | None = None,
    runs: int = 20,
    warmup: int = 3,
    network: str | None = None,
) -> Report:
    """Measure models, by name, on the pairs of `folder` (drawn pairs by default).

    Every model runs on each runtime that loads it: ONNX on onnxruntime and OpenVINO, IR on OpenVINO,
    weights in torch. Latency is of a batch of one, in milliseconds, in turns (see `measure_latency`); slow models run
    fewer times than `runs`.
    PSNR and SSIM are to the pictures of the first row; where the pairs know the truth also to that.
    1 MAC is 2 FLOPs (see `mac_rules`).
    """
    from ...optimize.data.pairs import open_pairs

    if not models:
        raise InputError("bench: there are no models to measure; name at least one")
    engines, unloaded = open_engines(models, threads=threads, network=network)
    size = find_size(engines)
    pairs = open_pairs(folder, size, count) if pairs is None else pairs
    if not pairs:
        raise InputError("bench: there are no pairs to compare; give at least one")
    first, *_ = keys = list(engines)
    lots = plan_lots(engines, {key: feed_pair(engine, pairs[0]) for key, engine in engines.items()})
    if len(lots) > 1:
        engines.clear()
        unloaded.append(
            f"memory does not hold all models: they ran in {len(lots)} lots, each beside {' on '.join(first)}"
        )
    measured = []
    for lot in lots:
        opened = engines or {
            key: open_engine(models[key[0]], runtime=key[1], threads=threads, network=network) for key in lot
        }
        measured.append(_measure_lot(opened, pairs, runs, warmup))
        del opened
    statics, notices = _measure_files(models, network, pairs[0].person.shape[1:])
    of = {key: lot for lot in reversed(measured) for key in lot.latency}
    rows = [_make_row(key, statics[key[0]], of[key]) for key in keys]
    truth = measured[0].truth
    if truth:
        rows.insert(0, {"model": UNCHANGED, **show_truth(truth[UNCHANGED])})
    timing = measured[0].latency[first]
    conditions = {
        "reference": " on ".join(first),
        "pairs": len(pairs),
        "pairs from": str(folder) if folder else "drawn pairs, seeds from 0",
        "size": f"{size[0]}x{size[1]}",
        "batch": timing.batch,
        "runs": f"{timing.runs} in turns after {timing.warmup} of warm-up",
        "threads": timing.threads,
        "speed": "the ratio of the fastest runs",
        **describe_host(),
    }
    columns = (*COLUMNS, *(TRUTH_COLUMNS if truth else ()))
    notices += [*(slower for lot in measured for slower in _find_slower(lot.latency)), *unloaded]
    shown = {key: pairs for lot in measured for key, pairs in lot.shown.items()}
    return Report(tuple(rows), columns, conditions, tuple(notices), shown)


@dataclass(frozen=True)
class _Lot:
    """The figures of engines that were open together, the reference first."""

    latency: Mapping[Key, Latency]
    quality: Mapping[Key, Quality]
    truth: Mapping[Any, Quality]
    shown: Mapping[Key, tuple[ShownPair, ...]]


def _measure_lot(engines: Mapping[Key, Engine], pairs: Sequence[Pair], runs: int, warmup: int) -> _Lot:
    compared = compare_models(engines, pairs)
    shown = show_pairs(engines, pairs, compared.to_first)
    feeds = {key: feed_pair(engine, pairs[0]) for key, engine in engines.items()}
    latency = measure_latency(
        engines,
        feeds,
        runs=runs,
        warmup=warmup,
        max_seconds=MAX_SECONDS,
        progress=count_rounds("latency", runs + warmup),
    )
    return _Lot(latency, compared.to_first, compared.to_truth, shown)


def _measure_files(
    models: Mapping[str, Path], network: str | None, size: tuple[int, int]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return size, parameters and MACs of every file, and what the counts leave out."""
    figures: dict[str, dict[str, Any]] = {}
    notices = []
    for name, path in models.items():
        counts = count_model(path, network=network, size=size)
        figures[name] = {"size": measure_size(path), "parameters": counts.parameters, "macs": counts.macs.macs}
        if left := describe_uncounted(counts.macs.uncounted):
            notices.append(f"{name}: MACs leave out {left}")
    return figures, notices


def _make_row(key: Key, static: Mapping[str, Any], lot: _Lot) -> dict[str, Any]:
    first, timing = next(iter(lot.latency)), lot.latency[key]
    row: dict[str, Any] = {
        "model": key[0],
        "runtime": timing.runtime,
        "size MiB": static["size"] / 2**20,
        "params M": static["parameters"] / 1e6,
        "GMACs": None if static["macs"] is None else static["macs"] / 1e9,
        "median ms": timing.median_ms,
        "p90 ms": timing.p90_ms,
        "speed x": lot.latency[first].min_ms / timing.min_ms,
        **show_quality(None if key == first else lot.quality[key]),
    }
    return row | (show_truth(lot.truth[key]) if lot.truth else {})


def _find_slower(latency: Mapping[Key, Latency]) -> list[str]:
    """Say which models are slower than the first on a runtime that both run on."""
    first = next(iter(latency))
    notices = []
    for (name, runtime), timing in latency.items():
        before = latency.get((first[0], runtime))
        if before and name != first[0] and timing.min_ms > before.min_ms:
            ratio = timing.min_ms / before.min_ms
            notices.append(f"{name} is {ratio:.2f} times slower than {first[0]} on {runtime} on this machine")
    return notices

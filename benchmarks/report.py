"""Measure models side by side: size, parameters, MACs, latency, and pictures against the first model's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..optimize.artifacts import detect_kind
from ..optimize.errors import InputError
from ..optimize.progress import track
from .engines import Engine, feed_pair, open_engine
from .feeds import take_picture
from .flops import count_macs
from .host import describe_host
from .latency import Latency, measure_latency
from .quality import PictureScores, Quality, compare_pictures, summarize_quality
from .size import count_parameters, measure_size
from .tables import format_table

if TYPE_CHECKING:
    import numpy as np

    from ..optimize.data.pairs import Pair

__all__ = ["COLUMNS", "Report", "WorstPair", "format_report", "measure_models"]

COLUMNS = (
    "model",
    "runtime",
    "size MiB",
    "params M",
    "GMACs",
    "median ms",
    "p90 ms",
    "speed x",
    "PSNR dB",
    "worst dB",
    "SSIM",
)
TRUTH_COLUMNS = ("truth PSNR dB", "truth SSIM")
UNCHANGED = "(person unchanged)"
"""The trivial answer; a model that puts nothing on the person scores like it."""


@dataclass(frozen=True)
class WorstPair:
    """The pair on which a model is farthest from the first model."""

    pair: str
    picture: np.ndarray
    reference: np.ndarray


@dataclass(frozen=True)
class Report:
    """One row per model and runtime, the first is the reference; and how the figures were taken."""

    rows: tuple[Mapping[str, Any], ...]
    columns: tuple[str, ...]
    conditions: Mapping[str, Any]
    notices: tuple[str, ...]
    worst: Mapping[str, WorstPair]


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
    weights in torch. Latency is of a batch of one, in milliseconds, in turns (see `measure_latency`).
    PSNR and SSIM are to the pictures of the first row; where the pairs know the truth also to that.
    MACs are counted in ONNX and IR; 1 MAC is 2 FLOPs.
    """
    from ..optimize.data.pairs import open_pairs

    if not models:
        raise InputError("bench: there are no models to measure; name at least one")
    engines, unloaded = _open_engines(models, threads, network)
    fixed = (engine.size for engine in engines.values() if _has_fixed_size(engine))
    size = next(fixed, next(iter(engines.values())).size)
    pairs = open_pairs(folder, size, count) if pairs is None else pairs
    quality, truth, worst = _compare_all(engines, pairs)
    feeds = {key: feed_pair(engine, pairs[0]) for key, engine in engines.items()}
    latency = measure_latency(engines, feeds, runs=runs, warmup=warmup)
    statics, notices = _measure_files(models, network)
    rows = [
        _make_row(key, engine, statics[key[0]], latency[key], quality[key], truth.get(key), latency)
        for key, engine in engines.items()
    ]
    if truth:
        rows.insert(0, {"model": UNCHANGED, **_show_truth(truth[UNCHANGED])})
    first = next(iter(engines))
    timing = latency[first]
    conditions = {
        "reference": " on ".join(first),
        "pairs": len(pairs),
        "pairs from": str(folder) if folder else "drawn pairs, seeds from 0",
        "size": f"{size[0]}x{size[1]}",
        "batch": timing.batch,
        "runs": f"{timing.runs} in turns after {timing.warmup} of warm-up",
        "threads": timing.threads,
        **describe_host(),
    }
    columns = (*COLUMNS, *(TRUTH_COLUMNS if truth else ()))
    notices += [*_find_slower(latency), *unloaded]
    return Report(tuple(rows), columns, conditions, tuple(notices), worst)


Key = tuple[str, str]
"""A model's name and a runtime."""


def _open_engines(
    models: Mapping[str, Path], threads: int | None, network: str | None
) -> tuple[dict[Key, Engine], list[str]]:
    """Open each model on its runtimes; one that its second runtime does not load is told, and left out there."""
    engines, unloaded = {}, []
    for name, path in models.items():
        runtimes = {"onnx": ("onnxruntime", "openvino")}.get(detect_kind(path), (None,))
        for runtime in runtimes:
            try:
                engines[name, runtime or ""] = open_engine(path, runtime=runtime, threads=threads, network=network)
            except InputError as error:
                if runtime == runtimes[0]:
                    raise
                reason = str(error).removeprefix(f"{path}: ").partition("; ")[0]
                unloaded.append(f"{name} has no row on {runtime}: {reason}")
    engines = {(name, engine.runtime): engine for (name, _), engine in engines.items()}
    sizes = {name: engine.size for (name, _), engine in engines.items() if _has_fixed_size(engine)}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {height}x{width}" for name, (height, width) in sizes.items())
        raise InputError(f"bench: the models take pictures of different sizes ({told}); export them with one --size")
    return engines, unloaded


def _has_fixed_size(engine: Engine) -> bool:
    return any(len(shape) == 4 and None not in shape[2:] for shape in engine.inputs.values())


def _compare_all(
    engines: Mapping[Key, Engine], pairs: Sequence[Pair]
) -> tuple[dict[Key, Quality], dict[Any, Quality], dict[str, WorstPair]]:
    """Run every engine on every pair, once; return quality to the first, to the truth, and the worst pairs."""
    first = next(iter(engines))
    to_first: dict[Key, dict[str, PictureScores]] = {key: {} for key in engines}
    to_truth: dict[Any, dict[str, PictureScores]] = {}
    worst: dict[str, tuple[float, WorstPair]] = {}
    for pair in track(pairs, "compare pictures", total=len(pairs)):
        pictures = {key: take_picture(engine, engine.run(feed_pair(engine, pair))) for key, engine in engines.items()}
        for key, picture in pictures.items():
            score = to_first[key][pair.name] = compare_pictures(picture, pictures[first])
            name = key[0]
            if name != first[0] and score.psnr < worst.get(name, (math.inf,))[0]:
                worst[name] = (score.psnr, WorstPair(pair.name, picture, pictures[first]))
        if pair.truth is not None:
            for key, picture in (*pictures.items(), (UNCHANGED, pair.person)):
                to_truth.setdefault(key, {})[pair.name] = compare_pictures(picture, pair.truth)
    return (
        {key: summarize_quality(scores) for key, scores in to_first.items()},
        {key: summarize_quality(scores) for key, scores in to_truth.items()},
        {name: shown for name, (_, shown) in worst.items()},
    )


def _measure_files(models: Mapping[str, Path], network: str | None) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return size, parameters and MACs of every file, and what the counts leave out."""
    figures: dict[str, dict[str, Any]] = {}
    notices = []
    for name, path in models.items():
        figures[name] = {
            "size": measure_size(path),
            "parameters": count_parameters(path, network),
            "macs": None,
        }
        if detect_kind(path) in {"onnx", "openvino"}:
            counted = count_macs(path)
            figures[name]["macs"] = counted.macs
            if counted.uncounted:
                left = ", ".join(f"{op} ({number})" for op, number in counted.uncounted.items())
                notices.append(f"{name}: MACs leave out {left}")
    return figures, notices


def _make_row(
    key: Key,
    engine: Engine,
    static: Mapping[str, Any],
    timing: Latency,
    quality: Quality,
    truth: Quality | None,
    latency: Mapping[Key, Latency],
) -> dict[str, Any]:
    first = next(iter(latency))
    reference = key == first
    row: dict[str, Any] = {
        "model": key[0],
        "runtime": engine.runtime,
        "size MiB": static["size"] / 2**20,
        "params M": static["parameters"] / 1e6,
        "GMACs": None if static["macs"] is None else static["macs"] / 1e9,
        "median ms": timing.median_ms,
        "p90 ms": timing.p90_ms,
        "speed x": latency[first].median_ms / timing.median_ms,
        "PSNR dB": None if reference else quality.psnr_median,
        "worst dB": None if reference else quality.psnr_worst,
        "SSIM": None if reference else quality.ssim_median,
    }
    return row | (_show_truth(truth) if truth else {})


def _show_truth(quality: Quality) -> dict[str, float]:
    return {"truth PSNR dB": quality.psnr_median, "truth SSIM": quality.ssim_median}


def _find_slower(latency: Mapping[Key, Latency]) -> list[str]:
    """Say which models are slower than the first on a runtime that both run on."""
    first = next(iter(latency))
    notices = []
    for (name, runtime), timing in latency.items():
        before = latency.get((first[0], runtime))
        if before and name != first[0] and timing.median_ms > before.median_ms:
            ratio = timing.median_ms / before.median_ms
            notices.append(f"{name} is {ratio:.2f} times slower than {first[0]} on {runtime} on this machine")
    return notices


def format_report(report: Report, fmt: Literal["md", "csv", "json"] = "md") -> str:
    """Return the report as text: a table, and in Markdown what was noticed and how it was measured."""
    table = format_table(report.rows, report.columns, fmt)
    if fmt != "md":
        return table
    notices = "".join(f"- **{notice}**\n" for notice in report.notices)
    conditions = ", ".join(f"{key} {value}" for key, value in report.conditions.items())
    return f"{notices}{chr(10) if notices else ''}{table}\nMeasured: {conditions}. PSNR and SSIM: median over pairs.\n"

"""Results of `vtopt bench run` that were never measured, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vtopt.benchmarks.fid.picture_distance import PictureSetDistance
from vtopt.benchmarks.quality.pictures import Quality
from vtopt.benchmarks.run.changes import Change
from vtopt.benchmarks.run.compare import compare_results
from vtopt.benchmarks.run.results import Comparison, Entry, Model, Results, Settings
from vtopt.benchmarks.timing.sampling import Sample

__all__ = ["TIMES", "find_change", "make_distance", "make_entry", "make_model", "make_quiet_results", "make_results"]

SETTINGS = Settings(
    runs=6, seconds=0.0, processes=3, threads=(1,), batches=(1,), runtimes=(), pairs=None, pair_count=2, network=None
)
TIMES = {"fp32": 20.0, "int8": 10.0}
"""Of two models, in milliseconds."""
LUCK = (1.0, 1.02, 0.99)
"""What each of three processes takes longer."""


def make_entry(
    model: str,
    time_ms: float,
    runtime: str = "onnxruntime",
    threads: int = 1,
    luck: Sequence[float] = LUCK,
    waited: float = 0.1,
) -> Entry:
    """Return an entry of a process for each luck, with two rounds of one run, which waited that part of it besides."""
    samples = tuple(
        Sample(
            process=number,
            cpus=(0,),
            load_ms=100.0,
            first_ms=50.0,
            imported_mib=40.0,
            peak_mib=60.0,
            warmup=10,
            steady=True,
            rounds=(((time_ms * share * (1 + waited), time_ms * share * waited * threads),),) * 2,
        )
        for number, share in enumerate(luck)
    )
    return Entry(model, runtime, threads, 1, samples)


def make_model(name: str, **changed: Any) -> Model:
    given: dict[str, Any] = {
        "path": f"{name}.onnx",
        "kind": "onnx",
        "sha256": "0" * 64,
        "bytes": 8 * 2**20,
        "weight_bytes": 7 * 2**20,
        "compressed_bytes": 6 * 2**20,
        "parameters": 2_000_000,
        "macs": 3 * 10**9,
        "uncounted": {},
        "history": (),
    }
    return Model(name=name, **(given | changed))


def make_quality(psnr: float) -> Quality:
    return Quality(psnr, psnr - 2, 0.98, 0.97, 0.1, 0.1, "pair-0", "pair-1", 2)


def make_distance(name: str, value: float) -> PictureSetDistance:
    return PictureSetDistance(
        name=name,
        value=value,
        spread=None,
        subsets=None,
        subset_size=None,
        count=2032,
        reference_count=2032,
        reference="the truth of the pairs",
        resize="clean",
        filter="bicubic",
        side=299,
        network="some network",
        features=2048,
        weights_sha256=None,
        seed=None,
        notes=("A sentence.",),
    )


def make_results(times_ms: Mapping[str, float], **changed: Any) -> Results:
    """Return results of models by name, each with this time on onnxruntime; the second is 40 dB from the first."""
    load = {"time": "2026-01-01T00:00:00+00:00", "load": 0.5, "memory_free_mib": 9000}
    given: dict[str, Any] = {
        "complete": True,
        "settings": SETTINGS,
        "machine": {"cpu": "Some CPU", "torch": "2.0", "onnxruntime": "1.0", "openvino": "2026.0", "vtopt": "0.1.0"},
        "conditions": {"size": "64x48", "pairs": 2, "begin": load, "end": load},
        "models": tuple(make_model(name) for name in times_ms),
        "entries": tuple(make_entry(name, time) for name, time in times_ms.items()),
        "quality": tuple(
            Comparison(name, "onnxruntime", make_quality(40.0 if number else float("inf")))
            for number, name in enumerate(times_ms)
        ),
    }
    return Results(format="vtopt bench 2", **(given | changed))


def make_quiet_results(times_ms: Mapping[str, float], **changed: Any) -> Results:
    """Return results whose models never waited for a CPU."""
    return make_results(
        times_ms, entries=tuple(make_entry(name, time, waited=0) for name, time in times_ms.items()), **changed
    )


def find_change(old: Results, new: Results, model: str, what: str) -> Change:
    """Return what two results files say of one figure of a model."""
    return next(change for change in compare_results(old, new).changes if (change.model, change.what) == (model, what))

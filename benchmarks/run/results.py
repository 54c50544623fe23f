"""The results file of `vtopt bench run`: JSON with every time that was taken, so that others can compute anew."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import TypeAdapter, ValidationError

from ...optimize.errors import InputError
from ..fid.picture_distance import PictureSetDistance, Resize
from ..quality.pictures import FlowShift, Quality
from ..reports.files import save_text
from ..reports.tables import to_json_value
from ..timing.sampling import Sample

__all__ = [
    "Comparison",
    "Entry",
    "EntryKey",
    "Model",
    "OperationTimes",
    "Phase",
    "Results",
    "Settings",
    "Shown",
    "pick_baseline",
    "read_results",
    "write_results",
]

Format = Literal["vtopt bench 2"]
FORMAT: Format = get_args(Format)[0]

Phase = Literal["pictures", "operations"]

EntryKey = tuple[str, str, int, int]
"""Model, runtime, threads and batch."""


@dataclass(frozen=True)
class Settings:
    """What was asked for."""

    runs: int
    seconds: float
    processes: int
    threads: tuple[int, ...]
    batches: tuple[int, ...]
    runtimes: tuple[str, ...]
    """Empty for those that load a model."""
    pairs: str | None
    """None for drawn pairs."""
    pair_count: int
    network: str | None
    weights: str | None = None
    """Of the network that FID is measured on; None for fd_random, where there are enough pairs."""
    trust_weights: bool = False
    resize: Resize = "clean"
    kid: bool = False
    lpips: tuple[str, str] | None = None
    """The files of its trunk and of its linear weights."""


@dataclass(frozen=True)
class Model:
    """A file and what it costs."""

    name: str
    path: str
    kind: str
    sha256: str
    bytes: int
    """On disk, with all files that belong to it."""
    weight_bytes: int
    """Of its weights in memory, in the types that the file has."""
    compressed_bytes: int
    """Of its files by zlib, level 6."""
    parameters: int
    macs: int | None
    """Multiply-adds of one run for a batch of 1; 1 MAC = 2 FLOPs.

    None where they cannot be counted; then parameters and other bytes than those on disk are not either.
    """
    uncounted: Mapping[str, int]
    """Operation type without a rule -> how many."""
    history: tuple[Mapping[str, Any], ...]
    """The steps that made it, oldest first."""


@dataclass(frozen=True)
class Entry:
    """The times of one model on one runtime, with so many threads and pictures at once."""

    model: str
    runtime: str
    threads: int
    batch: int
    samples: tuple[Sample, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    """What is made of the samples; for other readers, as vtopt makes them anew."""
    failed: str = ""
    """Why it has no samples, or no more of them."""

    @property
    def key(self) -> EntryKey:
        return self.model, self.runtime, self.threads, self.batch


@dataclass(frozen=True)
class Comparison:
    """How far a model's pictures are from those of the first, and from the truth where pairs have it."""

    model: str
    runtime: str
    to_first: Quality
    to_truth: Quality | None = None
    flow: FlowShift | None = None
    """To the first model, where both are ONNX and have the same warps."""
    distances: tuple[PictureSetDistance, ...] = ()
    """Of all its pictures to the truth, or to the persons where pairs have none."""


@dataclass(frozen=True)
class Shown:
    """A pair on which a model's picture is shown beside the first model's."""

    model: str
    runtime: str
    role: Literal["worst", "median"]
    pair: str
    psnr: float
    picture: str
    """A PNG, by its path from the folder of the results."""
    reference: str


@dataclass(frozen=True)
class OperationTimes:
    """Milliseconds per run by operation type, from the runtime's own profiler."""

    model: str
    runtime: str
    threads: int
    by_op: Mapping[str, float]


@dataclass(frozen=True)
class Results:
    """What a run measured. The first model is the reference of pictures, and of speed unless another is named."""

    format: Format
    complete: bool
    """False for a run that was interrupted; what it has is whole blocks."""
    settings: Settings
    machine: Mapping[str, Any]
    conditions: Mapping[str, Any]
    models: tuple[Model, ...]
    entries: tuple[Entry, ...]
    quality: tuple[Comparison, ...] = ()
    unchanged: Quality | None = None
    """How far the persons as they are, with nothing put on, are from the truth."""
    shown: tuple[Shown, ...] = ()
    op_times: tuple[OperationTimes, ...] = ()
    notices: tuple[str, ...] = ()
    pending: tuple[Phase, ...] = ()
    """What an interrupted run has still to do before it measures times."""

    def find_model(self, name: str) -> Model:
        return next(model for model in self.models if model.name == name)

    def find_quality(self, name: str, runtime: str) -> Comparison | None:
        return next((each for each in self.quality if (each.model, each.runtime) == (name, runtime)), None)


def pick_baseline(entries: Iterable[Entry], entry: Entry, baseline: str) -> Entry | None:
    """Return what an entry's speed is a ratio to: the model of that name on the first runtime that ran it.

    It has the entry's threads and batch; None where the model was not measured with those.
    """
    alike = (each for each in entries if (each.threads, each.batch) == (entry.threads, entry.batch))
    return next((each for each in alike if each.model == baseline and each.samples), None)


def write_results(results: Results, path: Path) -> Path:
    """Write the file, all of it or nothing, with the figures of every entry.

    Raises OutputError where it cannot be written.
    """
    from .entry_figures import make_figures

    first = results.models[0].name
    entries = [
        replace(entry, figures=make_figures(entry, pick_baseline(results.entries, entry, first), results.entries))
        for entry in results.entries
    ]
    written = to_json_value(replace(results, entries=tuple(entries)))
    return save_text(json.dumps(written, indent=1, allow_nan=False) + "\n", path)


def read_results(path: Path) -> Results:
    """Read a results file.

    Raises InputError for a file that is missing, that is no results file, or one of another version of vtopt.
    """
    again = "measure again with: vtopt bench run"
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; make it with: vtopt bench run") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON, or cut short; {again}") from error
    found = content.get("format") if isinstance(content, dict) else None
    if not isinstance(found, str) or not found.startswith("vtopt bench "):
        raise InputError(f"{path}: is JSON, but no results of vtopt bench run; {again}")
    if found != FORMAT:
        raise InputError(f"{path}: is of the format '{found}', this vtopt reads '{FORMAT}'; {again}")
    try:
        results = TypeAdapter(Results).validate_python(content)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        problem = error.errors()[0]["msg"].lower()
        raise InputError(f"{path}: is damaged: {place}: {problem}; {again}") from error
    named = {model.name for model in results.models}
    if unknown := next((entry.model for entry in results.entries if entry.model not in named), None):
        raise InputError(f"{path}: is damaged: it has times of '{unknown}', which is not among its models; {again}")
    if not results.models:
        raise InputError(f"{path}: has no models; {again}")
    if untimed := next((entry.model for entry in results.entries if not _has_times(entry)), None):
        problem = f"a process of '{untimed}' has no times, or some that are not above 0"
        raise InputError(f"{path}: is damaged: {problem}; {again}")
    return results


def _has_times(entry: Entry) -> bool:
    """Tell whether each process has rounds, each round runs, and each run a time."""
    return all(
        sample.rounds and all(turn and all(0 < time < math.inf for time, _ in turn) for turn in sample.rounds)
        for sample in entry.samples
    )

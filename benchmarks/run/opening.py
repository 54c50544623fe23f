"""Open the models of a run; one that fails is told, and the others go on."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...optimize.artifacts import detect_kind, hash_artifact, list_files
from ...optimize.errors import InputError, NetworkError
from ...optimize.progress import track
from ..cost.flops import describe_uncounted
from ..cost.model_cost import measure_cost
from ..engines.engine import Engine, open_engine
from ..engines.lots import plan_lots
from ..engines.sets import Key, list_runtimes, open_model, require_one_size
from ..host import take_reason
from .results import Model, Settings

__all__ = ["Opened", "Opening", "describe_models", "open_lots", "open_models", "plan_run", "run_once"]

PROCESS_BYTES = 300 * 2**20
"""What a process of a model takes besides it: Python, a runtime and its libraries."""


@dataclass(frozen=True)
class Opened:
    """Engines that loaded, and why others did not."""

    engines: dict[Key, Engine]
    failed: Mapping[Key, str]
    notices: Sequence[str]


Opening = Callable[[], Iterator[Mapping[Key, Engine]]]
"""Opens one lot of engines after the other, the first engine in each."""


def open_models(models: Mapping[str, Path], settings: Settings) -> Opened:
    """Open each model on its runtimes; one that no runtime loads has failed on its first.

    Raises InputError where the first fails, which others are compared with, for files that are missing or of no kind,
    and for models that take pictures of different sizes; MissingExtraError for a runtime that was asked for and is not
    installed.
    """
    runtimes = {name: list_runtimes(path, settings.runtimes) for name, path in models.items()}
    engines: dict[Key, Engine] = {}
    failed: dict[Key, str] = {}
    notices: list[str] = []
    asked = {"threads": max(settings.threads), "network": settings.network, "runtimes": settings.runtimes}
    for name, path in models.items():
        try:
            opened, said = open_model(name, path, **asked)
        except (InputError, NetworkError) as error:
            if not engines:
                raise
            failed[name, runtimes[name][0]] = str(error)
            continue
        engines |= opened
        notices += said
    require_one_size(engines)
    return Opened(engines, failed, notices)


def run_once(opened: Opened, feeds: Mapping[Key, Mapping[str, np.ndarray]]) -> Opened:
    """Run each engine once; those that fail at it join the failed.

    Raises InputError where the first fails.
    """
    sound, failed = {}, dict(opened.failed)
    for key, engine in opened.engines.items():
        try:
            engine.run(feeds[key])
        except InputError as error:
            if not sound:
                raise
            failed[key] = str(error)
            continue
        sound[key] = engine
    return Opened(sound, failed, opened.notices)


def plan_run(engines: dict[Key, Engine], feeds: Mapping[Key, Mapping[str, np.ndarray]]) -> list[list[Key]]:
    """Return lots of keys that fit in memory, also in processes of their own."""
    return plan_lots(engines, feeds, overhead=PROCESS_BYTES)


def open_lots(
    engines: dict[Key, Engine], lots: Sequence[Sequence[Key]], models: Mapping[str, Path], settings: Settings
) -> Opening:
    """Return what opens lots one by one. With one lot that is of `engines`; with several these are closed."""
    if len(lots) == 1:
        return lambda: iter([{key: engines[key] for key in lots[0] if key in engines}])
    engines.clear()

    def open_one(keys: Sequence[Key]) -> Mapping[Key, Engine]:
        threads, network = max(settings.threads), settings.network
        return {
            (name, runtime): open_engine(models[name], runtime=runtime, threads=threads, network=network)
            for name, runtime in keys
        }

    return lambda: map(open_one, lots)


def describe_models(
    models: Mapping[str, Path], settings: Settings, size: tuple[int, int], sound: Container[str]
) -> tuple[list[Model], list[str]]:
    """Return what each model costs, and notices; of one that is not `sound` or cannot be counted, its bytes alone."""
    described, notices = [], []
    for name, path in track(models.items(), "count multiply-adds", total=len(models)):
        model = _describe_bytes(name, path)
        try:
            if name in sound:
                model = measure_cost(name, path, network=settings.network, size=size)
        except Exception as error:  # what reads graphs has exceptions of its own
            notices.append(f"{name}: its parameters and MACs cannot be counted: {take_reason(error)}")
        if model.uncounted:
            notices.append(f"{name}: MACs leave out {describe_uncounted(model.uncounted)}")
        described.append(model)
    return described, notices


def _describe_bytes(name: str, path: Path) -> Model:
    return Model(
        name=name,
        path=str(path),
        kind=detect_kind(path),
        sha256=hash_artifact(path),
        bytes=sum(file.stat().st_size for file in list_files(path)),
        weight_bytes=0,
        compressed_bytes=0,
        parameters=0,
        macs=None,
        uncounted={},
        history=(),
    )

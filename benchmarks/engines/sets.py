"""Several models opened together, each on the runtimes that load it, and the inputs that all of them get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...optimize.artifacts import detect_kind
from ...optimize.errors import InputError, MissingExtraError, UsageError
from .engine import Engine, feed_pair, open_engine
from .feeds import draw_noise, write_shape
from .runtimes import GPU_RUNTIMES, RUNTIMES, list_gpu_runtimes

if TYPE_CHECKING:
    from ...optimize.data.pairs import Pair

__all__ = [
    "Key",
    "feed_engines",
    "find_size",
    "list_runtimes",
    "open_engines",
    "open_model",
    "require_one_size",
    "shows_pictures",
]

Key = tuple[str, str]
"""A model's name and a runtime."""


def open_engines(
    models: Mapping[str, Path],
    *,
    threads: int | None = None,
    network: str | None = None,
    runtimes: Sequence[str] = (),
) -> tuple[dict[Key, Engine], list[str]]:
    """Open each model as `open_model` does; return notices too.

    Raises InputError for models that take pictures of different sizes, too.
    """
    engines: dict[Key, Engine] = {}
    notices: list[str] = []
    for name, path in models.items():
        opened, said = open_model(name, path, threads=threads, network=network, runtimes=runtimes)
        engines |= opened
        notices += said
    require_one_size(engines)
    return engines, notices


def open_model(
    name: str,
    path: Path,
    *,
    threads: int | None = None,
    network: str | None = None,
    runtimes: Sequence[str] = (),
) -> tuple[dict[Key, Engine], list[str]]:
    """Open a model on the runtimes that load its kind, or on those of `runtimes` that do; return notices too.

    A runtime that is not installed, and a second one that does not load the model, are told and left out where
    another serves.

    Raises InputError for a model that none runs, UsageError for a runtime that is not known, MissingExtraError for
    one that was asked for and is not installed.
    """
    engines: dict[Key, Engine] = {}
    notices = []
    able = list_runtimes(path, runtimes)
    for runtime in able:
        try:
            engines[name, runtime] = open_engine(path, runtime=runtime, threads=threads, network=network)
        except (InputError, MissingExtraError) as error:
            missing = isinstance(error, MissingExtraError)
            last = runtime == able[-1] and not engines
            if last or (missing and runtimes) or not (missing or engines):
                raise
            reason = str(error).removeprefix(f"{path}: ").partition("; ")[0]
            notices.append(f"{name} has no row on {runtime}: {reason}")
    return engines, notices


def list_runtimes(path: Path, runtimes: Sequence[str] = ()) -> list[str]:
    """Return the runtimes for a file: those that take its kind, its own first, those on a GPU last.

    Raises InputError for a file that is missing, of no kind, or of one that none of `runtimes` takes, and for a GPU
    that is not there, UsageError for a runtime that is not known.
    """
    known = [*RUNTIMES, *list_gpu_runtimes()]
    if unknown := [name for name in runtimes if name not in known]:
        choice = f"choose of {', '.join(known)}"
        if unknown[0] in GPU_RUNTIMES:
            raise InputError(f"runtime '{unknown[0]}' is not on this machine, or its package has no GPU; {choice}")
        raise UsageError(f"runtime '{unknown[0]}' is not known; {choice}")
    kind = detect_kind(path)
    able = [name for name, opener in RUNTIMES.items() if kind in opener.kinds]
    able += [name for name in list_gpu_runtimes() if kind in GPU_RUNTIMES[name].kinds]
    chosen = [name for name in able if not runtimes or name in runtimes]
    if not chosen:
        raise InputError(f"{path}: {' and '.join(runtimes)} do not run a file of kind {kind}; add {' or '.join(able)}")
    return chosen


def require_one_size(engines: Mapping[Key, Engine]) -> None:
    """Raise InputError, with all sizes, for engines that take pictures of different ones."""
    sizes = {name: engine.size for (name, _), engine in engines.items() if _has_fixed_size(engine)}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {height}x{width}" for name, (height, width) in sizes.items())
        raise InputError(f"bench: the models take pictures of different sizes ({told}); export them with one --size")


def find_size(engines: Mapping[Key, Engine]) -> tuple[int, int]:
    """Return the height and width that all engines take: that of one that has it fixed, else the first's."""
    fixed = (engine.size for engine in engines.values() if _has_fixed_size(engine))
    return next(fixed, next(iter(engines.values())).size)


def _has_fixed_size(engine: Engine) -> bool:
    return any(len(shape) == 4 and None not in shape[2:] for shape in engine.inputs.values())


def shows_pictures(engines: Mapping[Key, Engine]) -> bool:
    """Tell whether it is known of every input which picture of a pair feeds it."""
    return all(set(engine.pictures) == set(engine.inputs) for engine in engines.values())


def feed_engines(
    engines: Mapping[Key, Engine], pair: Pair, batches: Sequence[int]
) -> dict[tuple[str, str, int], dict[str, np.ndarray]]:
    """Return every engine's inputs for each batch: a pair, or seeded noise where an input shows no known picture.

    Raises InputError for a batch that a model does not take, and, with noise, for models of different inputs.
    """
    if shows_pictures(engines):
        feeds = {key: feed_pair(engine, pair) for key, engine in engines.items()}
    else:
        _require_same_inputs(engines)
        feeds = {key: draw_noise(engine) for key, engine in engines.items()}
    return {(*key, batch): _tile(engines[key], feeds[key], batch) for key in engines for batch in batches}


def _require_same_inputs(engines: Mapping[Key, Engine]) -> None:
    told = {
        name: ", ".join(f"{given} {write_shape(shape)}" for given, shape in sorted(engine.inputs.items()))
        for (name, _), engine in engines.items()
    }
    first = next(iter(told))
    if other := next((name for name, inputs in told.items() if inputs != told[first]), None):
        raise InputError(
            f"bench: {first} takes {told[first]}, {other} takes {told[other]}, and no picture of a pair is known for "
            "all of these; name models with the same inputs, or export with inputs named person and clothes"
        )


def _tile(engine: Engine, feeds: Mapping[str, np.ndarray], batch: int) -> dict[str, np.ndarray]:
    """Repeat the inputs to a batch."""
    for name, shape in engine.inputs.items():
        if shape and shape[0] not in (None, batch):
            raise InputError(
                f"{engine.path}: input '{name}' takes a batch of {shape[0]}, not {batch}; pass --batch {shape[0]}, or "
                "export again with --dynamic-batch"
            )
    return {
        name: array if not array.ndim or len(array) == batch else np.repeat(array[:1], batch, axis=0)
        for name, array in feeds.items()
    }

"""Feed a try-on pair to an engine, and take the picture it makes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from ...optimize.data.derived import NEAR_WHITE, derive_edge
from ...optimize.errors import InputError
from .runtimes import Shape

if TYPE_CHECKING:
    from pathlib import Path

    from ...optimize.data.pictures import Given
    from .engine import Engine

__all__ = [
    "NEAR_WHITE",
    "derive_edge",
    "draw_noise",
    "feed_pair",
    "fits_shape",
    "infer_picture",
    "match_pictures",
    "take_picture",
    "write_shape",
]

PICTURE_NAMES: Mapping[str, str] = {
    "person": "person",
    "person_image": "person",
    "ref_input": "person",
    "ref_image": "person",
    "clothes": "clothes",
    "cloth": "clothes",
    "garment": "clothes",
    "source_image": "clothes",
    "edge": "edge",
    "mask": "edge",
    "cloth_mask": "edge",
    "pose": "pose",
    "agnostic": "agnostic",
    "densepose": "densepose",
    "parse_agnostic": "parse_agnostic",
    "layout": "layout",
    "painted_layout": "painted_layout",
    "representation": "representation",
    "hole": "hole",
    "garments": "garments",
}
"""Input name -> the picture that feeds it, for models that do not say it themselves."""


def match_pictures(inputs: Mapping[str, Shape], declared: Mapping[str, str]) -> dict[str, str]:
    """Return which picture feeds each input: as declared, else by its name (`PICTURE_NAMES`).

    Where neither says anything of any input and there are exactly two, of 3 channels each, the first
    takes the person and the second the clothes. Inputs that stay unknown are absent.
    """
    known = {name: PICTURE_NAMES.get(name.lower()) for name in inputs} | dict(declared)
    found = {name: picture for name, picture in known.items() if picture and name in inputs}
    if not found and [_count_channels(shape) for shape in inputs.values()] == [3, 3]:
        return dict(zip(inputs, ("person", "clothes"), strict=True))
    return found


def feed_pair(engine: Engine, pair: Given) -> dict[str, np.ndarray]:
    """Return the engine's inputs for one pair: float32 (N, C, H, W), N the model's batch, or 1 where dynamic.

    An input fed by several pictures gets them one after the other along its channels. What has fewer channels
    than its input is repeated (6 channels: the person twice). What a pair has not is made of its other pictures, an
    edge of its clothes; where that shows something else, the person in place of a pose, a notice says so once.

    Raises InputError for an input that no picture is known for, for a picture that is missing, with how to give it,
    and for a pair of another size.
    """
    unknown = [name for name in engine.inputs if name not in engine.pictures]
    if unknown:
        raise InputError(
            f"{engine.path}: no picture is known for input {', '.join(map(repr, unknown))} of "
            f"{', '.join(engine.inputs)}; name the inputs person, clothes and edge when exporting"
        )
    return {
        name: _fit_picture(_join_pictures(engine, name, pair), shape, f"{engine.path}: input '{name}'", pair.name)
        for name, shape in engine.inputs.items()
    }


def _join_pictures(engine: Engine, name: str, pair: Given) -> np.ndarray:
    """Return the picture (C, H, W) for an input, or the several that are joined by + in its name."""
    from ...optimize.data.pictures import find_picture, stands_in

    wanted = engine.pictures[name].split("+")
    try:
        found = [find_picture(pair, key) for key in wanted]
    except InputError as error:
        raise InputError(f"{engine.path}: input '{name}' cannot be fed: {error}") from error
    if missing := tuple(key for key in wanted if stands_in(pair, key)):
        _announce_stand_in(engine.path, name, " and ".join(missing), pair.advise(missing))
    return np.concatenate(found)


@cache
def _announce_stand_in(path: Path | None, name: str, missing: str, advice: str) -> None:
    from ...optimize.console import print_notice

    print_notice(
        f"{path}: input '{name}' wants {missing}, which is not given: the person stands in, and the pictures are not "
        f"what the network can do; {advice}"
    )


def draw_noise(engine: Engine, seed: int = 0) -> dict[str, np.ndarray]:
    """Return seeded numbers in [-1, 1] for every input, whatever it is for; what varies is 1, a picture its size."""
    generator = np.random.default_rng(seed)
    free = (1, 3, *engine.size)
    shapes = {
        name: [free[axis] if side is None and len(shape) == 4 else side or 1 for axis, side in enumerate(shape)]
        for name, shape in engine.inputs.items()
    }
    return {name: generator.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def infer_picture(engine: Engine, pair: Given) -> np.ndarray:
    """Return the try-on picture of a pair: float32 (3, H, W), clipped to [-1, 1].

    Raises InputError when the output is not a picture.
    """
    return take_picture(engine, engine.run(feed_pair(engine, pair)))


def take_picture(engine: Engine, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the picture among a run's outputs: float32 (3, H, W), clipped to [-1, 1].

    It is the output named "tryon", else the first. Raises InputError when that is not a picture.
    """
    name = "tryon" if "tryon" in engine.outputs else engine.outputs[0]
    made = outputs[name]
    picture = made[0] if made.ndim == 4 else made
    if picture.ndim != 3 or len(picture) != 3:
        raise InputError(
            f"{engine.path}: output '{name}' has the shape {write_shape(made.shape)}, not that of a picture "
            f"(1x3xHxW); export the picture first or name it tryon (outputs: {', '.join(engine.outputs)})"
        )
    return np.clip(picture, -1, 1).astype(np.float32, copy=False)


def _fit_picture(picture: np.ndarray, shape: Shape, what: str, pair: str) -> np.ndarray:
    """Repeat a picture (C, H, W) over the channels and the batch of an input's shape."""
    if len(shape) != 4:
        raise InputError(f"{what} has the shape {write_shape(shape)}; a picture needs NxCxHxW, export it so")
    batch, channels = shape[0] or 1, shape[1] or len(picture)
    if channels % len(picture):
        raise InputError(f"{what} has {channels} channels, its picture {len(picture)}; declare another picture for it")
    if not fits_shape(picture.shape[1:], shape[2:]):
        have, want = write_shape(picture.shape[1:]), write_shape(shape[2:])
        raise InputError(f"{what} is {want}, pair {pair} is {have}; load the pairs with --size {want}")
    return np.tile(picture[np.newaxis], (batch, channels // len(picture), 1, 1)).astype(np.float32, copy=False)


def _count_channels(shape: Shape) -> int | None:
    return shape[1] if len(shape) == 4 else None


def write_shape(shape: Shape) -> str:
    """Write a shape as 1x3x256x192, ? where dynamic."""
    return "x".join("?" if side is None else str(side) for side in shape)


def fits_shape(given: tuple[int, ...], wanted: Shape) -> bool:
    """Tell whether an array of shape `given` can go where `wanted` is; None takes any side."""
    return len(given) == len(wanted) and all(
        side is None or side == have for have, side in zip(given, wanted, strict=True)
    )

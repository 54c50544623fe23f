"""Seeded, drawn try-on pairs in the manner of VITON: a person, another garment, the person wearing it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .drawing.body import Body, pick_body
from .drawing.canvas import Canvas, quantize
from .drawing.flat import render_flat
from .drawing.garment import Garment, pick_garment
from .drawing.person import draw_figure, dress_figure, locate_cloth
from .drawing.pose import draw_agnostic, draw_pose

Picture = NDArray[np.uint8]
Size = tuple[int, int]

_BODY, _WORN, _WANTED = range(3)


class DrawnPair(NamedTuple):
    """A person in one garment, another garment laid out, and the truth: that person wearing it."""

    person: Picture
    clothes: Picture
    truth: Picture


class DrawnOutfits(NamedTuple):
    """A drawn pair with what it was made of: the worn garment laid out, and what hides all garments."""

    person: Picture
    clothes: Picture
    truth: Picture
    worn: Picture
    """What `person` wears, laid out as `clothes` is."""
    pose: Picture
    """The skeleton on black."""
    agnostic: Picture
    """The person with all that any garment may cover, and the arms, grey."""


def draw_pair(seed: int, size: Size = (256, 192)) -> DrawnPair:
    """Draw the pair of a seed; pictures are uint8 (height, width, 3), size is (height, width) at 4:3."""
    return draw_outfits(*_pick_outfits(seed), size)


def draw_placed_pair(seed: int, size: Size = (256, 192)) -> tuple[DrawnPair, NDArray[np.float32]]:
    """Draw the pair of a seed, and tell where in `clothes` the garment's pixels in `truth` came from.

    The places are float32 (3, height, width): x and y in [-1, 1] as a sampling grid has them (align_corners
    False), both times the garment's coverage, and that coverage in 0..1.
    """
    body, worn, wanted = _pick_outfits(seed)
    pair = draw_outfits(body, worn, wanted, size)
    return pair, _stack_places(locate_cloth(draw_figure(body, Canvas(*size)), wanted))


def _pick_outfits(seed: int) -> tuple[Body, Garment, Garment]:
    return (
        pick_body(_seed_stream(seed, _BODY)),
        pick_garment(_seed_stream(seed, _WORN)),
        pick_garment(_seed_stream(seed, _WANTED)),
    )


def draw_outfits(body: Body, worn: Garment, wanted: Garment, size: Size = (256, 192)) -> DrawnPair:
    """Draw a body in the worn garment, the wanted garment laid out, and the body in it."""
    canvas = _open_canvas(size)
    figure = draw_figure(body, canvas)
    clothes = render_flat(wanted, canvas)
    return DrawnPair(
        quantize(dress_figure(figure, worn, render_flat(worn, canvas))),
        quantize(clothes),
        quantize(dress_figure(figure, wanted, clothes)),
    )


def draw_placed_outfits(seed: int, size: Size = (256, 192)) -> tuple[DrawnOutfits, NDArray[np.float32]]:
    """Draw the pair of a seed as `draw_placed_pair` does, with the worn garment, the pose and the agnostic person."""
    body, worn, wanted = _pick_outfits(seed)
    canvas = _open_canvas(size)
    figure = draw_figure(body, canvas)
    laid_out, clothes = render_flat(worn, canvas), render_flat(wanted, canvas)
    pictures = DrawnOutfits(
        person=quantize(dress_figure(figure, worn, laid_out)),
        clothes=quantize(clothes),
        truth=quantize(dress_figure(figure, wanted, clothes)),
        worn=quantize(laid_out),
        pose=quantize(draw_pose(body, canvas)),
        agnostic=quantize(draw_agnostic(figure, canvas)),
    )
    return pictures, _stack_places(locate_cloth(figure, wanted))


def _open_canvas(size: Size) -> Canvas:
    height, width = size
    if height * 3 != width * 4 or height < 32:
        raise ValueError(f"size must be (height, width) at 4:3 and at least (32, 24), not {size}")
    return Canvas(height, width)


def _stack_places(places: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.ascontiguousarray(places.transpose(2, 0, 1), np.float32)


def write_pairs(folder: Path, count: int, *, seed: int = 0, size: Size = (256, 192)) -> Path:
    """Write pairs of the seeds from seed on in VITON's layout and return the folder.

    It holds test_pairs.txt ("person.png clothes.png" a line) and the folders test_img, test_clothes,
    test_truth, test_pose and test_agnostic, the last three named like the persons.
    """
    folders = [folder / f"test_{name}" for name in ("img", "clothes", "truth", "pose", "agnostic")]
    for place in folders:
        place.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(seed, seed + count):
        person, clothes = f"{number:06d}_0.png", f"{number:06d}_1.png"
        drawn, _ = draw_placed_outfits(number, size)
        pictures = (drawn.person, drawn.clothes, drawn.truth, drawn.pose, drawn.agnostic)
        for place, picture in zip(folders, pictures, strict=True):
            Image.fromarray(picture).save(place / (clothes if place.name == "test_clothes" else person))
        lines.append(f"{person} {clothes}\n")
    (folder / "test_pairs.txt").write_text("".join(lines), encoding="ascii")
    return folder


def draw_contact_sheet(seeds: Sequence[int], size: Size = (256, 192)) -> Image.Image:
    """Set the triples of the seeds side by side, person | clothes | truth, three triples a row."""
    height, width = size
    gap, wide_gap, per_row = max(width // 48, 2), max(width // 12, 6), min(3, max(len(seeds), 1))
    triple = 3 * width + 2 * gap
    rows = -(-len(seeds) // per_row)
    extent = (per_row * (triple + wide_gap) + wide_gap, rows * (height + wide_gap) + wide_gap)
    sheet = Image.new("RGB", extent, (255, 255, 255))
    for place, seed in enumerate(seeds):
        row, column = divmod(place, per_row)
        left, top = wide_gap + column * (triple + wide_gap), wide_gap + row * (height + wide_gap)
        for index, picture in enumerate(draw_pair(seed, size)):
            sheet.paste(Image.fromarray(picture), (left + index * (width + gap), top))
    return sheet


def _seed_stream(seed: int, part: int) -> np.random.Generator:
    return np.random.default_rng([seed, part])

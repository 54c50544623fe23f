"""Seeded, drawn try-on pairs in the manner of VITON: a person, another garment, the person wearing it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .drawing.body import Body
from .drawing.canvas import Canvas
from .drawing.garment import Garment
from .drawing.person import locate_cloth
from .drawing.scene import (
    Scene,
    open_scene,
    show_agnostic,
    show_clothes,
    show_person,
    show_pose,
    show_truth,
    show_worn,
)
from .pictures import PICTURES, name_written

Picture = NDArray[np.uint8]
Size = tuple[int, int]


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
    return _draw_pair(open_scene(seed, size))


def draw_placed_pair(seed: int, size: Size = (256, 192)) -> tuple[DrawnPair, NDArray[np.float32]]:
    """Draw the pair of a seed, and tell where in `clothes` the garment's pixels in `truth` came from.

    The places are float32 (3, height, width): x and y in [-1, 1] as a sampling grid has them (align_corners
    False), both times the garment's coverage, and that coverage in 0..1.
    """
    return show_placed_pair(open_scene(seed, size))


def show_placed_pair(scene: Scene) -> tuple[DrawnPair, NDArray[np.float32]]:
    """Draw the pair of a scene, as `draw_placed_pair` does that of a seed."""
    return _draw_pair(scene), _stack_places(scene)


def draw_outfits(body: Body, worn: Garment, wanted: Garment, size: Size = (256, 192)) -> DrawnPair:
    """Draw a body in the worn garment, the wanted garment laid out, and the body in it."""
    return _draw_pair(Scene(body, worn, wanted, Canvas(*size)))


def _draw_pair(scene: Scene) -> DrawnPair:
    return DrawnPair(show_person(scene), show_clothes(scene), show_truth(scene))


def draw_placed_outfits(seed: int, size: Size = (256, 192)) -> tuple[DrawnOutfits, NDArray[np.float32]]:
    """Draw the pair of a seed as `draw_placed_pair` does, with the worn garment, the pose and the agnostic person."""
    return show_placed_outfits(open_scene(seed, size))


def show_placed_outfits(scene: Scene) -> tuple[DrawnOutfits, NDArray[np.float32]]:
    """Draw the pair of a scene, as `draw_placed_outfits` does that of a seed."""
    pictures = DrawnOutfits(*_draw_pair(scene), show_worn(scene), show_pose(scene), show_agnostic(scene))
    return pictures, _stack_places(scene)


def _stack_places(scene: Scene) -> NDArray[np.float32]:
    return np.ascontiguousarray(locate_cloth(scene.figure, scene.wanted).transpose(2, 0, 1), np.float32)


def write_pairs(folder: Path, count: int, *, seed: int = 0, size: Size = (256, 192)) -> Path:
    """Write pairs of the seeds from seed on in VITON's layout and return the folder.

    It holds test_pairs.txt ("person.png clothes.png" a line) and a folder for each picture of `PICTURES` that is
    drawn, all but the clothes named like the persons: what is read from them is what is drawn.
    """
    lines = []
    for number in range(seed, seed + count):
        person, clothes = f"{number:06d}_0.png", f"{number:06d}_1.png"
        scene = open_scene(number, size)
        for kind in PICTURES.values():
            if kind.write:
                path = folder / name_written(kind, person, clothes)
                path.parent.mkdir(parents=True, exist_ok=True)
                kind.write(scene, path)
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

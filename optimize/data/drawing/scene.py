"""What a seed stands for, a body and two garments, and every picture that can be drawn of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .body import Body, pick_body
from .canvas import Array, Canvas, quantize
from .densepose import draw_densepose
from .flat import render_flat
from .garment import Garment, pick_garment
from .person import Figure, draw_figure, dress_figure, label_figure
from .pose import draw_agnostic, draw_pose, find_hidden, label_agnostic, locate_joints

__all__ = [
    "Scene",
    "open_scene",
    "show_agnostic",
    "show_agnostic_labels",
    "show_clothes",
    "show_densepose",
    "show_hole",
    "show_joints",
    "show_person",
    "show_person_labels",
    "show_pose",
    "show_truth",
    "show_truth_labels",
    "show_worn",
]

Picture = NDArray[np.uint8]

_BODY, _WORN, _WANTED = range(3)


@dataclass(frozen=True, eq=False)
class Scene:
    """A body, the garment that it wears, the one that it is to wear, and the canvas for them.

    What several pictures are made of is drawn when the first of them is.
    """

    body: Body
    worn: Garment
    wanted: Garment
    canvas: Canvas

    @cached_property
    def figure(self) -> Figure:
        """The body on the canvas."""
        return draw_figure(self.body, self.canvas)

    @cached_property
    def worn_flat(self) -> Array:
        """The worn garment laid out, (H, W, 3) in 0..1."""
        return render_flat(self.worn, self.canvas)

    @cached_property
    def wanted_flat(self) -> Array:
        """The wanted garment laid out, (H, W, 3) in 0..1."""
        return render_flat(self.wanted, self.canvas)


def open_scene(seed: int, size: tuple[int, int]) -> Scene:
    """Return the scene of a seed; size is (height, width) at 4:3, from (32, 24) on."""
    height, width = size
    if height * 3 != width * 4 or height < 32:
        raise ValueError(f"size must be (height, width) at 4:3 and at least (32, 24), not {size}")
    body, worn, wanted = (np.random.default_rng([seed, part]) for part in (_BODY, _WORN, _WANTED))
    return Scene(pick_body(body), pick_garment(worn), pick_garment(wanted), Canvas(height, width))


def show_person(scene: Scene) -> Picture:
    """Draw the person in the worn garment, (H, W, 3)."""
    return quantize(dress_figure(scene.figure, scene.worn, scene.worn_flat))


def show_clothes(scene: Scene) -> Picture:
    """Draw the wanted garment laid out, (H, W, 3)."""
    return quantize(scene.wanted_flat)


def show_truth(scene: Scene) -> Picture:
    """Draw the person in the wanted garment, (H, W, 3)."""
    return quantize(dress_figure(scene.figure, scene.wanted, scene.wanted_flat))


def show_worn(scene: Scene) -> Picture:
    """Draw the worn garment laid out, (H, W, 3)."""
    return quantize(scene.worn_flat)


def show_pose(scene: Scene) -> Picture:
    """Draw the skeleton on black, (H, W, 3)."""
    return quantize(draw_pose(scene.body, scene.canvas))


def show_agnostic(scene: Scene) -> Picture:
    """Draw the person with all that any garment may cover, and the arms, grey, (H, W, 3)."""
    return quantize(draw_agnostic(scene.figure, scene.canvas))


def show_densepose(scene: Scene) -> Picture:
    """Draw the parts of the body on black, (H, W, 3)."""
    return quantize(draw_densepose(scene.figure, scene.canvas))


def show_person_labels(scene: Scene) -> Picture:
    """Tell what each pixel of `show_person` is: (H, W) of `Label`."""
    return label_figure(scene.figure, scene.worn)


def show_truth_labels(scene: Scene) -> Picture:
    """Tell what each pixel of `show_truth` is: (H, W) of `Label`."""
    return label_figure(scene.figure, scene.wanted)


def show_agnostic_labels(scene: Scene) -> Picture:
    """Tell what each pixel of `show_agnostic` is: (H, W) of `Label`."""
    return label_agnostic(scene.figure, scene.canvas)


def show_hole(scene: Scene) -> Picture:
    """Tell what `show_agnostic` hides: (H, W), 255 there and 0 elsewhere."""
    return find_hidden(scene.figure, scene.canvas)


def show_joints(scene: Scene) -> NDArray[np.float32]:
    """Tell where 18 joints are: (18, 2), x and y in pixels, NaN for those out of the picture."""
    return locate_joints(scene.body) * np.float32(scene.canvas.scale)

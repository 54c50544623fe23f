"""What a try-on network may be told of a person: the skeleton, and the person with garment and arms hidden.

Both are made of the body alone, so nothing of what the person wears can be read from them.
"""

from __future__ import annotations

from dataclasses import replace
from math import cos, radians, sin

import numpy as np
from numpy.typing import NDArray

from ..labels import Label
from .body import Body, Point
from .canvas import Array, Canvas, Color, Layer, lay_all, lay_labels, measure_limb
from .garment import HEM_LENGTHS
from .head import locate_face
from .person import Figure, ease_sleeve, ease_torso

__all__ = ["draw_agnostic", "draw_pose", "find_hidden", "label_agnostic", "locate_joints"]

_GREY: Color = (0.5, 0.5, 0.5)
_WIDEST = 1.0
"""The loosest garment there is."""
_LOWEST_HEM = max(HEM_LENGTHS.values()) + 9.0
"""Below the lowest bit of any hem: it is curved, and its middle hangs lower on a body."""
_BONE = 2.2
_COLORS: dict[str, Color] = {
    "neck": (1.0, 1.0, 1.0),
    "left shoulder": (1.0, 0.0, 0.0), "left upper arm": (1.0, 0.5, 0.0), "left lower arm": (1.0, 1.0, 0.0),
    "left hand": (0.6, 0.4, 0.2), "left side": (1.0, 0.0, 0.6),
    "right shoulder": (0.0, 0.0, 1.0), "right upper arm": (0.0, 0.5, 1.0), "right lower arm": (0.0, 1.0, 1.0),
    "right hand": (0.2, 0.4, 0.6), "right side": (0.5, 0.0, 1.0),
}  # fmt: skip
_JOINTS: tuple[str | None, ...] = (
    *("nose", "neck"),
    *("left shoulder", "left elbow", "left wrist", "right shoulder", "right elbow", "right wrist"),
    *("left hip", None, None, "right hip", None, None),
    *("left eye", "right eye", "left ear", "right ear"),
)
"""The joints of OpenPose's COCO model in their order, of which each first one is the person's right, the picture's
left; knees and ankles are below the picture."""


def draw_pose(body: Body, canvas: Canvas) -> Array:
    """Draw the skeleton on black, every bone in a colour of its own; gives (H, W, 3) in 0..1."""
    picture = np.zeros((canvas.height, canvas.width, 3), np.float32)
    for name, (start, end) in _trace_skeleton(body).items():
        (left, right), (top, bottom) = (sorted(pair) for pair in zip(start, end, strict=True))
        window = canvas.open_window(left - 6, top - 6, right + 6, bottom + 6)
        distance = measure_limb(window.x, window.y, start, end, (_BONE, _BONE))
        Layer(window, window.cover(distance), _COLORS[name]).lay_over(picture)
    return picture


def draw_agnostic(figure: Figure, canvas: Canvas) -> Array:
    """Draw the person with all that a garment of any cut may cover, and the arms, grey; gives (H, W, 3) in 0..1.

    Head, hair, neck, hands, what is below the lowest hem, and the backdrop stay.
    """
    picture = figure.below.copy()
    lay_all(picture, [*_cover_garments(figure, canvas), *_list_uncovered(figure)])
    return picture


def label_agnostic(figure: Figure, canvas: Canvas) -> NDArray[np.uint8]:
    """Tell what each pixel of the agnostic person is; gives (H, W) of `Label`, background where it is grey."""
    labels = np.zeros((canvas.height, canvas.width), np.uint8)
    lay_labels(labels, [*figure.lower, *_cover_garments(figure, canvas), *_list_uncovered(figure)])
    return labels


def find_hidden(figure: Figure, canvas: Canvas) -> NDArray[np.uint8]:
    """Tell where the agnostic person is grey; gives (H, W), 255 there and 0 elsewhere."""
    hidden = np.zeros((canvas.height, canvas.width), np.uint8)
    shown = [replace(layer, label=0) for layer in _list_uncovered(figure) if layer.label is not None]
    lay_labels(hidden, [*(replace(layer, label=255) for layer in _cover_garments(figure, canvas)), *shown])
    return hidden


def _cover_garments(figure: Figure, canvas: Canvas) -> list[Layer]:
    """Return what hides every bit that a garment of any cut may cover, and the arms."""
    soft = np.float32(1 / canvas.scale)
    torso = figure.torso
    distance = np.maximum(torso.distance - ease_torso(_WIDEST, torso.v), (torso.v - _LOWEST_HEM) * torso.scale)
    covers = [Layer(torso.window, torso.window.cover(distance - soft), _GREY, Label.BACKGROUND)]
    for arm in figure.arms:
        cover = arm.window.cover(arm.distance - ease_sleeve(_WIDEST, arm.along) - soft)
        covers.append(Layer(arm.window, cover, _GREY, Label.BACKGROUND))
    return covers


def _list_uncovered(figure: Figure) -> list[Layer]:
    return [*(bare.hand for bare in figure.bare_arms), *figure.above]


def locate_joints(body: Body) -> NDArray[np.float32]:
    """Tell where 18 joints are, in the order of OpenPose's COCO model; gives (18, 2), x and y in canvas units.

    What is not in the picture is NaN.
    """
    bones = _trace_skeleton(body)
    places = locate_face(body) | {"neck": (body.center, body.neck_y)}
    for side in ("left", "right"):
        places |= {
            f"{side} shoulder": bones[f"{side} upper arm"][0],
            f"{side} elbow": bones[f"{side} lower arm"][0],
            f"{side} wrist": bones[f"{side} lower arm"][1],
            f"{side} hip": bones[f"{side} side"][1],
        }
    return np.array([places[name] if name else (np.nan, np.nan) for name in _JOINTS], np.float32)


def _trace_skeleton(body: Body) -> dict[str, tuple[Point, Point]]:
    """Bones by name, from and to, in canvas units; left and right are those of the picture."""
    neck = (body.center, body.neck_y)
    pivot, turn = 13.0 * body.size, radians(body.head_tilt)
    head = (body.center + 24 * body.size * sin(turn), body.neck_y - pivot - 24 * body.size * cos(turn))
    bones = {"neck": (neck, head)}
    for name, right in (("left", False), ("right", True)):
        side = 1.0 if right else -1.0
        sway = body.tilt * side * body.joint[0]
        joints = [(body.center + side * x, body.neck_y + y + sway) for x, y in body.trace_arm(right)]
        hip = (body.center + body.lean * sin(2.4) + side * 0.6 * body.hip, body.neck_y + body.torso_length)
        bones |= {
            f"{name} side": (neck, hip),
            f"{name} shoulder": (neck, joints[0]),
            f"{name} upper arm": (joints[0], joints[1]),
            f"{name} lower arm": (joints[1], joints[2]),
            f"{name} hand": (joints[2], joints[3]),
        }
    return bones

"""A stand-in for the picture that DensePose makes of a person: which part of the body a pixel is, and where on it.

Method: Güler et al., "DensePose", CVPR 2018 (https://arxiv.org/abs/1802.00434), whose numbers of parts these are. The
places are those of the drawn body's own maps, not of its surface charts.
"""

from __future__ import annotations

import numpy as np

from ..labels import Label
from .body import ArmMap
from .canvas import Array, Canvas, Layer, Window, lay_all
from .garment import ARM_LENGTH, TORSO_LENGTH
from .person import BareArm, Figure

__all__ = ["draw_densepose"]

_PARTS = 24
_TORSO = 2
_HANDS, _THIGHS, _UPPER_ARMS, _LOWER_ARMS, _FACE = (3, 4), (9, 10), (16, 15), (20, 19), (23, 24)
"""Numbers of parts: the picture's left, which is the person's right, then its right."""
_ELBOW = 0.52 * ARM_LENGTH


def draw_densepose(figure: Figure, canvas: Canvas) -> Array:
    """Draw the parts of the body on black; gives (H, W, 3) in 0..1: the part's number of 24, u across, v along it."""
    picture = np.zeros((canvas.height, canvas.width, 3), np.float32)
    arms = (layer for pair in zip(figure.arms, figure.bare_arms, strict=True) for layer in _color_arm(*pair))
    lay_all(picture, [*_color_torso(figure), *arms, *_color_head(figure)])
    return picture


def _color_torso(figure: Figure) -> list[Layer]:
    """Neck, torso, and below the hips the thighs."""
    torso = figure.torso
    neck = [
        Layer(layer.window, layer.alpha, (_TORSO / _PARTS, 0.5, 0.0))
        for layer in figure.lower
        if layer.label == Label.SKIN
    ]
    part = np.where(torso.v < TORSO_LENGTH, _TORSO, np.where(torso.x < 0, *_THIGHS))
    u, v = 0.5 + 0.5 * torso.x / torso.width, (torso.v / TORSO_LENGTH) % 1.0
    return [*neck, Layer(torso.window, torso.window.cover(torso.distance), _color(part, u, v))]


def _color_arm(arm: ArmMap, bare: BareArm) -> list[Layer]:
    side = int(arm.side > 0)
    upper = arm.along < _ELBOW
    part = np.where(upper, _UPPER_ARMS[side], _LOWER_ARMS[side])
    along = np.where(upper, arm.along / _ELBOW, (arm.along - _ELBOW) / (ARM_LENGTH - _ELBOW))
    u = 0.5 + 0.5 * arm.across / arm.radius
    hand = np.full_like(u, _HANDS[side])
    return [
        Layer(arm.window, bare.arm.alpha, _color(part, u, along)),
        Layer(arm.window, bare.hand.alpha, _color(hand, u, (arm.along - ARM_LENGTH) / 20.0)),
    ]


def _color_head(figure: Figure) -> list[Layer]:
    """Face and ears; hair is no part of a body."""
    layers = [layer for layer in figure.above if layer.label == Label.FACE]
    return [Layer(layer.window, layer.alpha, _color(*_place_head(layer.window, figure))) for layer in layers]


def _place_head(window: Window, figure: Figure) -> tuple[Array, Array, Array]:
    body = figure.body
    x = (window.x - np.float32(body.center)) / np.float32(body.size)
    y = (window.y - np.float32(body.neck_y)) / np.float32(body.size)
    u, v = np.broadcast_arrays(0.5 + x / 50.0, 1.0 + (y + 9.0) / 60.0)
    return np.where(u < 0.5, *_FACE), u, v


def _color(part: Array, u: Array, v: Array) -> Array:
    return np.clip(np.stack(np.broadcast_arrays(part / _PARTS, u, v), -1), 0.0, 1.0).astype(np.float32)

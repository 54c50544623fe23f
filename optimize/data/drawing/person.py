"""A person on a canvas, measured once and then dressed in any number of garments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..labels import Label
from .body import ArmMap, Body, TorsoMap, map_arm, map_torso, measure_hand
from .canvas import (
    UNITS_HIGH,
    UNITS_WIDE,
    Array,
    Canvas,
    Layer,
    Window,
    lay_all,
    lay_labels,
    sample_picture,
    shade_color,
    smooth_step,
)
from .flat import measure_sleeve_radius
from .garment import ARM_LENGTH, NECK_HALF, SHOULDER_SLOPE, Garment, place_garment
from .head import draw_hair_back, draw_head, draw_neck

Paint = Callable[[Array, Array, Array], Array]
"""Colours (n, 3) of bits of cloth from x and y in the flat picture (units) and their shade, all (n,)."""


class BareArm(NamedTuple):
    """An arm without a sleeve, in the order of drawing."""

    shadow: Layer
    arm: Layer
    hand: Layer


@dataclass(frozen=True)
class Figure:
    """What is the same whatever the person wears: the picture below the garment, arms, head on top."""

    body: Body
    below: Array
    torso: TorsoMap
    arms: tuple[ArmMap, ArmMap]
    bare_arms: tuple[BareArm, BareArm]
    above: list[Layer]
    lower: list[Layer]
    """What `below` is made of, upon the backdrop."""


def draw_figure(body: Body, canvas: Canvas) -> Figure:
    """Measure the person and draw all that no garment changes."""
    torso = map_torso(body, canvas)
    arms = (map_arm(body, canvas, right=False), map_arm(body, canvas, right=True))
    below = _draw_backdrop(body, canvas)
    hair = draw_hair_back(body, canvas)
    lay_all(below, hair)
    solid = np.zeros((canvas.height, canvas.width), np.float32)
    bare = np.maximum(torso.distance, (torso.v - 108.0) * np.float32(torso.scale))
    skin = Layer(torso.window, torso.window.cover(bare), shade_color(body.skin, torso.shade), Label.SKIN)
    bottom = _draw_bottom(body, torso)
    clad = [skin, *draw_neck(body, canvas), bottom]
    lay_all(below, clad)
    solid[torso.window.rows, torso.window.columns] = np.maximum(skin.alpha, bottom.alpha)
    bare_arms = (_draw_bare_arm(body, arms[0], solid), _draw_bare_arm(body, arms[1], solid))
    return Figure(body, below, torso, arms, bare_arms, draw_head(body, canvas), [*hair, *clad])


def dress_figure(figure: Figure, garment: Garment, flat: Array) -> Array:
    """Draw the person wearing the garment whose flat picture is given; gives (H, W, 3) in 0..1."""

    def paint(x: Array, y: Array, shade: Array) -> Array:
        return sample_picture(flat, x, y) * shade[:, None]

    return _lay_figure(figure, garment, paint)


def locate_cloth(figure: Figure, garment: Garment) -> Array:
    """Tell where in the flat picture each visible bit of the worn garment came from; gives (H, W, 3).

    The channels are x and y in [-1, 1] over the flat picture, both times the garment's coverage, and
    that coverage in 0..1.
    """

    def paint(x: Array, y: Array, shade: Array) -> Array:
        return np.stack([x * (2 / UNITS_WIDE) - 1, y * (2 / UNITS_HIGH) - 1, np.ones_like(x)], 1)

    left, right = (BareArm(*_blacken(bare)) for bare in figure.bare_arms)
    dark = replace(figure, below=np.zeros_like(figure.below), bare_arms=(left, right), above=_blacken(figure.above))
    return _lay_figure(dark, garment, paint)


def label_figure(figure: Figure, garment: Garment) -> NDArray[np.uint8]:
    """Tell what each pixel of the person wearing the garment is; gives (H, W) of `Label`."""

    def paint(x: Array, y: Array, shade: Array) -> Array:
        return np.zeros((len(x), 3), np.float32)

    labels = np.zeros(figure.below.shape[:2], np.uint8)
    lay_labels(labels, [*figure.lower, *_list_layers(figure, garment, paint)])
    return labels


def _blacken(layers: Iterable[Layer]) -> list[Layer]:
    return [replace(layer, color=(0.0, 0.0, 0.0)) for layer in layers]


def _lay_figure(figure: Figure, garment: Garment, paint: Paint) -> Array:
    picture = figure.below.copy()
    lay_all(picture, _list_layers(figure, garment, paint))
    return picture


def _list_layers(figure: Figure, garment: Garment, paint: Paint) -> Iterator[Layer]:
    """Yield what lies over the picture below, in the order of drawing."""
    torso = _warp_torso(figure, garment, paint)
    yield torso
    covered = np.zeros(figure.below.shape[:2], np.float32)
    covered[torso.window.rows, torso.window.columns] = torso.alpha
    for arm, bare in zip(figure.arms, figure.bare_arms, strict=True):
        free = 1.0 - covered[arm.window.rows, arm.window.columns] * arm.window.cover(_measure_seam(arm))
        if not garment.sleeve_length:
            yield from (replace(layer, alpha=layer.alpha * free) for layer in bare)
            continue
        sleeve = _warp_sleeve(arm, garment, paint)
        seen = free * (1.0 - sleeve.alpha * (arm.along < garment.sleeve_length - 4.0))
        yield from (replace(layer, alpha=layer.alpha * seen) for layer in bare)
        yield replace(sleeve, alpha=sleeve.alpha * free)
    yield from figure.above


def _measure_seam(arm: ArmMap) -> Array:
    """Signed distance to the armhole's seam, negative at the shoulder, where the torso's cloth is on top."""
    t = np.clip(arm.across / arm.radius, -1.4, 1.4)
    return (arm.along - 8.0 + 11.0 * t) * np.float32(0.7)


def _draw_backdrop(body: Body, canvas: Canvas) -> Array:
    window = canvas.open_all()
    glow = 1.0 - 0.05 * smooth_step(40, 256, window.y) - 0.03 * ((window.x - 96.0) / 96.0) ** 2
    return shade_color(body.backdrop, glow.astype(np.float32))


def _draw_bottom(body: Body, torso: TorsoMap) -> Layer:
    """Trousers or a skirt from the waistband down."""
    below = torso.v - 88.0
    side = np.abs(torso.x)
    flare = np.maximum(torso.v - 100.0, 0.0)
    width = torso.width + np.float32(1.0) + flare * np.float32(0.16 if body.bottom == "skirt" else -0.02)
    distance = np.maximum(side - width, -below * np.float32(torso.scale))
    shade = 0.98 - 0.22 * np.clip(side / width, 0, 1) ** 4
    band = 0.10 * np.exp(-(((below - 6.0) / 0.8) ** 2))
    if body.bottom == "skirt":
        shade = shade - band - 0.05 * (1 + np.sin(torso.x / width * 13.0)) * smooth_step(100, 130, torso.v)
    else:
        slit = side - np.maximum(torso.v - 134.0, 0.0) * np.float32(0.14)
        distance = np.maximum(distance, np.where(torso.v > 134.0, -slit, -99.0))
        crease = np.exp(-np.abs(side) / 1.2) * smooth_step(96, 112, torso.v)
        shade = (
            shade - band - 0.22 * crease - 0.10 * np.exp(-np.maximum(slit, 0) / 5.0) * smooth_step(120, 145, torso.v)
        )
    color = shade_color(body.bottom_color, shade.astype(np.float32))
    label = Label.SKIRT if body.bottom == "skirt" else Label.TROUSERS
    return Layer(torso.window, torso.window.cover(distance), color, label)


def _draw_bare_arm(body: Body, arm: ArmMap, solid: Array) -> BareArm:
    """The arm's soft shadow on what lies behind it, the bare arm and the hand."""
    window = arm.window
    hand = measure_hand(body, arm)
    nearest = np.minimum(arm.distance, hand)
    shadow = 0.30 * np.exp(-np.maximum(nearest - 1.0, 0.0) * np.float32(0.28)) * smooth_step(4, 34, arm.along)
    cast = shadow * solid[window.rows, window.columns]
    label = Label.LEFT_ARM if arm.side > 0 else Label.RIGHT_ARM  # the person's own, as seen from the front
    return BareArm(
        shadow=Layer(window, cast.astype(np.float32), (0.10, 0.08, 0.10)),
        arm=Layer(window, window.cover(arm.distance), shade_color(body.skin, arm.shade), label),
        hand=Layer(window, window.cover(hand), shade_color(body.skin, _shade_hand(hand, arm)), label),
    )


def _shade_hand(distance: Array, arm: ArmMap) -> Array:
    edge = np.exp(np.minimum(distance, 0.0) * np.float32(0.6))
    return 0.97 - 0.13 * edge * smooth_step(ARM_LENGTH - 4, ARM_LENGTH + 12, arm.along)


def _bend_across(t: Array) -> Array:
    """Foreshortening over a round body: equal steps across it are longer on the cloth near its sides."""
    return t * (0.88 + 0.12 * t * t)


def ease_torso(loose: float, v: Array) -> Array:
    """How far cloth stands off the torso at distance v below the neck's side, in canvas units."""
    return 1.2 + loose * (2.0 + 4.5 * smooth_step(30, 80, v))


def ease_sleeve(loose: float, along: Array) -> Array:
    """How far cloth stands off the arm at a distance from its joint, in canvas units."""
    return 1.3 + loose * (1.2 + 2.6 * smooth_step(0, 70, along))


def _warp_torso(figure: Figure, garment: Garment, paint: Paint) -> Layer:
    """The torso piece, read from the flat picture along the body."""
    torso, body = figure.torso, figure.body
    ease = ease_torso(garment.loose, torso.v)
    width = torso.width + ease
    t = np.clip(torso.x / width, -1.1, 1.1)
    bent = _bend_across(t)
    u = bent * garment.measure_width(torso.v)
    side, scale = np.abs(u), np.float32(torso.scale)
    mine = SHOULDER_SLOPE * np.maximum(side - NECK_HALF, 0.0)
    theirs = SHOULDER_SLOPE * np.maximum(np.abs(torso.x) - NECK_HALF * body.size, 0.0) / scale
    v = torso.v + (mine - theirs) * (1.0 - smooth_step(8, 45, torso.v))
    v = v - 5.0 * (1.0 - t * t) * smooth_step(20, 110, torso.v) + 2.5 * smooth_step(20, 110, torso.v)
    hem = np.float32(garment.hem_length) + 3.0 * (1.0 - (side / 40.0) ** 2)
    front = garment.measure_neckline(side)
    distance = np.maximum(
        np.maximum(torso.distance - ease, (v - hem) * scale), -garment.measure_opening(side, v) * scale
    )
    inset = np.minimum(np.abs(u), garment.measure_width(v) - 1.2)
    if not garment.sleeve_length:
        hole = garment.measure_armhole(v)
        distance = np.maximum(distance, (side - hole) * scale)
        inset = np.minimum(inset, hole - 1.2)
    floor = (
        np.maximum(front, SHOULDER_SLOPE * np.maximum(inset - NECK_HALF, 0.0)) + 1.2 + 2.0 * smooth_step(32, 38, inset)
    )
    v = np.minimum(np.maximum(v, floor), hem - 1.2)
    return _read_cloth(torso.window, distance, np.copysign(inset, u), v, torso.shade, garment, paint)


def _warp_sleeve(arm: ArmMap, garment: Garment, paint: Paint) -> Layer:
    """One sleeve, read from the flat picture along the arm."""
    ease = ease_sleeve(garment.loose, arm.along)
    distance = np.maximum(arm.distance - ease, (arm.along - garment.sleeve_length) * np.float32(arm.scale))
    t = np.clip(arm.across / (arm.radius + ease), -0.93, 0.93)
    along = np.minimum(arm.along, np.float32(garment.sleeve_length - 1.2))
    along = np.maximum(along, np.float32(2.0))
    across = _bend_across(t) * measure_sleeve_radius(garment, along)
    (x, y), (dx, dy) = garment.joint, garment.sleeve_axis
    u = np.float32(x) + along * np.float32(dx) + across * np.float32(dy)
    v = np.float32(y) + along * np.float32(dy) - across * np.float32(dx)
    u = np.maximum(u, garment.measure_width(v) + 1.5)
    return _read_cloth(arm.window, distance, u * np.float32(arm.side), v, arm.shade, garment, paint)


def _read_cloth(
    window: Window, distance: Array, u: Array, v: Array, shade: Array, garment: Garment, paint: Paint
) -> Layer:
    """Paint from the place in the flat picture that each bit of cloth comes from."""
    place = place_garment(garment)
    alpha = window.cover(distance.astype(np.float32))
    there = alpha > 0.0
    x = np.float32(place.center) + np.float32(place.zoom) * u[there]
    y = np.float32(place.top) + np.float32(place.zoom) * v[there]
    cloth = np.zeros((*alpha.shape, 3), np.float32)
    cloth[there] = paint(x.astype(np.float32), y.astype(np.float32), shade[there])
    return Layer(window, alpha, cloth, Label.UPPER)

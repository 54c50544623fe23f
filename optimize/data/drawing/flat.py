"""The laid-out catalogue picture of a garment."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .canvas import Array, Canvas, Color, Layer, join_soft, shade_color, smooth_step
from .garment import NECK_HALF, NECKLINES, SHOULDER_SLOPE, Garment, place_garment
from .patterns import stamp_emblem, weave_cloth

BACKGROUND = (0.975, 0.975, 0.972)
_CHEST = 44.0


def render_flat(garment: Garment, canvas: Canvas) -> Array:
    """Draw the garment laid out on near-white; gives (H, W, 3) in 0..1."""
    place = place_garment(garment)
    reach = place.zoom * (place.half + 4)
    low, high = place.top - 4 * place.zoom, place.top + place.zoom * (place.bottom + 6)
    window = canvas.open_window(place.center - reach, low, place.center + reach, high)
    zoom = np.float32(place.zoom)
    u, v = (window.x - np.float32(place.center)) / zoom, (window.y - np.float32(place.top)) / zoom
    side = np.abs(u)
    torso, inside = _measure_torso(garment, side, v)
    picture = np.empty((canvas.height, canvas.width, 3), np.float32)
    picture[:] = BACKGROUND
    part = picture[window.rows, window.columns]
    sharp = canvas.scale * place.zoom
    whole = torso
    if garment.sleeve_length:
        sleeve, along, across = _measure_sleeve(garment, side, v)
        there = (sleeve < 1.0) & (torso > -1.0)
        cloth = _color_sleeve(garment, along[there], np.where(u < 0, -across, across)[there], sharp)
        cloth *= (1.0 - 0.16 * np.exp(-np.abs(torso[there]) * np.float32(0.9)))[:, None]
        _lay_cloth(part, window.cover(sleeve * zoom), there, cloth)
        whole = np.minimum(sleeve, torso)
    Layer(window, window.cover(inside * zoom), shade_color(garment.colors[0], 0.62)).lay_over(picture)
    there = torso < 1.0
    cover = window.cover(torso * zoom)
    spread_u, spread_v = np.broadcast_to(u, there.shape)[there], np.broadcast_to(v, there.shape)[there]
    _lay_cloth(part, cover, there, _color_torso(garment, spread_u, spread_v, sharp))
    center = (
        place.center * canvas.scale - window.columns.start,
        (place.top + place.zoom * _CHEST) * canvas.scale - window.rows.start,
    )
    stamp_emblem(part, garment, center, sharp)
    edge = 1.0 - 0.13 * np.exp(np.minimum(whole, 0.0) * np.float32(0.3))
    folds = 1.0 - 0.03 * (1.0 + np.sin(side * np.float32(0.27) + v * np.float32(0.035))) * smooth_step(40, 110, v)
    part *= (1.0 + window.cover(whole * zoom) * (edge * folds - 1.0))[..., None]
    return picture


def _lay_cloth(part: Array, alpha: Array, there: NDArray[np.bool_], cloth: Array) -> None:
    """Blend cloth, given only where there is some (n, 3), into a part of the picture in place."""
    under = part[there]
    part[there] = under + alpha[there][:, None] * (cloth - under)


def _measure_torso(garment: Garment, side: Array, v: Array) -> tuple[Array, Array]:
    """Signed distances to the torso piece and to the back's inside seen through the neck."""
    width = garment.measure_width(v)
    if not garment.sleeve_length:
        width = np.minimum(width, garment.measure_armhole(v))
    shoulder = np.float32(SHOULDER_SLOPE) * np.maximum(side - np.float32(NECK_HALF), 0.0) - v
    hem = v - np.float32(garment.hem_length) - 3.0 * (1.0 - (side / 40.0) ** 2)
    body = np.maximum(side - width, shoulder)
    if garment.sleeve_length:
        body = join_soft(side - width, shoulder, 3.0)
    outline = np.maximum(body, hem)
    half = NECKLINES[garment.neckline][0]
    tip = SHOULDER_SLOPE * (half - NECK_HALF)
    back = tip + 3.0 * np.sqrt(np.maximum(1.0 - (side / half) ** 2, 0.0))
    opening = garment.measure_opening(side, v)
    return np.maximum(outline, -opening), np.maximum(back - v, opening - 1.0)


def _measure_sleeve(garment: Garment, side: Array, v: Array) -> tuple[Array, Array, Array]:
    """Signed distance to the right-hand sleeve, and coordinates along and across it, outward positive."""
    (x, y), (dx, dy) = garment.joint, garment.sleeve_axis
    px, py = side - np.float32(x), v - np.float32(y)
    along = px * np.float32(dx) + py * np.float32(dy)
    across = px * np.float32(dy) - py * np.float32(dx)
    radius = measure_sleeve_radius(garment, along)
    reach = np.sqrt(across**2 + np.minimum(along, 0.0) ** 2)
    return np.maximum(reach - radius, along - np.float32(garment.sleeve_length)), along, across


def measure_sleeve_radius(garment: Garment, along: Array) -> Array:
    """The flat sleeve's half width at a distance along its axis."""
    start, end = garment.sleeve_radii
    return np.float32(start) + np.maximum(along, 0.0) * np.float32((end - start) / 118.0)


def _color_sleeve(garment: Garment, along: Array, across: Array, sharp: float) -> Array:
    if garment.sleeve_tint == "same":
        cloth = weave_cloth(garment, across, along + np.float32(garment.joint[1]), sharp)
    else:
        cloth = np.empty((*along.shape, 3), np.float32)
        cloth[:] = garment.colors[1]
    if garment.trimmed:
        _sew_trim(cloth, along - np.float32(garment.sleeve_length), garment.colors[2], sharp)
    return cloth


def _color_torso(garment: Garment, u: Array, v: Array, sharp: float) -> Array:
    side = np.abs(u)
    cloth = weave_cloth(garment, u, v, sharp)
    if garment.sleeve_tint == "raglan" and garment.sleeve_length:
        seam = (side - 13.0) * np.float32(0.8) - (v - 1.0) * np.float32(0.6)
        tint = np.clip(0.5 + seam * np.float32(sharp), 0.0, 1.0)[..., None]
        cloth += tint * (shade_color(garment.colors[1], 1.0) - cloth)
    if garment.trimmed:
        _sew_trim(cloth, -garment.measure_opening(side, v), garment.colors[2], sharp)
        _sew_trim(
            cloth,
            v - np.float32(garment.hem_length + 3.0) + 3.0 * (side / 40.0) ** 2,
            garment.colors[2],
            sharp,
        )
    return cloth


def _sew_trim(cloth: Array, distance: Array, color: Color, sharp: float) -> None:
    """Colour the band just inside an edge whose signed distance is given, in place."""
    band = np.clip(0.5 + (distance + 3.2) * np.float32(sharp), 0.0, 1.0)[..., None]
    cloth += band * (shade_color(color, 1.0) - cloth)

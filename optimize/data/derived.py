"""Pictures of a pair that are made of its others: float32 (C, H, W) in, the same out."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from .labels import LAYOUT_COLORS

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "CODE_CHANNELS",
    "GARMENT_CHANNELS",
    "NEAR_WHITE",
    "cut_garments",
    "derive_edge",
    "derive_hole",
    "draw_code",
    "find_edge",
    "join_representation",
    "paint_layout",
]

Array = NDArray[np.float32]

NEAR_WHITE = 0.9
"""A garment pixel with every channel above this, in [-1, 1], is background (242 of 255)."""

CODE_CHANNELS = 8
"""Of the code that fashion completion draws a garment from."""

GARMENT_CHANNELS = 12
"""The other garments of an outfit: four pictures, black where there is none."""

MARGIN = 1 / 32
"""How far a hole reaches beyond what it hides, as a share of the height: its outline gives no shape away."""

_BACKGROUND, _TOP, _BOTTOM, _ARMS, _SHOES = 0, 3, 4, 5, 7


def derive_edge(clothes: Array) -> Array:
    """Return a garment mask (1, H, W) of 0 and 1 from clothes (3, H, W): 1 where a pixel is not near-white.

    A stand-in for a missing edge file; a white garment loses its white parts.
    """
    return (clothes.min(axis=0, keepdims=True) <= NEAR_WHITE).astype(np.float32)


def find_edge(clothes: Tensor) -> Tensor:
    """Return what `derive_edge` does, of a tensor (..., 3, H, W) where it is: (..., 1, H, W) of 0 and 1."""
    return (clothes.amin(-3, keepdim=True) <= NEAR_WHITE).to(clothes.dtype)


def derive_hole(layout: Array) -> Array:
    """Return (1, H, W) of 0 and 1 from a layout (8, H, W): 1 where top and arms are, and a margin around them."""
    hidden = Image.fromarray(((layout[_TOP] + layout[_ARMS]) > 0).astype(np.uint8))
    reach = max(1, round(MARGIN * layout.shape[1]))
    return np.asarray(hidden.filter(ImageFilter.MaxFilter(2 * reach + 1)), np.float32)[np.newaxis]


def paint_layout(layout: Array) -> Array:
    """Return a layout (8, H, W) in the colours of fashion completion, (3, H, W) in [-1, 1]."""
    colors = np.array(LAYOUT_COLORS, np.float32) / np.float32(127.5) - 1
    return np.einsum("khw,kc->chw", layout, colors).astype(np.float32)


def join_representation(joints: Array, layout: Array) -> Array:
    """Return maps of joints (18, H, W) and then the silhouette, all that is not background: (19, H, W) in [0, 1]."""
    return np.concatenate([joints, 1 - layout[_BACKGROUND, np.newaxis]])


def cut_garments(person: Array, layout: Array) -> Array:
    """Return what a person (3, H, W) wears beside the top, each garment on black: (12, H, W) in [-1, 1].

    First what is worn below, then the shoes; the other two of the four are black, a layout tells no more apart.
    """
    worn = [layout[number] * (person + 1) - 1 for number in (_BOTTOM, _SHOES)]
    black = np.full_like(person, -1)
    return np.concatenate([*worn, black, black])


def draw_code(person: Array) -> Array:
    """Return standard normal numbers (8, H, W): the same for the same picture of a person (3, H, W)."""
    generator = np.random.default_rng(zlib.crc32(np.ascontiguousarray(person).tobytes()))
    return generator.standard_normal((CODE_CHANNELS, *person.shape[1:]), np.float32)

"""Show two pictures and their difference side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ["GAIN", "amplify_difference", "make_difference_sheet", "make_picture", "read_picture"]

GAIN = 8
CAPTION_HEIGHT = 16
GAP = 4


def make_difference_sheet(
    picture: np.ndarray,
    reference: np.ndarray,
    name: str = "",
    labels: Sequence[str] = ("picture", "reference"),
    *,
    gain: int = GAIN,
) -> Image.Image:
    """Draw picture | reference | `gain` times their absolute difference, with captions above.

    Both are (3, H, W) in [-1, 1]; the sheet is 3 W + 2 gaps wide and H + a caption high, RGB. The third is as
    `amplify_difference` makes it; `name`, usually the pair's, stands in its caption.

    Raises ValueError for pictures of different shapes.
    """
    if picture.shape != reference.shape or picture.ndim != 3 or len(picture) != 3:
        raise ValueError(f"two pictures of one shape (3, H, W) are needed, not {picture.shape}, {reference.shape}")
    panels = make_picture(picture), make_picture(reference), amplify_difference(picture, reference, gain=gain)
    captions = (*labels, f"{gain}x difference {name}".rstrip())
    height, width = picture.shape[1:]
    sheet = Image.new("RGB", (3 * width + 2 * GAP, height + CAPTION_HEIGHT), "white")
    pen = ImageDraw.Draw(sheet)
    for index, (panel, caption) in enumerate(zip(panels, captions, strict=True)):
        left = index * (width + GAP)
        sheet.paste(panel, (left, CAPTION_HEIGHT))
        pen.text((left + 2, 2), _fit_caption(pen, caption, width - 4), fill="black", font=ImageFont.load_default())
    return sheet


def amplify_difference(picture: np.ndarray, reference: np.ndarray, *, gain: int = GAIN) -> Image.Image:
    """Draw `gain` times the absolute difference of two pictures, (3, H, W) in [-1, 1], as RGB.

    Black means equal; a difference of 2 / `gain` or more, or of a NaN, is full brightness.
    """
    return make_picture(np.nan_to_num(gain * np.abs(picture.astype(np.float64) - reference), nan=2.0) - 1)


def make_picture(panel: np.ndarray) -> Image.Image:
    """Return (3, H, W) in [-1, 1] as an RGB picture; NaN becomes grey."""
    pixels = np.rint((np.nan_to_num(panel, nan=0.0) + 1) * (255 / 2))
    return Image.fromarray(np.ascontiguousarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)))


def read_picture(picture: Image.Image) -> np.ndarray:
    """Return an RGB picture as (3, H, W) in [-1, 1], float64: what `make_picture` makes that picture of."""
    return np.asarray(picture, np.float64).transpose(2, 0, 1) / (255 / 2) - 1


def _fit_caption(pen: ImageDraw.ImageDraw, caption: str, width: int) -> str:
    """Cut a caption to the width of its panel, so that it does not run into the next."""
    while caption and pen.textlength(caption, font=ImageFont.load_default()) > width:
        caption = caption[:-1]
    return caption

"""Pictures of any size to the square that a feature network takes, in the two ways that FIDs are published with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from .picture_distance import Resize

__all__ = ["RESIZES", "resize_picture"]

Pixels = NDArray[np.float32]


class ResizeForm(NamedTuple):
    """How a picture is resized, and how its values 0..255 come to lie in about [-1, 1]."""

    filter: str
    """What to state beside a number."""
    resize: Callable[[NDArray[np.uint8], int], Pixels]
    middle: float


def resize_picture(picture: NDArray[np.uint8], side: int, resize: Resize) -> Pixels:
    """Return a uint8 picture (H, W, 3) as float32 (3, side, side), scaled about [-1, 1].

    "clean" is that of Parmar et al., "On Aliased Resizing and Surprising Subtleties in GAN Evaluation", CVPR 2022
    (https://arxiv.org/abs/2104.11222), as clean-fid 0.1.35 has it: bicubic, antialiased, every channel in float, not
    rounded, clipped to 0..255, scaled as (x - 128) / 128. "legacy" is that of the common FID scripts for PyTorch:
    bilinear between the four nearest pixels, so that fine detail aliases, scaled as (x - 127.5) / 127.5.
    """
    form = RESIZES[resize]
    return (form.resize(picture, side) - np.float32(form.middle)) / np.float32(form.middle)


def _resize_clean(picture: NDArray[np.uint8], side: int) -> Pixels:
    channels = (Image.fromarray(picture[:, :, index].astype(np.float32)) for index in range(3))
    resized = [np.asarray(channel.resize((side, side), Image.Resampling.BICUBIC)) for channel in channels]
    return np.stack(resized).clip(0, 255)


def _resize_legacy(picture: NDArray[np.uint8], side: int) -> Pixels:
    pixels = torch.from_numpy(picture.transpose(2, 0, 1).astype(np.float32)).unsqueeze(0)
    return F.interpolate(pixels, (side, side), mode="bilinear", align_corners=False)[0].numpy()


RESIZES: Mapping[str, ResizeForm] = {
    "clean": ResizeForm("bicubic, antialiased, as clean-fid 0.1.35", _resize_clean, 128.0),
    "legacy": ResizeForm("bilinear, not antialiased", _resize_legacy, 127.5),
}

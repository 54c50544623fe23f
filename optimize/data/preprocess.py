"""Pictures to arrays and back: any picture file -> RGB -> float32 (3, H, W) in [-1, 1] -> uint8 (H, W, 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import InputError

__all__ = [
    "Size",
    "crop_window",
    "load_labels",
    "load_picture",
    "prepare_labels",
    "prepare_mask",
    "prepare_picture",
    "restore_picture",
]

Size = tuple[int, int]  # (height, width)

# PIL's resize is antialiased on the way down. Bicubic is what the VITON data loaders use, for pictures and,
# here, for masks too, so that a mask lies exactly on its picture.
_FILTER = Image.Resampling.BICUBIC
_MIDDLE = 255 / 2
_SIXTEEN_BIT = {"I", "I;16", "I;16B", "I;16L", "I;16N"}


def load_picture(path: Path) -> Image.Image:
    """Read a picture file as upright 8-bit RGB, whatever its mode.

    Transparent parts become white, EXIF orientation is applied, 16-bit grey is scaled to 8 bits; colour
    profiles are ignored. Raises InputError for a file that is missing, damaged, too large or no picture.
    """
    return _read(path, lambda opened: _flatten(ImageOps.exif_transpose(opened)))


def load_labels(path: Path) -> Image.Image:
    """Read a picture file of labels, one number per pixel, as 8-bit grey: the numbers of a palette, or the greys.

    Raises InputError for a file that is missing, damaged or has colours for numbers.
    """

    def take_numbers(picture: Image.Image) -> Image.Image:
        if picture.mode not in ("P", "L") or picture.format == "JPEG":
            raise InputError(f"{path}: its pixels are colours, no labels; save it as a PNG with a palette, or in grey")
        return Image.fromarray(np.asarray(picture))

    return _read(path, take_numbers)


def prepare_picture(picture: Image.Image, size: Size) -> NDArray[np.float32]:
    """Crop a picture about its centre, resize it and scale it to [-1, 1]: float32 (3, height, width)."""
    pixels = np.asarray(_fit(_flatten(picture), size), np.float32)
    return np.ascontiguousarray(((pixels - _MIDDLE) / _MIDDLE).transpose(2, 0, 1))


def prepare_mask(picture: Image.Image, size: Size) -> NDArray[np.float32]:
    """Crop and resize a mask as `prepare_picture` does, then set it to 0 or 1: float32 (1, height, width).

    1 is where the grey value is above one half.
    """
    pixels = np.asarray(_fit(_flatten(picture).convert("L"), size))
    return (pixels > _MIDDLE).astype(np.float32)[np.newaxis]


def prepare_labels(picture: Image.Image, size: Size, classes: Sequence[int]) -> NDArray[np.float32]:
    """Crop a picture of labels as `prepare_picture` does, take the nearest, and turn each into its class.

    `classes` has a class for every label. Gives float32 (number of classes, height, width), 1 in each pixel's class
    and 0 elsewhere. Raises ValueError for a label that has no class.
    """
    labels = np.asarray(_fit(picture, size, Image.Resampling.NEAREST))
    if labels.max(initial=0) >= len(classes):
        raise ValueError(f"label {labels.max()} is not known; labels go from 0 to {len(classes) - 1}")
    numbers = np.arange(max(classes) + 1)[:, np.newaxis, np.newaxis]
    return (np.asarray(classes)[labels] == numbers).astype(np.float32)


def restore_picture(array: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Turn (3, H, W) or (1, 3, H, W) in about [-1, 1] back to uint8 (H, W, 3), rounded and clamped."""
    planes = array[0] if array.ndim == 4 and len(array) == 1 else array
    if planes.ndim != 3 or len(planes) != 3:
        raise ValueError(f"a picture has the shape (3, H, W) or (1, 3, H, W), not {array.shape}")
    pixels = np.rint(planes.astype(np.float32) * _MIDDLE + _MIDDLE)
    return np.ascontiguousarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def crop_window(width: int, height: int, size: Size) -> tuple[int, int, int, int]:
    """Find the largest centred (left, top, right, bottom) with size's proportion, to the nearest pixel."""
    target_height, target_width = size
    crop_width = min(width, max(1, round(height * target_width / target_height)))
    crop_height = min(height, max(1, round(width * target_height / target_width)))
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return left, top, left + crop_width, top + crop_height


def _read(path: Path, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    try:
        with Image.open(path) as opened:
            return convert(opened)
    except InputError:
        raise
    except Exception as error:  # PIL's decoders raise nearly anything on a damaged file
        raise InputError(f"{path}: {_explain(error, path)}") from error


def _fit(picture: Image.Image, size: Size, resampling: Image.Resampling = _FILTER) -> Image.Image:
    height, width = size
    return picture.crop(crop_window(*picture.size, size)).resize((width, height), resampling)


def _flatten(picture: Image.Image) -> Image.Image:
    """Convert any mode to RGB, transparent parts on white; an RGB picture comes back as it is."""
    if picture.mode in _SIXTEEN_BIT:  # convert() would clip these, or not, by PIL version
        grey = np.rint(np.asarray(picture).clip(0, 65535) / 257).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if picture.mode == "F":
        raise ValueError("its values are floating-point")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB") if picture.mode != "RGB" else picture


def _explain(error: Exception, path: Path) -> str:
    match error:
        case Image.DecompressionBombError():
            return f"the picture is too large ({error}); scale it down"
        case UnidentifiedImageError() if path.stat().st_size == 0:
            return "the file is empty; replace it with a JPEG or PNG picture"
        case UnidentifiedImageError():
            return "the file is not a picture of a known format; replace it with a JPEG or PNG picture"
        case OSError(strerror=str(reason)):
            return f"the file cannot be read ({reason}); check its path and rights"
        case _:
            return f"the picture cannot be decoded ({error}); replace it with an intact 8-bit JPEG or PNG"

"""A folder of pictures, read one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...optimize.data.preprocess import load_picture
from ...optimize.errors import InputError

__all__ = ["PictureFolder"]

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm"}


class PictureFolder:
    """The pictures that lie in a folder, uint8 (H, W, 3), in the order of their names; folders in it are left out.

    Raises InputError for a folder that is missing or has none, and, when it comes to it, for a damaged picture.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise InputError(f"{path}: is not a folder; give a folder of pictures")
        self.files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        if not self.files:
            raise InputError(f"{path}: holds no pictures ({', '.join(sorted(SUFFIXES))}); give the folder they lie in")

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (np.asarray(load_picture(file)) for file in self.files)

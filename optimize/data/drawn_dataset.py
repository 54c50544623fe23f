"""Drawn pairs as a torch dataset, for training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset

from .drawing.scene import open_scene
from .pictures import Pictures, draw_picture, find_picture
from .synthetic import show_placed_outfits, show_placed_pair

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["DrawnDataset"]


class DrawnDataset(Dataset):  # type: ignore[type-arg]
    """One drawn pair a seed: person, clothes and truth (3, H, W) in [-1, 1], and place (3, H, W).

    `place` says where in the clothes picture each pixel of the worn garment came from: x and y in
    [-1, 1] (align_corners False), both times the garment's mask, and that mask. With `outfits` a pair has the other
    pictures of `DrawnOutfits` too, which take their time to draw, and also those of `PICTURES` that `pictures` names.
    """

    def __init__(
        self, seeds: Sequence[int], size: tuple[int, int], *, outfits: bool = False, pictures: Sequence[str] = ()
    ) -> None:
        self.seeds = seeds
        self.size = size
        self.show = show_placed_outfits if outfits else show_placed_pair
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        seed = self.seeds[index]
        scene = open_scene(seed, self.size)
        pair, place = self.show(scene)
        tensors = {name: _to_tensor(picture) for name, picture in pair._asdict().items()}
        drawn = Pictures(f"drawn-{seed:06d}", partial(draw_picture, scene, self.size))
        further = {name: find_picture(drawn, name) for name in self.pictures if name not in tensors}
        return tensors | {name: torch.from_numpy(array) for name, array in {**further, "place": place}.items()}


def _to_tensor(picture: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy((picture.transpose(2, 0, 1).astype(np.float32) - 127.5) / 127.5)

"""Drawn pairs as a torch dataset, for training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset

from .synthetic import draw_placed_outfits, draw_placed_pair

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["DrawnDataset"]


class DrawnDataset(Dataset):  # type: ignore[type-arg]
    """One drawn pair a seed: person, clothes and truth (3, H, W) in [-1, 1], and place (3, H, W).

    `place` says where in the clothes picture each pixel of the worn garment came from: x and y in
    [-1, 1] (align_corners False), both times the garment's mask, and that mask. With `outfits` a pair has the other
    pictures of `DrawnOutfits` too, which take their time to draw.
    """

    def __init__(self, seeds: Sequence[int], size: tuple[int, int], *, outfits: bool = False) -> None:
        self.seeds = seeds
        self.size = size
        self.draw = draw_placed_outfits if outfits else draw_placed_pair

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        pair, place = self.draw(self.seeds[index], self.size)
        tensors = {name: _to_tensor(picture) for name, picture in pair._asdict().items()}
        return tensors | {"place": torch.from_numpy(place)}


def _to_tensor(picture: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy((picture.transpose(2, 0, 1).astype(np.float32) - 127.5) / 127.5)

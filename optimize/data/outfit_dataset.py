"""Persons in two garments, with what a teacher may see of them, as torch datasets for distillation."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch.utils.data import Dataset

from .derived import find_edge
from .drawn_dataset import DrawnDataset
from .shuffling import shuffle_pairs

if TYPE_CHECKING:
    from torch import Tensor

    from .pairs import Pair

__all__ = ["LESSONS", "Lesson", "OutfitDataset", "OutfitPairs", "choose_lesson", "plain_garment"]

Lesson = Literal["foreground", "plain", "variety"]
LESSONS: tuple[Lesson, ...] = get_args(Lesson)
"""What a distillation learns one after the other.

foreground   the other garment is of one colour, and only the garment's own region of the picture is judged
plain        the other garment is of one colour, all of the picture is judged
variety      the other garment is as it is
"""

SEEN = 0.05
"""What differs by more than this from the agnostic person, in [-1, 1], is hidden there."""


class OutfitDataset(DrawnDataset):
    """One drawn person a seed, in two garments; all tensors but `place` and `judged` (3, H, W) in [-1, 1].

    truth      the person in the garment `clothes`, which is laid out
    worn       another garment laid out, as the lesson has it
    person     the same person in that garment as it is, drawn: for evaluation only
    pose, agnostic   what hides both garments
    place      where in `clothes` the garment's pixels in `truth` came from, as `DrawnDataset` has it
    judged     (1, H, W) in 0..1, where the lesson judges the picture

    `ends` are the positions where the lessons foreground and plain end.
    """

    def __init__(self, seeds: Sequence[int], size: tuple[int, int], ends: tuple[int, int] = (0, 0)) -> None:
        super().__init__(seeds, size, outfits=True)
        self.ends = ends

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = super().__getitem__(index)
        return sample | _teach(choose_lesson(index, self.ends), sample["worn"], garment=sample["place"][2:])


class OutfitPairs(Dataset):  # type: ignore[type-arg]
    """Given pairs with truth over and over, each with the garment of another one to wear instead.

    The samples are those of `OutfitDataset` without person and place, pose and agnostic only where the pairs have
    them. They are shuffled anew each time, the other garment is drawn anew, and every other sample without a pose,
    whose colours tell left from right, is mirrored, by seed and position alone. Where a garment is in the person's
    picture is not known: judged in its stead is what the agnostic person hides, and all of the picture where there is
    none.
    """

    def __init__(self, pairs: Sequence[Pair], seed: int, ends: tuple[int, int] = (0, 0)) -> None:
        self.pairs = pairs
        self.seed = seed
        self.ends = ends

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        order, place, draw = shuffle_pairs(position, len(self.pairs), self.seed)
        step = int(draw.integers(1, len(self.pairs))) if len(self.pairs) > 1 else 0
        pair, other = self.pairs[int(order[place])], self.pairs[int(order[(place + step) % len(self.pairs)])]
        pictures = {"truth": pair.truth, "clothes": pair.clothes, "worn": other.clothes}
        pictures |= {"pose": pair.pose, "agnostic": pair.agnostic}
        sample = {name: torch.from_numpy(picture) for name, picture in pictures.items() if picture is not None}
        garment = find_hidden(sample["truth"], sample["agnostic"]) if "agnostic" in sample else None
        sample |= _teach(choose_lesson(position, self.ends), sample["worn"], garment)
        mirrored = draw.random() < 0.5 and "pose" not in sample
        return {name: tensor.flip(-1) for name, tensor in sample.items()} if mirrored else sample


def choose_lesson(position: int, ends: tuple[int, int]) -> Lesson:
    """Return the lesson of a sample, where foreground and plain end at these positions."""
    return LESSONS[bisect_right(ends, position)]


def find_hidden(person: Tensor, agnostic: Tensor) -> Tensor:
    """Return where the agnostic person hides the person, both (3, H, W): (1, H, W) of 0 and 1."""
    return ((person - agnostic).abs().amax(0, keepdim=True) > SEEN).to(person.dtype)


def plain_garment(clothes: Tensor) -> Tensor:
    """Return a garment laid out on white (3, H, W) with all of it in its mean colour."""
    garment = find_edge(clothes)
    mean = (clothes * garment).sum((1, 2), keepdim=True) / garment.sum().clamp(min=1)
    return clothes + garment * (mean - clothes)


def _teach(lesson: Lesson, worn: Tensor, garment: Tensor | None) -> dict[str, Tensor]:
    """Return what a lesson makes of the other garment, and where it judges."""
    everywhere = torch.ones_like(worn[:1])
    return {
        "worn": worn if lesson == "variety" else plain_garment(worn),
        "judged": everywhere if garment is None or lesson != "foreground" else garment,
    }

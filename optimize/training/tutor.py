"""The teacher makes the student's lessons: a person in another garment, from which to get back the real picture.

Ge et al., "Parser-Free Virtual Try-on via Distilling Appearance Flows", CVPR 2021
(https://arxiv.org/abs/2103.04559), where the teacher's picture is the tutor: it may have faults, for the student is
given it and judged by a photograph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from .batches import feed_batch
from .targets import make_picture, make_targets

if TYPE_CHECKING:
    from ..data.pairs import Pair
    from ..networks import Network

__all__ = ["Exercise", "check_teacher", "copy_teacher", "set_exercise", "tutor_pairs"]


class Exercise(NamedTuple):
    """What the student is given, and what it must make of it; pictures are (N, 3, H, W) in [-1, 1]."""

    person: Tensor
    clothes: Tensor
    truth: Tensor
    judged: Tensor
    """Where the picture is judged, (N, 1, H, W) in 0..1."""
    place: Tensor | None
    """Where the teacher looks when it makes the truth's outfit: (N, 3, H, W) as `DrawnDataset` has it."""


@torch.no_grad()
def set_exercise(teacher: Network, batch: Mapping[str, Tensor]) -> Exercise:
    """Return: the person as the teacher makes it in the garment `worn`, and `clothes`; to be made: the real truth."""
    _, place = _dress(teacher, batch, batch["clothes"])
    person, _ = _dress(teacher, batch, batch["worn"])
    return Exercise(person, batch["clothes"], batch["truth"], batch["judged"], place)


@torch.no_grad()
def copy_teacher(teacher: Network, batch: Mapping[str, Tensor]) -> Exercise:
    """Return: the real person and the garment `worn`; to be made: the teacher's picture of the two.

    It is what distillation without tutors would be, faults of the teacher included.
    """
    made, place = _dress(teacher, batch, batch["worn"])
    return Exercise(batch["truth"], batch["worn"], made, torch.ones_like(batch["judged"]), place)


def _dress(teacher: Network, batch: Mapping[str, Tensor], clothes: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the teacher's picture of the batch's persons in the clothes, and where it looks."""
    pictures = {**batch, "person": batch["truth"], "clothes": clothes}
    made = make_targets(teacher, feed_batch(teacher.inputs, pictures))
    return made["picture/1"].float().clamp(-1, 1), _find_places(made)


def _find_places(made: Mapping[str, Tensor]) -> Tensor | None:
    """Return x and y where the garment branch looks, times its attention, and that attention: (N, 3, H, W)."""
    if not {"cross_grids/1", "cross_attention/1"} <= made.keys():
        return None
    attention = made["cross_attention/1"].float().unsqueeze(2)
    grids = made["cross_grids/1"].float().reshape(*attention.shape[:2], 2, *attention.shape[3:])
    return torch.cat([(grids * attention).sum(1), attention.sum(1)], 1)


def tutor_pairs(teacher: Network, pairs: Sequence[Pair], device: torch.device | str = "cpu") -> list[Pair]:
    """Return pairs with the person as the teacher makes it in the next pair's garment; the truth stays."""
    tutored = []
    for index, pair in enumerate(pairs):
        given = {"truth": pair.truth, "pose": pair.pose, "agnostic": pair.agnostic}
        batch = {name: torch.from_numpy(each)[None].to(device) for name, each in given.items() if each is not None}
        worn = torch.from_numpy(pairs[(index + 1) % len(pairs)].clothes)[None].to(device)
        with torch.no_grad():
            feeds = feed_batch(teacher.inputs, {**batch, "person": batch["truth"], "clothes": worn})
            person = make_picture(teacher.module, feeds)
        tutored.append(replace(pair, person=person[0].cpu().numpy()))
    return tutored


def check_teacher(teacher: Network, pair: Pair, where: str) -> None:
    """Raise InputError when pairs, of which one is given, have not what the teacher needs, or no truth."""
    wanted = {name for spec in teacher.inputs for name in spec.fed_by.split("+")} | {"truth"}
    missing = [name for name in ("truth", "pose", "agnostic") if name in wanted and getattr(pair, name) is None]
    if missing:
        folders = ", ".join(f"test_{name}/" for name in missing)
        raise InputError(
            f"{where}: distillation needs {', '.join(missing)} of every pair; add {folders}, or leave --pairs away to "
            "learn from drawn ones"
        )

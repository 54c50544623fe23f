"""What a network in training is compared with: the truth, and what its teacher makes of the same pair.

The truth losses are those of `vtopt train`: per level the L1 distance to the picture and to its gradients, finer
levels weigh more, as in SDAFN's own training; and, where pairs know where each pixel of the garment came from, the
attention-weighted flows are led there (a stated substitute for the perceptual loss, whose weights would have to be
downloaded).

The teacher losses need no labels. Features of equal widths are compared number by number; those of a student that
has other widths, pruned for one, by attention transfer: Zagoruyko and Komodakis, "Paying More Attention to
Attention", ICLR 2017 (https://arxiv.org/abs/1612.03928).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from .batches import feed_batch

if TYPE_CHECKING:
    from ..networks import Network

__all__ = ["TEACHER_LOSSES", "Level", "TruthLoss", "list_levels", "measure_teacher_loss", "measure_truth_loss"]

GRADIENT_WEIGHT = 0.5
PLACE_WEIGHT = 2.0
ATTENTION_WEIGHT = 0.2

Targets = Mapping[str, Tensor]
"""What a network makes, by `kind/scale`: at scale 4 a tensor has a quarter of the picture's height and width."""


class Level(NamedTuple):
    """The picture of one level, and where its garment branch looks, if it has one."""

    picture: Tensor
    cross_grids: Tensor | None
    cross_attention: Tensor | None


class TruthLoss(nn.Module):
    """The loss of a network with `forward_levels` on a batch with truth."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.module = network.module
        self.inputs = network.inputs

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        module: Any = self.module
        levels = module.forward_levels(*feed_batch(self.inputs, batch))
        return measure_truth_loss(
            [Level(picture, flows.cross_grids, flows.cross_attention) for picture, flows in levels], batch
        )


def measure_truth_loss(levels: Sequence[Level], batch: Mapping[str, Tensor]) -> Tensor:
    """Compare levels, coarsest first, with truth (N, 3, H, W) and, where the batch has it, place (N, 3, H, W)."""
    total = batch["truth"].new_zeros(())
    for index, level in enumerate(levels):
        size = level.picture.shape[2:]
        truth = F.interpolate(batch["truth"], size=size, mode="area")
        loss = _compare_pictures(level.picture, truth)
        if "place" in batch and level.cross_grids is not None and level.cross_attention is not None:
            place = F.interpolate(batch["place"], size=size, mode="area")
            loss = loss + _compare_places(level.cross_grids, level.cross_attention, place)
        total = total + (index + 1) / len(levels) * loss
    return total


def _compare_pictures(picture: Tensor, wanted: Tensor) -> Tensor:
    return (picture - wanted).abs().mean() + GRADIENT_WEIGHT * _compare_gradients(picture, wanted)


def _compare_gradients(a: Tensor, b: Tensor) -> Tensor:
    rows = (a.diff(dim=2) - b.diff(dim=2)).abs().mean()
    columns = (a.diff(dim=3) - b.diff(dim=3)).abs().mean()
    return rows + columns


def _compare_places(cross_grids: Tensor, cross_attention: Tensor, place: Tensor) -> Tensor:
    """Compare where the garment branch looks with where the garment's pixels came from.

    `place` (N, 3, H, W) holds x and y in [-1, 1], both times the garment's mask, and that mask.
    """
    heads = cross_attention.shape[1]
    attention = cross_attention.unsqueeze(2)
    grids = cross_grids.reshape(-1, heads, 2, *cross_grids.shape[2:])
    weight = attention.sum(1)
    mask = place[:, 2:]
    looked_at = (grids * attention).sum(1) / weight.clamp(min=1e-3)
    came_from = place[:, :2] / mask.clamp(min=1e-3)
    distance = ((looked_at - came_from).abs() * mask).sum() / mask.sum().clamp(min=1) / 2
    return PLACE_WEIGHT * distance + ATTENTION_WEIGHT * (weight - mask).abs().mean()


def list_levels(made: Targets) -> list[Level]:
    """Return the pictures among a network's targets, coarsest first."""
    scales = sorted((_split(name)[1] for name in made if _split(name)[0] == "picture"), reverse=True)
    return [
        Level(made[f"picture/{scale}"], made.get(f"cross_grids/{scale}"), made.get(f"cross_attention/{scale}"))
        for scale in scales
    ]


def measure_teacher_loss(made: Targets, wanted: Targets) -> Tensor:
    """Compare all that student and teacher both make, by `TEACHER_LOSSES`; finer levels weigh more.

    What one of them lacks, or makes at another size or with another number of heads, is left out. Scalar.
    """
    made, wanted = _widen(made), _widen(wanted)
    scales = sorted({_split(name)[1] for name in made}, reverse=True)
    total = next(iter(made.values())).new_zeros(())
    for name in filter(wanted.__contains__, made):
        kind, scale = _split(name)
        weight, compare = TEACHER_LOSSES.get(kind, TEACHER_LOSSES["output"])
        loss = compare(name, made, wanted)
        if loss is not None:
            total = total + weight * (scales.index(scale) + 1) / len(scales) * loss
    return total


def _widen(targets: Targets) -> Targets:
    """Return what is half precision as float32: the squares of features may be beyond 65504."""
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in targets.items()}


def _split(name: str) -> tuple[str, int]:
    kind, _, scale = name.partition("/")
    return kind, int(scale or 1)


def _compare_named_pictures(name: str, made: Targets, wanted: Targets) -> Tensor | None:
    if made[name].shape != wanted[name].shape:
        return None
    return _compare_pictures(made[name], wanted[name])


def _compare_grids(name: str, made: Targets, wanted: Targets) -> Tensor | None:
    """Mean distance in pixels of the full picture, along x and along y, weighted by the teacher's attention."""
    grids, theirs = made[name], wanted[name]
    attention = wanted.get(name.replace("grids", "attention"))
    if grids.shape != theirs.shape or attention is None:
        return None
    scale = _split(name)[1]
    pixels = grids.new_tensor([grids.shape[3] * scale / 2, grids.shape[2] * scale / 2]).view(1, 2, 1, 1)
    distance = ((grids - theirs).abs() * pixels).mean(1).reshape(attention.shape)
    return (distance * attention).sum(1).mean()


def _compare_maps(name: str, made: Targets, wanted: Targets) -> Tensor | None:
    """L1 over all heads."""
    if made[name].shape != wanted[name].shape:
        return None
    return (made[name] - wanted[name]).abs().sum(1).mean()


def _compare_features(name: str, made: Targets, wanted: Targets) -> Tensor | None:
    """L1 relative to the teacher's mean; attention transfer where the widths differ."""
    features, theirs = made[name], wanted[name]
    if features.shape == theirs.shape:
        return (features - theirs).abs().mean() / theirs.abs().mean().clamp(min=1e-6)
    if features.shape[2:] != theirs.shape[2:]:
        return None
    return (_map_energy(features) - _map_energy(theirs)).norm(dim=1).mean()


def _map_energy(features: Tensor) -> Tensor:
    return F.normalize(features.square().mean(1).flatten(1), dim=1)


def _compare_outputs(name: str, made: Targets, wanted: Targets) -> Tensor | None:
    if made[name].shape != wanted[name].shape or not made[name].is_floating_point():
        return None
    return (made[name] - wanted[name]).abs().mean()


Compare = Callable[[str, Targets, Targets], "Tensor | None"]

TEACHER_LOSSES: Mapping[str, tuple[float, Compare]] = {
    "picture": (1.0, _compare_named_pictures),
    "cross_grids": (0.02, _compare_grids),
    "self_grids": (0.02, _compare_grids),
    "cross_attention": (0.1, _compare_maps),
    "self_attention": (0.1, _compare_maps),
    "source_features": (0.05, _compare_features),
    "reference_features": (0.05, _compare_features),
    "output": (1.0, _compare_outputs),
}
"""Kind of target -> its weight, and how student and teacher are compared; `output` is any other."""

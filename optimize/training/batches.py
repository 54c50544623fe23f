"""Batches of try-on pairs: which pairs a step sees depends on seed and step alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset

from ..artifacts import Size
from ..data.derived import find_edge
from ..data.drawn_dataset import DrawnDataset
from ..data.pictures import PICTURES, find_picture
from ..data.shuffling import shuffle_pairs
from ..errors import NetworkError, UsageError
from ..networks import InputSpec, Network

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.pairs import Pair

__all__ = [
    "HELD_OUT_SEEDS",
    "LEAST_DRAWN",
    "PairDataset",
    "Stage",
    "check_drawn_size",
    "feed_batch",
    "hold_out",
    "list_pictures",
    "load_batches",
    "open_drawn",
    "pair_to_batch",
]

HELD_OUT_SEEDS = range(0, 1_000_000)
"""Seeds below one million are never trained on; comparisons draw theirs from here."""
SEEDS_PER_TRAINING = 10_000_000
PREFETCHED = 4
LEAST_DRAWN = Size(32, 24)


@dataclass(frozen=True)
class Stage:
    """So many steps at one picture size."""

    size: Size
    steps: int
    batch_size: int


def load_batches(
    open_samples: Callable[[Size], Any],
    stages: Sequence[Stage],
    start: int,
    *,
    workers: int,
    process: int = 0,
    processes: int = 1,
) -> Iterator[dict[str, Tensor]]:
    """Yield the batches from step `start` on, each the share of one of so many processes.

    `open_samples` gives the endless samples at a size, by position; the positions of the second stage follow those
    of the first.
    """
    first = 0
    for stage in stages:
        share = stage.batch_size // processes
        begins = range(first + process * share, first + stage.steps * stage.batch_size, stage.batch_size)
        first += stage.steps * stage.batch_size
        skipped = min(start, stage.steps)
        start -= skipped
        if skipped < stage.steps:
            yield from DataLoader(
                open_samples(stage.size),
                batch_sampler=[list(range(begin, begin + share)) for begin in begins[skipped:]],
                num_workers=workers,
                prefetch_factor=PREFETCHED if workers else None,
            )


def open_drawn(seed: int, size: Size, *, outfits: bool = False, pictures: Sequence[str] = ()) -> DrawnDataset:
    """Open the drawn pairs of a training, of `DrawnDataset`; none of them is held out, nor another seed's."""
    first = HELD_OUT_SEEDS.stop + seed * SEEDS_PER_TRAINING
    return DrawnDataset(range(first, first + SEEDS_PER_TRAINING), size, outfits=outfits, pictures=pictures)


def hold_out(pairs: Sequence[Pair]) -> tuple[Sequence[Pair], Sequence[Pair]]:
    """Return the pairs of a folder to learn from, and those to validate on: the last tenth, one at least.

    Of one pair both are that.
    """
    count = max(len(pairs) // 10, 1)
    return pairs[:-count] or pairs, pairs[-count:]


class PairDataset(Dataset):  # type: ignore[type-arg]
    """Given pairs over and over, shuffled anew each time, every other one mirrored, by seed and position alone.

    Those with a picture that tells left from right are not, as a pose does by its colours.
    A sample has the pictures of `pair_to_batch`.
    """

    def __init__(self, pairs: Sequence[Pair], seed: int, pictures: Sequence[str] = (), *, truth: bool = True) -> None:
        self.pairs = pairs
        self.seed = seed
        self.pictures = pictures
        self.truth = truth

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        order, place, draw = shuffle_pairs(position, len(self.pairs), self.seed)
        sample = pair_to_batch(self.pairs[int(order[place])], self.pictures, truth=self.truth)
        mirrored = draw.random() < 0.5 and not any(PICTURES[name].sided for name in sample)
        return {name: tensor.flip(-1) if mirrored else tensor for name, tensor in sample.items()}


def pair_to_batch(pair: Pair, pictures: Sequence[str] = (), *, truth: bool = True) -> dict[str, Tensor]:
    """Return the pictures of a pair as tensors (C, H, W): those that it holds, and `pictures`.

    The latter are names in `PICTURES`; what the pair has not is made of its others, as for any engine. Raises
    InputError for one that is missing.
    """
    held = {
        "person": pair.person,
        "clothes": pair.clothes,
        "edge": pair.edge,
        "pose": pair.pose,
        "agnostic": pair.agnostic,
        "truth": pair.truth if truth else None,
    }
    found = {name: picture for name, picture in held.items() if picture is not None}
    found |= {name: find_picture(pair, name) for name in pictures if name not in found}
    return {name: torch.from_numpy(picture) for name, picture in found.items()}


def list_pictures(*networks: Network) -> tuple[str, ...]:
    """Return the names in `PICTURES` that feed these networks, each once."""
    named = [name for network in networks for spec in network.inputs for name in spec.fed_by.split("+")]
    return tuple(dict.fromkeys(name for name in named if name in PICTURES))


def feed_batch(inputs: Sequence[InputSpec], batch: Mapping[str, Tensor]) -> list[Tensor]:
    """Return a network's inputs (N, C, H, W) for a batch of pictures by name.

    Several pictures of one input are joined along the channels; what has fewer channels than its input is repeated.
    Without an edge, which clothes that a lesson changed have not, the garment's is where it is not near-white. Raises
    NetworkError for an input that nothing in the batch feeds.
    """
    return [_fit_picture(_join_pictures(spec, batch), spec) for spec in inputs]


def _join_pictures(spec: InputSpec, batch: Mapping[str, Tensor]) -> Tensor:
    names = spec.fed_by.split("+")
    if "edge" in names and "edge" not in batch:
        batch = {**batch, "edge": find_edge(batch["clothes"])}
    if missing := [name for name in names if name not in batch]:
        raise NetworkError(
            f"input '{spec.name}' is fed by '{spec.fed_by}', and the pairs have no {' and no '.join(missing)}; "
            f"add the pictures, or declare InputSpec('{spec.name}', {spec.channels}, picture=...) with what they have"
        )
    return torch.cat([batch[name] for name in names], 1)


def _fit_picture(picture: Tensor, spec: InputSpec) -> Tensor:
    times, left = divmod(spec.channels, picture.shape[1])
    if left:
        raise NetworkError(
            f"input '{spec.name}' has {spec.channels} channels, its picture '{spec.fed_by}' {picture.shape[1]}; "
            "declare another picture for it"
        )
    return picture if times == 1 else picture.repeat(1, times, 1, 1)


def check_drawn_size(network: Network, size: Size) -> None:
    """Raise UsageError when pairs cannot be drawn at a size, or the network cannot take it."""
    multiple = network.multiple_of
    if size.height * 3 != size.width * 4 or any(side % multiple for side in size):
        raise UsageError(
            f"size {size}: drawn pairs are 4:3 and the network needs height and width divisible by "
            f"{multiple}; take {4 * multiple}x{3 * multiple} or a multiple"
        )
    if size.height < LEAST_DRAWN.height:
        raise UsageError(f"size {size}: pairs cannot be drawn smaller than {LEAST_DRAWN}")

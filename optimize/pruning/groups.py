"""The channels of a network that can only be removed together, found by Torch-Pruning, and what each is worth.

Method: Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023 (https://arxiv.org/abs/2301.12900).
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .macs import count_macs
from .tracing import Traced

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ChannelGroup", "Channels", "find_channels", "remove_channels"]

Score = Callable[[Any], Tensor | None]
"""One of Torch-Pruning's importances: a group -> a number per channel, None where it has no say."""


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that layers share: removing one removes it from all of them."""

    name: str
    """That of the first layer that makes them."""
    layer: nn.Module
    width: int
    importance: Tensor
    """(width,); the mean over a group is about 1."""
    divisor: int
    """The number of channels must stay a multiple of this (grouped convolutions, group normalisation)."""
    made_by: Mapping[str, float]
    """Layer -> how many of its output channels go with one of these."""
    read_by: Mapping[str, float]
    """Layer -> how many of its input channels go with one of these."""
    sections: Sequence[Sequence[int]] = ()
    """Places that the same layers make, where concatenated features are added to others; each loses its share."""


@dataclass(frozen=True)
class Channels:
    """All groups of a network, and what its layers compute."""

    groups: Sequence[ChannelGroup]
    macs: Mapping[str, int]
    """Convolution or linear layer -> multiply-adds of one run."""
    widths: Mapping[str, tuple[int, int]]
    """The same layers -> their input and output channels."""
    graph: Any = field(repr=False)


def find_channels(traced: Traced, inputs: tuple[Tensor, ...], score: Score, fallback: Score) -> Channels:
    """Return the groups of channels that can be removed, and how much each channel matters.

    `inputs` are what multiply-adds are counted with, of the size that counts; the trace may have a smaller one.
    `fallback` scores the groups of which `score` has nothing to say.
    """
    module = traced.model.get_submodule("network")
    names = {layer: name for name, layer in module.named_modules()}
    macs = count_macs(module, inputs)
    with _quiet_torch_pruning():
        import torch_pruning as tp

        forward: Any = traced.forward
        graph = tp.DependencyGraph().build_dependency(traced.model, traced.inputs, forward_fn=forward, verbose=False)
        roots = (nn.modules.conv._ConvNd, nn.Linear)
        found = list(graph.get_all_groups(ignored_layers=traced.fenced, root_module_types=roots))
        groups = [_describe(group, graph, names, traced.divisors, score, fallback) for group in found]
    widths = {name: _get_widths(module.get_submodule(name)) for name in macs}
    return Channels(groups, macs, widths, graph)


def remove_channels(channels: Channels, keep: Mapping[str, int]) -> dict[str, int]:
    """Remove the least important channels of each group, all but `keep`, in place; return group -> how many went.

    A group that `keep` does not name stays as it is. Of one with a divisor as many go as it divides.
    """
    removed = {}
    for group in channels.groups:
        count = group.width - keep.get(group.name, group.width)
        if count <= 0:
            continue
        places = _choose_least(group, count)
        with _quiet_torch_pruning():
            function = channels.graph.get_pruner_of_module(group.layer).prune_out_channels
            channels.graph.get_pruning_group(group.layer, function, places).prune()
        removed[group.name] = len(places)
    return removed


def _choose_least(group: ChannelGroup, count: int) -> list[int]:
    """Return the `count` least important channels: of each section its share; with a divisor, as many of each part."""
    if group.divisor == 1:
        order = group.importance.argsort(stable=True).tolist()
        sections = [frozenset(places) for places in group.sections or [order]]
        shares = _share_out(count, [len(places) for places in sections])
        return sorted(
            place
            for places, share in zip(sections, shares, strict=True)
            for place in [place for place in order if place in places][:share]
        )
    part = group.width // group.divisor
    order = group.importance.view(group.divisor, part).mean(0).argsort(stable=True)[: count // group.divisor]
    return sorted(place + number * part for number in range(group.divisor) for place in order.tolist())


def _share_out(count: int, sizes: Sequence[int]) -> list[int]:
    """Return how many of `count` each section loses, by its size; at least one of each stays."""
    ends = [round(count * end / sum(sizes)) for end in (0, *accumulate(sizes))]
    return [min(end - start, size - 1) for (start, end), size in zip(pairwise(ends), sizes, strict=True)]


def _describe(
    group: Any,
    graph: Any,
    names: Mapping[nn.Module, str],
    divisors: Mapping[nn.Module, int],
    score: Score,
    fallback: Score,
) -> ChannelGroup:
    layer = group[0].dep.target.module
    width = len(group[0].idxs)
    made_by: dict[str, float] = defaultdict(float)
    read_by: dict[str, float] = defaultdict(float)
    makers: dict[int, list[str]] = {place: [] for place in range(width)}
    divisor = 1
    for item in group.items:
        dep, places = item
        target = dep.target.module
        if not isinstance(target, nn.Module) or target not in names:
            continue
        makes = graph.is_out_channel_pruning_fn(dep.handler)
        if makes:
            divisor = math.lcm(divisor, divisors.get(target, 1))
        if isinstance(target, nn.modules.conv._ConvNd | nn.Linear):
            groups = getattr(target, "groups", 1)
            if makes and groups < getattr(target, "in_channels", 1):
                divisor = math.lcm(divisor, groups)
            (made_by if makes else read_by)[names[target]] += len(places) / width
            for place in item.root_idxs if makes else ():
                makers[place].append(names[target])
    importance = score(group)
    if importance is None:
        importance = fallback(group)
    if importance is None:
        importance = torch.ones(width)
    importance = importance.detach().float().cpu().nan_to_num()  # weights that are all 0 have no mean to divide by
    importance = importance / importance.mean().clamp(min=1e-30)
    sections: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, layers in makers.items():
        sections[tuple(layers)].append(place)
    return ChannelGroup(names[layer], layer, width, importance, divisor, made_by, read_by, tuple(sections.values()))


def _get_widths(layer: Any) -> tuple[int, int]:
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.in_channels, layer.out_channels


@contextmanager
def _quiet_torch_pruning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

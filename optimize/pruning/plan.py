"""How wide each group of channels becomes: by a ratio, one per part, or as few multiply-adds as are allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch

from ..errors import UsageError
from .groups import ChannelGroup, Channels
from .ratio import find_ratio

__all__ = ["Ratios", "Scope", "estimate_macs", "fit_macs", "plan_widths"]

Scope = Literal["uniform", "global"]

LARGEST_RATIO = 0.95
"""Up to this a ratio is sought for a limit of multiply-adds; then every group is about at its least."""
LEAST_SHARE = 0.1
"""Of each group so much stays, whatever its ratio and the ranking say."""
BISECTIONS = 24

Ratios = Mapping[str, float]
"""Module ("" for all) -> share of the channels in it to remove; the innermost module counts."""


def plan_widths(channels: Channels, ratios: Ratios, *, scope: Scope, round_to: int) -> dict[str, int]:
    """Return how many channels each group keeps: group -> count, the nearest multiple of `round_to`.

    - uniform: every group loses its part's ratio;
    - global: all groups of one ratio are ranked together, and the least important channels go; wide groups of
      little use lose more. Channels count by what they are worth beside the others of their group.

    None loses more than nine tenths.
    """
    keep = {}
    for ratio, groups in _sort_by_ratio(channels, ratios).items():
        counts = {group.name: group.width * (1 - ratio) for group in groups}
        if scope == "global" and ratio:
            counts = _rank(groups, ratio)
        keep.update({group.name: _round(group, counts[group.name], round_to) for group in groups})
    return keep


def fit_macs(channels: Channels, most: int, *, scope: Scope, round_to: int) -> tuple[float, dict[str, int]]:
    """Return the least ratio whose plan has at most `most` multiply-adds, and that plan, filled up.

    Rounded widths change in leaps, many at once. So groups get the widths of the last plan that had too many, those
    first that matter most, as far as `most` allows.

    Raises UsageError where none has so few.
    """
    low, high = 0.0, LARGEST_RATIO

    def plan(ratio: float) -> dict[str, int]:
        return plan_widths(channels, {"": ratio}, scope=scope, round_to=round_to)

    if (least := estimate_macs(channels, plan(high))) > most:
        raise UsageError(
            f"prune: --max-macs {most:,} cannot be reached: with the fewest channels, a tenth of each layer's in "
            f"multiples of {round_to}, the network has {least:,} multiply-adds"
        )
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if estimate_macs(channels, plan(middle)) <= most else (middle, high)
    return high, _fill(channels, plan(high), plan(low), most)


def _fill(channels: Channels, keep: dict[str, int], wider: Mapping[str, int], most: int) -> dict[str, int]:
    """Return `keep` with the widths of `wider` for as many groups as `most` multiply-adds allow."""

    def weigh(group: ChannelGroup) -> float:
        least = group.importance.sort().values
        return float(least[group.width - wider[group.name] : group.width - keep[group.name]].sum())

    for group in sorted(channels.groups, key=weigh, reverse=True):
        trial = {**keep, group.name: wider[group.name]}
        if estimate_macs(channels, trial) <= most:
            keep = trial
    return keep


def estimate_macs(channels: Channels, keep: Mapping[str, int]) -> int:
    """Return the multiply-adds of the convolutions and linear layers with these widths, others as they are."""
    lost_in = dict.fromkeys(channels.macs, 0.0)
    lost_out = dict.fromkeys(channels.macs, 0.0)
    for group in channels.groups:
        lost = group.width - keep.get(group.name, group.width)
        for table, shares in ((lost_out, group.made_by), (lost_in, group.read_by)):
            for layer, share in shares.items():
                if layer in table:
                    table[layer] += lost * share
    total = 0.0
    for layer, macs in channels.macs.items():
        inside, outside = channels.widths[layer]
        total += macs * (1 - lost_in[layer] / inside) * (1 - lost_out[layer] / outside)
    return round(total)


def _sort_by_ratio(channels: Channels, ratios: Ratios) -> dict[float, list[ChannelGroup]]:
    sorted_groups: dict[float, list[ChannelGroup]] = {}
    for group in channels.groups:
        sorted_groups.setdefault(find_ratio(group.name, ratios), []).append(group)
    return sorted_groups


def _rank(groups: list[ChannelGroup], ratio: float) -> dict[str, float]:
    """Return how many channels of each group are among the most important of all."""
    importance = torch.cat([group.importance for group in groups])
    last = max(int(len(importance) * ratio) - 1, 0)
    threshold = importance.sort().values[last]
    return {group.name: float((group.importance > threshold).sum()) for group in groups}


def _round(group: ChannelGroup, count: float, round_to: int) -> int:
    """Return the nearest possible number of channels: a multiple, at least one, or all that there are."""
    step = max(round_to, group.divisor) if group.divisor == 1 or round_to % group.divisor == 0 else group.divisor
    count = max(count, LEAST_SHARE * group.width)
    nearest = min(max(int(count / step + 0.5), 1) * step, group.width)
    return group.width if group.width - count < abs(nearest - count) else nearest

"""Widths by ratio, by part, by rank and by a limit of multiply-adds, on groups written by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vtopt.optimize.errors import UsageError
from vtopt.optimize.pruning.groups import ChannelGroup, Channels
from vtopt.optimize.pruning.plan import estimate_macs, fit_macs, plan_widths


def _make_group(name: str, width: int, *, divisor: int = 1, importance: float = 1.0, reader: str = "") -> ChannelGroup:
    scores = torch.linspace(0.5, 1.5, width) * importance
    return ChannelGroup(name, nn.Identity(), width, scores, divisor, {name: 1.0}, {reader: 1.0} if reader else {})


def _make_channels(*groups: ChannelGroup) -> Channels:
    """A chain 3 -> one -> other -> 3, each layer a 1x1 convolution of 10 places."""
    macs = {"one": 3 * 40 * 10, "other": 40 * 20 * 10, "last": 20 * 3 * 10}
    widths = {"one": (3, 40), "other": (40, 20), "last": (20, 3)}
    return Channels(groups, macs, widths, None)


CHAIN = _make_channels(_make_group("one", 40, reader="other"), _make_group("other", 20, reader="last"))


@pytest.mark.parametrize(
    ("ratios", "round_to", "expected"),
    [
        ({"": 0.5}, 1, (20, 10)),
        ({"": 0.5}, 8, (24, 8)),
        ({"": 0.99}, 1, (4, 2)),
        ({"": 0.99}, 16, (16, 16)),
        ({"": 0.01}, 8, (40, 20)),
        ({"one": 0.5}, 1, (20, 20)),
        ({"": 0.5, "one": 0.25}, 1, (30, 10)),
        ({"": 0.5, "other": 0.0}, 1, (20, 20)),
        ({"": 0.5, "o": 0.25}, 1, (20, 10)),
    ],
)
def test_plan_widths(ratios, round_to, expected) -> None:
    keep = plan_widths(CHAIN, ratios, scope="uniform", round_to=round_to)
    assert (keep["one"], keep["other"]) == expected


@pytest.mark.parametrize(("divisor", "round_to", "expected"), [(5, 1, 20), (5, 8, 20), (4, 8, 24), (40, 8, 40)])
def test_widths_stay_multiples_of_what_their_layers_divide(divisor, round_to, expected) -> None:
    channels = _make_channels(_make_group("one", 40, divisor=divisor))
    assert plan_widths(channels, {"": 0.5}, scope="uniform", round_to=round_to) == {"one": expected}


def test_global_scope_takes_from_the_group_that_matters_less() -> None:
    channels = _make_channels(_make_group("one", 40, importance=0.1), _make_group("other", 20))
    assert plan_widths(channels, {"": 0.5}, scope="global", round_to=1) == {"one": 10, "other": 20}
    assert plan_widths(channels, {"": 0.65}, scope="global", round_to=1) == {"one": 4, "other": 20}


def test_equal_importance_never_empties_a_group() -> None:
    even = ChannelGroup("one", nn.Identity(), 40, torch.ones(40), 1, {}, {})
    assert plan_widths(_make_channels(even), {"": 0.5}, scope="global", round_to=1) == {"one": 4}


def test_estimate_macs() -> None:
    assert estimate_macs(CHAIN, {}) == sum(CHAIN.macs.values())
    assert estimate_macs(CHAIN, {"one": 10, "other": 5}) == 10 * (3 * 10 + 10 * 5 + 5 * 3)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.2, 0.1])
@pytest.mark.parametrize("scope", ["uniform", "global"])
def test_fit_macs_removes_as_little_as_meets_the_limit(share, scope) -> None:
    most = int(sum(CHAIN.macs.values()) * share)
    ratio, keep = fit_macs(CHAIN, most, scope=scope, round_to=1)
    assert estimate_macs(CHAIN, keep) <= most
    assert keep == plan_widths(CHAIN, {"": ratio}, scope=scope, round_to=1)
    assert estimate_macs(CHAIN, plan_widths(CHAIN, {"": ratio - 1e-4}, scope=scope, round_to=1)) > most


def test_a_limit_that_cannot_be_reached() -> None:
    least = 10 * (3 * 4 + 4 * 2 + 2 * 3)
    with pytest.raises(UsageError, match=rf"--max-macs 100 cannot be reached: .* of 1, the network has {least} "):
        fit_macs(CHAIN, 100, scope="uniform", round_to=1)


def test_a_limit_that_is_met_already_removes_nothing() -> None:
    assert fit_macs(CHAIN, 10**9, scope="uniform", round_to=1)[1] == {"one": 40, "other": 20}

"""From a network to a narrower one: trace it, score its channels, plan widths, remove; in one step or in several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import NetworkError
from .groups import Channels, find_channels, remove_channels
from .importance import Importance, Sample, make_score
from .macs import run_shapes
from .plan import Scope, estimate_macs, fit_macs, plan_widths
from .ratio import find_ratio
from .tracing import trace_network

if TYPE_CHECKING:
    from torch import Tensor

    from ..networks import Network

__all__ = ["PruningRequest", "Removal", "prune_module"]

TRACED_SIDE = 64
"""Pixels of height and width, about, that a network is traced at."""

SHOWN_NAMES = 5

HINT = "put the code that moves or mixes channels into a module of its own, without weights"


@dataclass(frozen=True)
class PruningRequest:
    """How much to remove, and which channels first."""

    ratios: Mapping[str, float] = field(default_factory=dict)
    """Module ("" for all) -> share of the channels in it to remove."""
    max_macs: int | None = None
    """Instead of ratios: as little as leaves so many multiply-adds."""
    importance: Importance = "magnitude"
    scope: Scope = "uniform"
    round_to: int = 8
    steps: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Removal:
    """What was removed."""

    names: tuple[str, ...]
    """Groups of channels that could be removed together, each by the first layer that makes it."""
    removed: int
    """Channels that were, each counted once for its group."""
    channels: int
    """Channels that there were, counted so."""
    kept_whole: int
    """Layers that keep all their channels for what reads them."""


def prune_module(
    network: Network,
    request: PruningRequest,
    inputs: tuple[Tensor, ...],
    samples: Sequence[Sample] = (),
    between: Callable[[int], None] = lambda step: None,
) -> Removal:
    """Remove channels of `network.module`, in place.

    The plan is made once, from the first scores; with several steps each goes an equal part of the way there, and
    looks anew at which channels matter. `between` is called after each step but the last, to train.

    Raises NetworkError where no channels can be removed, or the request comes to none, before `between` is called.
    """
    channels, kept_whole = _look(network, request, inputs, samples)
    if not channels.groups:
        raise NetworkError(
            f"nothing can be removed: every convolution or linear layer ({len(channels.macs)} of them) makes an "
            "output, a grid, attention or a mask, or its channels are mixed in ways that cannot be followed; "
            "vtopt quantize makes such a network smaller"
        )
    keep = _plan(channels, request)
    widths = {group.name: group.width for group in channels.groups}
    if keep == widths:
        raise NetworkError(f"nothing was removed: {_explain_none(channels, request)}")
    removed = 0
    for step in range(1, request.steps + 1):
        if step > 1:
            between(step - 1)
            channels, _ = _look(network, request, inputs, samples)
        share = step / request.steps
        with _explain_failures():
            went = remove_channels(channels, {name: _go_part(widths[name], keep[name], share) for name in keep})
        removed += sum(went.values())
    return Removal(tuple(keep), removed, sum(widths.values()), kept_whole)


def _look(
    network: Network, request: PruningRequest, inputs: tuple[Tensor, ...], samples: Sequence[Sample]
) -> tuple[Channels, int]:
    """Return the groups of channels with their scores, and how many layers are kept whole."""
    score = make_score(request.importance, network.module, samples, seed=request.seed)
    fallback = make_score("magnitude", network.module, (), seed=0)
    with _explain_failures():
        traced = trace_network(network, _shrink(network, inputs))
        channels = find_channels(traced, inputs, score, fallback)
    network.module.zero_grad()
    own = set(network.module.modules())
    return channels, sum(layer in own for layer in traced.fenced)


@contextmanager
def _explain_failures() -> Iterator[None]:
    """Make a NetworkError of what the user's own code, or Torch-Pruning on what it never met, may raise."""
    try:
        yield
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise NetworkError(f"its channels cannot be followed ({reason}); {HINT}") from error


def _shrink(network: Network, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the inputs cut to about 64 pixels where the network runs at that: a trace wants channels, not pixels."""
    side = network.multiple_of * max(1, round(TRACED_SIDE / network.multiple_of))
    small = tuple(given[..., :side, :side] if given.dim() == 4 else given for given in inputs)
    try:
        run_shapes(network.module, small)
    except Exception:  # made for its own size
        return inputs
    return small


def _plan(channels: Channels, request: PruningRequest) -> dict[str, int]:
    if request.max_macs is not None:
        return fit_macs(channels, request.max_macs, scope=request.scope, round_to=request.round_to)[1]
    return plan_widths(channels, request.ratios, scope=request.scope, round_to=request.round_to)


def _explain_none(channels: Channels, request: PruningRequest) -> str:
    """Return why a plan keeps every channel, and what to do."""
    if request.max_macs is not None:
        return (
            f"the network has {estimate_macs(channels, {}):,} multiply-adds, no more than --max-macs "
            f"{request.max_macs:,}; take a lower one"
        )
    asked = [group.width for group in channels.groups if find_ratio(group.name, request.ratios)]
    if not asked:
        return (
            "the layers of the named parts keep all their channels, or share them with layers of others; channels can "
            f"go from {', '.join(sorted(group.name for group in channels.groups)[:SHOWN_NAMES])} and the like"
        )
    return (
        f"rounded to multiples of {request.round_to}, the {len(asked)} groups of {min(asked)} to {max(asked)} channels "
        "stay as they are; take a lower --round-to, or a higher ratio"
    )


def _go_part(width: int, keep: int, share: float) -> int:
    return keep if share == 1 else round(width - (width - keep) * share)

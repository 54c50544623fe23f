"""Modules without weights, told apart by trying them: what they do to the channels of what they are given.

A warp, a correlation, a mask or a sampling moves and mixes numbers in ways that a graph of operations does not
show. Their weights being none, it can be tried out: change channels, and see which channels of the result change;
take channels away, and see whether it still runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .trials import halve_shape, keeps_apart, shrinks

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Leaf", "find_leaves", "try_leaf"]


@dataclass(frozen=True)
class Leaf:
    """What a module does with its tensor arguments, by their places; those not listed keep all their channels.

    - follows: the result has the channels of these arguments, each made of that channel alone (a warp, a mask);
    - mixes: these arguments may lose the same channels, and the result stays as wide (a correlation);
    - fixed: anything else.
    """

    kind: Literal["follows", "mixes", "fixed"]
    places: tuple[int, ...] = ()


def find_leaves(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost modules without weights and buffers that are not torch's own."""
    if not ([*module.parameters(), *module.buffers()] or type(module).__module__.startswith("torch.")):
        yield module
        return
    for child in module.children():
        yield from find_leaves(child)


def try_leaf(call: Callable[..., Any], arguments: Sequence[Any]) -> Leaf:
    """Find out by some runs what `call` does with the channels (dimension 1) of its arguments."""
    import torch

    def call_with(values: dict[int, Tensor]) -> list[Tensor]:
        made = call(*(values.get(place, _copy(value)) for place, value in enumerate(arguments)))
        return [made] if isinstance(made, torch.Tensor) else []

    with torch.no_grad():
        made = call_with({})
        if not made or made[0].dim() < 2:
            return Leaf("fixed")
        width = made[0].shape[1]
        wide = {place: value.detach() for place, value in enumerate(arguments) if _is_wide(value)}

        def is_apart(place: int) -> bool:
            return wide[place].shape[1] == width and keeps_apart(lambda value: call_with({place: value}), wide[place])

        def fit(places: Sequence[int], shape: Sequence[int]) -> bool:
            values = [wide[place] for place in places]
            return shrinks(lambda fewer: call_with(dict(zip(places, fewer, strict=True))), values, [shape])

        follows = tuple(place for place in wide if is_apart(place))
        if follows and fit(follows, halve_shape(made[0].shape)):
            return Leaf("follows", follows)
        for side in sorted({value.shape[1] for value in wide.values()}, reverse=True):
            places = tuple(place for place, value in wide.items() if value.shape[1] == side)
            if fit(places, made[0].shape):
                return Leaf("mixes", places)
    return Leaf("fixed")


def _copy(value: Any) -> Any:
    """Return a tensor's copy, which the module may overwrite."""
    from torch import Tensor

    return value.detach().clone() if isinstance(value, Tensor) else value


def _is_wide(value: Any) -> bool:
    from torch import Tensor

    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() >= 2 and value.shape[1] > 1

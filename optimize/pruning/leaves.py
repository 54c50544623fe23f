"""Modules without weights, told apart by trying them: what they do to the channels of what they are given.

A warp, a correlation, a mask or a sampling moves and mixes numbers in ways that a graph of operations does not
show. Their weights being none, it can be tried out: take away channels, and see which channels of the result change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Leaf", "find_leaves", "try_leaf"]


@dataclass(frozen=True)
class Leaf:
    """What a module does with its tensor arguments, by their places; those in neither list keep all their channels.

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
    from torch import Tensor

    arguments = [value.detach() if isinstance(value, Tensor) else value for value in arguments]
    with torch.no_grad():
        result = call(*arguments)
        if not isinstance(result, Tensor) or result.dim() < 2:
            return Leaf("fixed")
        wide = [place for place, value in enumerate(arguments) if _is_wide(value)]
        follows = tuple(place for place in wide if _follows(call, arguments, place, result))
        if follows and _shrinks(call, arguments, follows, result.shape[1] // 2):
            return Leaf("follows", follows)
        for width in sorted({arguments[place].shape[1] for place in wide}, reverse=True):
            places = tuple(place for place in wide if arguments[place].shape[1] == width)
            if _shrinks(call, arguments, places, result.shape[1]):
                return Leaf("mixes", places)
    return Leaf("fixed")


def _is_wide(value: Any) -> bool:
    from torch import Tensor

    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() >= 2 and value.shape[1] > 1


def _follows(call: Callable[..., Any], arguments: Sequence[Any], place: int, result: Tensor) -> bool:
    """Tell whether the first half of the result's channels depends on that of the argument, and the other does not."""
    value = arguments[place]
    if value.shape[1] != result.shape[1] or value.shape[0] != result.shape[0]:
        return False
    half = value.shape[1] // 2
    changed = value.clone()
    changed[:, :half] = -changed[:, :half] - 1
    again = call(*arguments[:place], changed, *arguments[place + 1 :])
    return bool((again[:, half:] == result[:, half:]).all() and (again[:, :half] != result[:, :half]).any())


def _shrinks(call: Callable[..., Any], arguments: Sequence[Any], places: Sequence[int], width: int) -> bool:
    """Tell whether the module takes half of these arguments' channels and gives `width` channels then."""
    fewer = [
        value[:, : value.shape[1] // 2].contiguous() if place in places else value
        for place, value in enumerate(arguments)
    ]
    try:
        result = call(*fewer)
    except Exception:  # the user's own code, of a width that it was not made for
        return False
    return result.shape[1] == width and bool(result.isfinite().all())

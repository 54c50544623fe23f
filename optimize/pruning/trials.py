"""What code without weights does to channels, found by trying it on other numbers and on fewer channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..nested import list_tensors, map_tensors

__all__ = ["halve_shape", "keeps_apart", "keeps_channels", "shrinks"]

Shape = Sequence[int]


def keeps_apart(call: Callable[[Tensor], Sequence[Tensor]], value: Tensor, dim: int = 1) -> bool:
    """Tell whether each channel of what `call` returns depends on that channel of `value` alone.

    Channels are changed in halves, each time other ones: by the digits of their binary numbers any two of them are
    told apart, so nothing is taken for granted and 256 channels take 16 calls.
    """
    state = torch.get_rng_state()
    made = call(value.clone())
    if not all(tensor.dim() > max(dim, 1) and tensor.shape[dim] == value.shape[dim] for tensor in made):
        return False
    for changed in _halve(value.shape[dim]):
        left = (~changed).nonzero().flatten().to(value.device)
        mask = changed.view([-1 if place == dim % value.dim() else 1 for place in range(value.dim())])
        other = -value - 1 if value.is_floating_point() else ~value
        torch.set_rng_state(state)  # noise is the same each time
        again = call(torch.where(mask.to(value.device), other, value))
        if not all(_is_same(*pair, left, dim) for pair in zip(made, again, strict=True)):
            return False
    return True


def shrinks(
    call: Callable[[list[Tensor]], Sequence[Tensor]], values: Sequence[Tensor], shapes: Sequence[Shape], dim: int = 1
) -> bool:
    """Tell whether `call` takes the first half of the channels of `values`, and what it returns has `shapes` then."""
    fewer = [value.narrow(dim, 0, value.shape[dim] // 2).clone() for value in values]
    try:
        made = call(fewer)
    except Exception:  # of any kind: code that was made for the width it has
        return False
    return [list(tensor.shape) for tensor in made] == [list(shape) for shape in shapes]


def halve_shape(shape: Shape, dim: int = 1) -> list[int]:
    """Return the shape with half of the channels."""
    return [side // 2 if place == dim % len(shape) else side for place, side in enumerate(shape)]


def keeps_channels(
    function: Callable[..., Any],
    given: tuple[Sequence[Any], dict[str, Any]],
    before: Mapping[int, Tensor],
    wide: Sequence[Tensor],
    dim: int,
) -> bool:
    """Tell whether a function, tried on what it was given before it ran, makes each channel of those channels alone."""

    def call(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> list[Tensor]:
        changed = {id(tensor): value for tensor, value in zip(tensors, values, strict=True)}
        arguments, named = map_tensors(given, lambda tensor: changed.get(id(tensor), before[id(tensor)]).clone())
        return list_tensors(function(*arguments, **named))

    wide = list({id(tensor): tensor for tensor in wide}.values())
    values = [before[id(tensor)] for tensor in wide]
    with torch.no_grad():
        for tensor, value in zip(wide, values, strict=True):
            if not keeps_apart(lambda value, tensor=tensor: call([tensor], [value]), value, dim):
                return False
        shapes = [halve_shape(tensor.shape, dim) for tensor in call(wide, values)]
        return shrinks(lambda fewer: call(wide, fewer), values, shapes, dim)


def _halve(width: int) -> Iterator[Tensor]:
    """Yield masks of channels: for each binary digit of their numbers those that have it, and those that have not."""
    number = torch.arange(width)
    for digit in range((width - 1).bit_length()):
        has = (number >> digit & 1).bool()
        yield from (has, ~has)


def _is_same(one: Tensor, other: Tensor, channels: Tensor, dim: int) -> bool:
    one, other = (tensor.index_select(dim, channels).nan_to_num() for tensor in (one, other))
    return torch.equal(one, other)

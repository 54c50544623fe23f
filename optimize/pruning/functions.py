"""Torch's functions while a network is traced: each is called, or what ties channels as it does.

Sampling keeps its features alone. A function that keeps channels apart is called as it is; any other ends the graph,
and the layers that it got its numbers from keep all their channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..nested import list_tensors, map_tensors
from .lineage import Lineage
from .stand_ins import StandIns, resize
from .trials import keeps_channels

__all__ = ["Functions", "name_shapes"]

SAMPLINGS = frozenset({"grid_sample", "grid_sampler", "grid_sampler_2d", "grid_sampler_3d"})
JOINS = frozenset({"cat", "concat", "concatenate"})


@dataclass
class Functions:
    """Calls functions on tensors whose channels are followed."""

    lineage: Lineage
    stand_ins: StandIns
    tried: dict[str, bool] = field(default_factory=dict)
    """Call of a function -> whether it keeps channels apart."""

    def call(self, function: Callable[..., Any], arguments: Sequence[Any], named: dict[str, Any]) -> Any:
        """Call one of torch's functions, or what stands in for it."""
        name = getattr(function, "__name__", "")
        traced = [tensor for tensor in list_tensors([arguments, named]) if self.lineage.is_traced(tensor)]
        if not traced:
            return function(*arguments, **named)
        if name == "detach":
            return arguments[0]
        with torch.enable_grad():
            if name in SAMPLINGS:
                return self._sample(function, arguments, named)
            if name in JOINS:
                return self._join(function, arguments, named)
            return self._call(function, arguments, named, traced)

    def _call(
        self, function: Callable[..., Any], arguments: Sequence[Any], named: dict[str, Any], traced: Sequence[Tensor]
    ) -> Any:
        """Call a function; what does not keep channels apart, or is made for so many, fences what it is given.

        Masks of one channel that meet features are fenced too.
        """
        lineage = self.lineage
        dim = lineage.find_dim(traced)
        width = max(_get_side(tensor, dim) for tensor in traced)
        narrow = {id(tensor) for tensor in traced if _get_side(tensor, dim) < width}
        lineage.fence([tensor for tensor in traced if id(tensor) in narrow])
        arguments, named = map_tensors(
            (list(arguments), named), lambda tensor: tensor.detach() if id(tensor) in narrow else tensor
        )
        wide = [tensor for tensor in traced if id(tensor) not in narrow]
        before = {id(tensor): tensor.detach().clone() for tensor in list_tensors([arguments, named])}
        result = function(*arguments, **named)
        made = list_tensors(result)
        if not made and function.__name__ != "__setitem__":
            return result
        if dim == 1 and _is_flattened(wide, made):
            return result
        if made and dim is not None and self._is_channelwise(function, (arguments, named), before, wide, dim):
            return map_tensors(result, lambda tensor: self._carry(tensor, wide, dim))
        lineage.fence(wide)
        return map_tensors(result, Tensor.detach)

    def _is_channelwise(
        self,
        function: Callable[..., Any],
        given: tuple[Sequence[Any], dict[str, Any]],
        before: Mapping[int, Tensor],
        wide: Sequence[Tensor],
        dim: int,
    ) -> bool:
        """Tell whether a function keeps channels apart; what is called alike is tried once."""
        if len(before) > len({id(tensor) for tensor in wide}):  # other tensors have a say
            return keeps_channels(function, given, before, wide, dim)
        key = repr((function, dim, name_shapes(given)))
        if key not in self.tried:
            self.tried[key] = keeps_channels(function, given, before, wide, dim)
        return self.tried[key]

    def _carry(self, made: Tensor, sources: Sequence[Tensor], dim: int) -> Tensor:
        """Return `made`, which has the channels of `sources`, so that the graph knows."""
        lineage = self.lineage
        if made.grad_fn is not None and not any(lineage.is_shadowed(tensor) for tensor in sources):
            return made
        anchors = [lineage.find_anchor(tensor) for tensor in sources]
        if {made.dim()} != {tensor.dim() for tensor in anchors} or any(made is tensor for tensor in sources):
            lineage.fence(sources)
            return made.detach()
        others = [place for place in range(made.dim()) if place != dim]
        anchor = torch.stack([tensor.mean(others, keepdim=True) for tensor in anchors]).sum(0) * 0
        if made.is_floating_point():
            return made + anchor
        lineage.shadow(made, anchor)
        return made

    def _sample(self, function: Callable[..., Any], arguments: Sequence[Any], named: dict[str, Any]) -> Any:
        names = ("input", "grid")
        features, grid = (arguments[i] if i < len(arguments) else named[name] for i, name in enumerate(names))
        self.lineage.fence([grid])
        with torch.no_grad():
            result = function(*arguments, **named)
        if not self.lineage.is_traced(features):
            return result
        if self.lineage.find_dim([features]) != 1:
            self.lineage.fence([features])
            return result
        return resize(features, result)

    def _join(self, function: Callable[..., Any], arguments: Sequence[Any], named: dict[str, Any]) -> Any:
        """Concatenate; what has no layer gets one that stands in, so that the others are found in their places."""
        lineage = self.lineage
        tensors = list(arguments[0] if arguments else named["tensors"])
        dim = arguments[1] if len(arguments) > 1 else named.get("dim", named.get("axis", 0))
        traced = [tensor for tensor in tensors if lineage.is_traced(tensor)]
        known = all(tensor.grad_fn is not None and not lineage.is_flat(tensor) for tensor in traced)
        named_well = len(traced) == len(tensors) or tensors[0].dim() == 4
        if not known or not named_well or lineage.find_dim(traced) != 1 or dim % tensors[0].dim() != 1:
            lineage.fence(traced)
            return map_tensors(function(*arguments, **named), Tensor.detach)
        filled = (
            each if lineage.is_traced(each) else self.stand_ins.make_fixed(each, each.shape[1]) for each in tensors
        )
        return function(list(filled), dim=1)


def name_shapes(given: Any) -> Any:
    """Return what was given with the shapes of tensors in their places."""
    return map_tensors(given, lambda tensor: tuple(tensor.shape))  # type: ignore[arg-type, return-value]


def _get_side(tensor: Tensor, dim: int | None) -> int:
    return tensor.shape[dim] if dim is not None and tensor.dim() > dim else 0


def _is_flattened(traced: Sequence[Tensor], made: Sequence[Tensor]) -> bool:
    """Tell whether (N, C, H, W) became (N, C * H * W), which Torch-Pruning follows into a linear layer."""
    if len(traced) != 1 or len(made) != 1:
        return False
    before, after = traced[0], made[0]
    return after.dim() == 2 < before.dim() and after.shape == before.flatten(1).shape

"""Which layers a tensor's channels come from, read off the graph of gradients; and which of them keep them all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from .layers import CHANNELS_LAST

__all__ = ["Lineage"]


@dataclass
class Lineage:
    """What is known of the channels of one run; what is fenced and divided stays known in the next."""

    fenced: dict[nn.Module, None] = field(default_factory=dict)
    """Layers that keep all their channels, in the order they were found."""
    divisors: dict[nn.Module, int] = field(default_factory=dict)
    """Layer -> how many equal parts of its channels are divided later."""
    makers: dict[Any, tuple[nn.Module, Tensor]] = field(default_factory=dict)
    """Node of the graph of gradients -> the layer that made it, and its result."""
    shadows: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Identity of a tensor that can have no gradients (a comparison) -> it, and what it has its channels from."""
    ends: list[Tensor] = field(default_factory=list)
    """Where the graph ends: the results of fenced layers."""

    def start(self) -> None:
        """Forget the tensors of the run before."""
        self.makers, self.shadows, self.ends = {}, {}, []

    def note(self, layer: nn.Module, result: Tensor) -> None:
        """Remember that a layer made `result`."""
        self.makers[result.grad_fn] = (layer, result)

    def shadow(self, made: Tensor, anchor: Tensor) -> None:
        """Remember that `made`, which can have no gradients, has the channels of `anchor`."""
        self.shadows[id(made)] = (made, anchor)

    def is_shadowed(self, tensor: Tensor) -> bool:
        return id(tensor) in self.shadows

    def find_anchor(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the graph with the channels of this one: itself, or what it is the shadow of."""
        return self.shadows.get(id(tensor), (tensor, tensor))[1]

    def find_makers(self, tensor: Tensor) -> list[tuple[nn.Module, Tensor]]:
        """Return the nearest layers that a tensor was computed from, and their results."""
        found, seen, stack = {}, set(), [self.find_anchor(tensor).grad_fn]
        while stack:
            node = stack.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if node in self.makers:
                found[node] = self.makers[node]
            else:
                stack.extend(before for before, _ in node.next_functions)
        return list(found.values())

    def is_traced(self, tensor: Tensor) -> bool:
        return bool(self.find_makers(tensor))

    def find_dim(self, tensors: Sequence[Tensor]) -> int | None:
        """Return which dimension of these has the channels, None where they do not agree."""
        dims = {
            made.dim() - 1 if isinstance(layer, CHANNELS_LAST) else 1
            for tensor in tensors
            for layer, made in self.find_makers(tensor)
        }
        return dims.pop() if len(dims) == 1 else None

    def is_flat(self, tensor: Tensor) -> bool:
        """Tell whether a tensor (N, C * H * W) has several numbers of each channel."""
        return tensor.dim() == 2 and any(
            made.dim() > 2 and made.shape[1] != tensor.shape[1] for _, made in self.find_makers(tensor)
        )

    def fence(self, tensors: Sequence[Tensor]) -> None:
        """Let the layers that these were computed from keep their channels; the graph may end there."""
        for tensor in tensors:
            for layer, result in self.find_makers(tensor):
                self.fenced[layer] = None
                self.ends.append(result)

    def divide(self, tensor: Tensor, parts: int) -> None:
        """Let the layers that make `tensor` lose the same channels of each of so many equal parts."""
        if parts == 1:
            return
        for layer, made in self.find_makers(tensor):
            if made.shape[1] == tensor.shape[1] and made.shape[1] % parts == 0:
                self.divisors[layer] = math.lcm(self.divisors.get(layer, 1), parts)
            else:
                self.fence([tensor])

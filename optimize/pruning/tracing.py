"""A network as Torch-Pruning can read it: a graph in which channels stay channels.

Torch-Pruning reads the graph of gradients and takes what it does not know as elementwise: features that are sampled
at a flow's places would be tied to the two channels of the flow, and reshapes around a warp keep it busy for minutes.
So the network is run with stand-ins. A module without weights is replaced by something simple that ties channels
as it does (`leaves`), and so are torch's functions (`functions`). Whatever would lose track of channels ends the graph
there, and those layers that it got its numbers from are fenced: they keep all their channels (`lineage`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..nested import list_tensors
from .functions import Functions, name_shapes
from .layers import CHANNELS_LAST, count_parts, gradients_of, is_plain, list_known_parameters
from .leaves import Leaf, find_leaves, try_leaf
from .lineage import Lineage
from .stand_ins import StandIns, resize

if TYPE_CHECKING:
    from ..networks import Network

__all__ = ["Traced", "trace_network"]


@dataclass
class Traced:
    """What Torch-Pruning is given."""

    model: nn.Module
    """The network, and beside it the stand-ins that have weights."""
    inputs: tuple[Tensor, ...]
    forward: Callable[[nn.Module, Sequence[Tensor]], list[Tensor]]
    fenced: list[nn.Module]
    """These keep all their output channels."""
    divisors: dict[nn.Module, int]
    """Layer -> how many equal parts of its channels are divided later, and must lose the same places."""
    leaves: dict[str, Leaf]
    """Name of a module without weights -> what it does to channels."""


def trace_network(network: Network, inputs: tuple[Tensor, ...]) -> Traced:
    """Run the network once to find what must be fenced, and return how to run it for Torch-Pruning.

    The layers that make the network's outputs are fenced, and those that make a grid, an attention map or a mask.
    """
    module = network.module
    known = list_known_parameters(module)
    names = {leaf: name for name, leaf in module.named_modules()}
    lineage = Lineage()
    stand_ins = StandIns(lineage)
    tracer = _Tracer(module, lineage, stand_ins, Functions(lineage, stand_ins))

    def forward(model: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
        with gradients_of(module, known):
            return tracer.run(inputs)

    forward(module, inputs)
    model = nn.ModuleDict({"network": module, "stand_ins": stand_ins.layers})
    leaves = {names[leaf]: rule for (leaf, _), rule in tracer.leaves.items()}
    return Traced(model, inputs, forward, [*lineage.fenced, *stand_ins.layers], lineage.divisors, leaves)


@dataclass
class _Tracer:
    """Runs a network with stand-ins; the first run finds them, later runs use the same."""

    module: nn.Module
    lineage: Lineage
    stand_ins: StandIns
    functions: Functions
    leaves: dict[tuple[nn.Module, str], Leaf] = field(default_factory=dict)
    """Module without weights, and the shapes and settings that it was called with -> what it does to channels."""
    inside: int = 0
    """How many layers and modules without weights are at work: what they call is not looked at."""

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run the network, and return all the ends of its graph."""
        self.lineage.start()
        self.stand_ins.start()
        with ExitStack() as stack, torch.enable_grad():
            for layer in filter(is_plain, self.module.modules()):
                stack.callback(layer.register_forward_pre_hook(self.enter, with_kwargs=True).remove)
                stack.callback(layer.register_forward_hook(self.leave).remove)
            for leaf in find_leaves(self.module):
                stack.enter_context(_replace_forward(leaf, self.stand_in(leaf)))
            stack.enter_context(_Watch(self))
            result = self.module(*inputs)
        self.lineage.fence(list_tensors(result))
        return self.lineage.ends

    def enter(self, layer: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        torch.set_grad_enabled(True)  # a layer under the user's own no_grad is one of the graph all the same
        self.inside += 1
        value = list_tensors([given, named])[0]
        if not self.lineage.is_traced(value):
            return
        last = value.dim() - 1
        if self.lineage.find_dim([value]) != (last if isinstance(layer, CHANNELS_LAST) else 1):
            self.lineage.fence([value])
            self.lineage.fenced[layer] = None
        self.lineage.divide(value, count_parts(layer))

    def leave(self, layer: nn.Module, _: Any, result: Tensor) -> None:
        self.inside -= 1
        self.lineage.note(layer, result)

    def stand_in(self, leaf: nn.Module) -> Callable[..., Any]:
        real = leaf.forward

        def forward(*arguments: Any, **named: Any) -> Any:
            if named or self.inside:
                return real(*arguments, **named)
            self.inside += 1
            try:
                key = leaf, repr(name_shapes(arguments))
                if key not in self.leaves:
                    self.leaves[key] = try_leaf(real, arguments)
                rule = self.leaves[key]
                if rule.kind != "fixed":
                    return self.call_leaf(rule, real, arguments)
            finally:
                self.inside -= 1
            return real(*arguments)

        return forward

    def call_leaf(self, rule: Leaf, real: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        lineage = self.lineage
        kept = [value for place, value in enumerate(arguments) if place in rule.places]
        lineage.fence(list_tensors([value for place, value in enumerate(arguments) if place not in rule.places]))
        with torch.no_grad():
            result = real(*arguments)
        traced = [value for value in kept if lineage.is_traced(value)]
        if not traced:
            return result
        if (
            len(traced) < len(kept)
            or lineage.find_dim(traced) != 1
            or {4} != {value.dim() for value in (*kept, result)}
        ):
            lineage.fence(traced)
            return result
        tied = traced[0]
        for value in traced[1:]:
            tied = tied + resize(value, tied)
        return resize(tied if rule.kind == "follows" else self.stand_ins.make_fixed(tied, result.shape[1]), result)


class _Watch(TorchFunctionMode):
    def __init__(self, tracer: _Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self.tracer.inside:
            return func(*args, **(kwargs or {}))
        return self.tracer.functions.call(func, args, kwargs or {})


@contextmanager
def _replace_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    module.forward = forward
    try:
        yield
    finally:
        del module.forward

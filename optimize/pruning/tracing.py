"""A network as Torch-Pruning can read it: a graph in which channels stay channels.

Torch-Pruning reads the graph of gradients and takes what it does not know as elementwise: features that are sampled
at a flow's places would be tied to the two channels of the flow, and reshapes around a warp keep it busy for minutes.
So the network is run with stand-ins. A module without weights is replaced by something simple that ties channels
as it does (`leaves`). Sampling keeps its features alone. Whatever would lose track of channels ends the graph there,
and those layers that it got its numbers from are fenced: they keep all their channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .layers import CHANNELS_LAST, count_parts, gradients_of, is_plain, list_known_parameters
from .leaves import Leaf, find_leaves, try_leaf
from .nested import list_tensors, map_tensors
from .trials import keeps_channels

if TYPE_CHECKING:
    from ..networks import Network

__all__ = ["Traced", "trace_network"]

SAMPLINGS = frozenset({"grid_sample", "grid_sampler", "grid_sampler_2d", "grid_sampler_3d"})
JOINS = frozenset({"cat", "concat", "concatenate"})


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
    stand_ins = nn.ModuleList()
    names = {leaf: name for name, leaf in module.named_modules()}
    tracer = _Tracer(module, stand_ins)

    def forward(model: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
        with gradients_of(module, known):
            return tracer.run(inputs)

    forward(module, inputs)
    model = nn.ModuleDict({"network": module, "stand_ins": stand_ins})
    leaves = {names[leaf]: rule for leaf, rule in tracer.leaves.items()}
    return Traced(model, inputs, forward, [*tracer.fenced, *stand_ins], tracer.divisors, leaves)


@dataclass
class _Tracer:
    """Runs a network with stand-ins; the first run finds them, later runs use the same."""

    module: nn.Module
    stand_ins: nn.ModuleList
    fenced: dict[nn.Module, None] = field(default_factory=dict)
    divisors: dict[nn.Module, int] = field(default_factory=dict)
    leaves: dict[nn.Module, Leaf] = field(default_factory=dict)
    makers: dict[Any, tuple[nn.Module, Tensor]] = field(default_factory=dict)
    """Node of the graph of gradients -> the layer that made it, and its result."""
    shadows: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Identity of a tensor that can have no gradients (a comparison) -> it, and what it has its channels from."""
    tried: dict[str, bool] = field(default_factory=dict)
    """Call of a function -> whether it keeps channels apart."""
    ends: list[Tensor] = field(default_factory=list)
    """Where the graph ends: the results of fenced layers."""
    inside: int = 0
    used: int = 0

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run the network, and return all the ends of its graph."""
        self.makers, self.shadows, self.ends, self.used = {}, {}, [], 0
        with ExitStack() as stack, torch.enable_grad():
            for layer in filter(is_plain, self.module.modules()):
                stack.callback(layer.register_forward_pre_hook(self.enter, with_kwargs=True).remove)
                stack.callback(layer.register_forward_hook(self.leave).remove)
            for leaf in find_leaves(self.module):
                stack.enter_context(_replace_forward(leaf, self.stand_in(leaf)))
            stack.enter_context(_Watch(self))
            result = self.module(*inputs)
        self.fence(*list_tensors(result))
        return self.ends

    def enter(self, layer: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        torch.set_grad_enabled(True)  # a layer under the user's own no_grad is one of the graph all the same
        self.inside += 1
        value = list_tensors([given, named])[0]
        if not self.is_traced(value):
            return
        last = value.dim() - 1
        if self.find_dim(value) != (last if isinstance(layer, CHANNELS_LAST) else 1):
            self.fence(value)
            self.fenced[layer] = None
        self.divide(value, count_parts(layer))

    def leave(self, layer: nn.Module, _: Any, result: Tensor) -> None:
        self.inside -= 1
        self.makers[result.grad_fn] = (layer, result)

    def find_makers(self, tensor: Tensor) -> list[tuple[nn.Module, Tensor]]:
        """Return the nearest layers that a tensor was computed from, and their results."""
        found, seen, stack = {}, set(), [self.shadows.get(id(tensor), (tensor, tensor))[1].grad_fn]
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

    def find_dim(self, *tensors: Tensor) -> int | None:
        """Return which dimension of these has the channels, None where they do not agree."""
        dims = {
            made.dim() - 1 if isinstance(layer, CHANNELS_LAST) else 1
            for tensor in tensors
            for layer, made in self.find_makers(tensor)
        }
        return dims.pop() if len(dims) == 1 else None

    def fence(self, *tensors: Tensor) -> None:
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
                self.fence(tensor)

    def stand_in(self, leaf: nn.Module) -> Callable[..., Any]:
        real = leaf.forward

        def forward(*arguments: Any, **named: Any) -> Any:
            if named or self.inside:
                return real(*arguments, **named)
            self.inside += 1
            try:
                if leaf not in self.leaves:
                    self.leaves[leaf] = try_leaf(real, arguments)
                rule = self.leaves[leaf]
                if rule.kind != "fixed":
                    return self.call_leaf(rule, real, arguments)
            finally:
                self.inside -= 1
            return real(*arguments)

        return forward

    def call_leaf(self, rule: Leaf, real: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        kept = [value for place, value in enumerate(arguments) if place in rule.places]
        self.fence(*list_tensors([value for place, value in enumerate(arguments) if place not in rule.places]))
        with torch.no_grad():
            result = real(*arguments)
        traced = [value for value in kept if self.is_traced(value)]
        if not traced:
            return result
        if len(traced) < len(kept) or self.find_dim(*traced) != 1 or {4} != {value.dim() for value in (*kept, result)}:
            self.fence(*traced)
            return result
        tied = traced[0]
        for value in traced[1:]:
            tied = tied + _resize(value, tied)
        return _resize(tied if rule.kind == "follows" else self.make_fixed(tied, result), result)

    def make_fixed(self, value: Tensor, like: Tensor) -> Tensor:
        """Return something computed from `value` with the fixed channels of `like`."""
        return self.use_stand_in(lambda: nn.Conv2d(value.shape[1], like.shape[1], 1), value)

    def name_fixed(self, value: Tensor) -> Tensor:
        """Return `value` as if a layer had made it, so that the graph knows how wide it is."""
        return self.use_stand_in(lambda: nn.Conv2d(value.shape[1], value.shape[1], 1), value)

    def use_stand_in(self, make: Callable[[], nn.Module], value: Tensor) -> Tensor:
        if self.used == len(self.stand_ins):
            self.stand_ins.append(make().to(value.device))
        layer = self.stand_ins[self.used]
        self.used += 1
        result = layer(value)
        self.makers[result.grad_fn] = (layer, result)
        return result

    def watch(self, function: Callable[..., Any], arguments: Sequence[Any], named: dict[str, Any]) -> Any:
        """Call one of torch's functions, or what stands in for it."""
        name = getattr(function, "__name__", "")
        traced = [] if self.inside else [each for each in list_tensors([arguments, named]) if self.is_traced(each)]
        if not traced:
            return function(*arguments, **named)
        if name == "detach":
            return arguments[0]
        with torch.enable_grad():
            if name in SAMPLINGS:
                return self.sample(function, arguments, named)
            if name in JOINS:
                return self.join(function, arguments, named)
            return self.call(function, arguments, named, traced)

    def call(
        self, function: Callable[..., Any], arguments: Sequence[Any], named: dict[str, Any], traced: Sequence[Tensor]
    ) -> Any:
        """Call a function; what does not keep channels apart, or is made for so many, fences what it is given.

        Masks of one channel that meet features are fenced too.
        """
        dim = self.find_dim(*traced)
        width = max(_get_side(tensor, dim) for tensor in traced)
        narrow = {id(tensor) for tensor in traced if _get_side(tensor, dim) < width}
        self.fence(*(tensor for tensor in traced if id(tensor) in narrow))
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
        if made and dim is not None and self.is_channelwise(function, (arguments, named), before, wide, dim):
            return map_tensors(result, lambda tensor: self.carry(tensor, wide, dim))
        self.fence(*wide)
        return map_tensors(result, Tensor.detach)

    def is_channelwise(
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
        key = repr((function, dim, map_tensors(given, _name_shape)))
        if key not in self.tried:
            self.tried[key] = keeps_channels(function, given, before, wide, dim)
        return self.tried[key]

    def carry(self, made: Tensor, sources: Sequence[Tensor], dim: int) -> Tensor:
        """Return `made`, which has the channels of `sources`, so that the graph knows."""
        shadowed = any(id(tensor) in self.shadows for tensor in sources)
        if made.grad_fn is not None and not shadowed:
            return made
        anchors = [self.shadows.get(id(tensor), (tensor, tensor))[1] for tensor in sources]
        if {made.dim()} != {tensor.dim() for tensor in anchors} or any(made is tensor for tensor in sources):
            self.fence(*sources)
            return made.detach()
        others = [place for place in range(made.dim()) if place != dim]
        anchor = torch.stack([tensor.mean(others, keepdim=True) for tensor in anchors]).sum(0) * 0
        if made.is_floating_point():
            return made + anchor
        self.shadows[id(made)] = (made, anchor)
        return made

    def sample(self, function: Callable[..., Any], arguments: Sequence[Any], named: dict[str, Any]) -> Any:
        names = ("input", "grid")
        features, grid = (arguments[i] if i < len(arguments) else named[name] for i, name in enumerate(names))
        self.fence(grid)
        with torch.no_grad():
            result = function(*arguments, **named)
        if not self.is_traced(features):
            return result
        if self.find_dim(features) != 1:
            self.fence(features)
            return result
        return _resize(features, result)

    def join(self, function: Callable[..., Any], arguments: Sequence[Any], named: dict[str, Any]) -> Any:
        """Concatenate; what has no layer gets one that stands in, so that the others are found in their places."""
        tensors = list(arguments[0] if arguments else named["tensors"])
        dim = arguments[1] if len(arguments) > 1 else named.get("dim", named.get("axis", 0))
        traced = [tensor for tensor in tensors if self.is_traced(tensor)]
        known = all(tensor.grad_fn is not None and not self.is_flat(tensor) for tensor in traced)
        named_well = len(traced) == len(tensors) or tensors[0].dim() == 4
        if not known or not named_well or self.find_dim(*traced) != 1 or dim % tensors[0].dim() != 1:
            self.fence(*traced)
            return map_tensors(function(*arguments, **named), Tensor.detach)
        return function([each if self.is_traced(each) else self.name_fixed(each) for each in tensors], dim=1)

    def is_flat(self, tensor: Tensor) -> bool:
        """Tell whether a tensor (N, C * H * W) has several numbers of each channel."""
        return tensor.dim() == 2 and any(
            made.dim() > 2 and made.shape[1] != tensor.shape[1] for _, made in self.find_makers(tensor)
        )


class _Watch(TorchFunctionMode):
    def __init__(self, tracer: _Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self.tracer.watch(func, args, kwargs or {})


@contextmanager
def _replace_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    module.forward = forward
    try:
        yield
    finally:
        del module.forward


def _resize(value: Tensor, like: Tensor) -> Tensor:
    """Return `value` with the height and width, and the batch, of `like`: its channels stay what they are."""
    if value.shape[2:] != like.shape[2:]:
        value = nn.functional.interpolate(value, size=like.shape[2:])
    if value.shape[0] != like.shape[0]:
        value = value[:1].expand(like.shape[0], *value.shape[1:])
    return value


def _name_shape(tensor: Tensor) -> Any:
    return tuple(tensor.shape)


def _get_side(tensor: Tensor, dim: int | None) -> int:
    return tensor.shape[dim] if dim is not None and tensor.dim() > dim else 0


def _is_flattened(traced: Sequence[Tensor], made: Sequence[Tensor]) -> bool:
    """Tell whether (N, C, H, W) became (N, C * H * W), which Torch-Pruning follows into a linear layer."""
    if len(traced) != 1 or len(made) != 1:
        return False
    before, after = traced[0], made[0]
    return after.dim() == 2 < before.dim() and after.shape == before.flatten(1).shape

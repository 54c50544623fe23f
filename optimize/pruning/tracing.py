"""A network as Torch-Pruning can read it: a graph in which channels stay channels.

Torch-Pruning reads the graph of gradients and takes what it does not know as elementwise: features that are sampled
at a flow's places would be tied to the two channels of the flow, and reshapes around a warp keep it busy for minutes.
So the network is run with stand-ins. A module without weights is replaced by something simple that ties channels
as it does (`leaves`). Sampling keeps its features alone. Whatever would lose track of channels ends the graph there,
and those layers that it got its numbers from are fenced: they keep all their channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .leaves import Leaf, find_leaves, try_leaf

if TYPE_CHECKING:
    from ..networks import Network

__all__ = ["Traced", "trace_network"]

LAYERS = (
    nn.modules.conv._ConvNd,
    nn.Linear,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.PReLU,
)
"""Torch-Pruning knows how to take channels from these."""

SAMPLINGS = frozenset({"grid_sample", "grid_sampler", "grid_sampler_2d", "grid_sampler_3d"})
JOINS = frozenset({"cat", "concat", "concatenate"})
PARTS = frozenset({"split", "chunk", "tensor_split", "split_with_sizes"})
LOSES_CHANNELS = frozenset(
    {
        "matmul",
        "__matmul__",
        "__rmatmul__",
        "bmm",
        "mm",
        "einsum",
        "baddbmm",
        "scaled_dot_product_attention",
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose2d",
        "linear",
        "bilinear",
        "transpose",
        "permute",
        "flip",
        "roll",
        "cumsum",
        "sort",
        "gather",
        "index_select",
        "stack",
        "cdist",
        "cross",
    }
)
"""Functions that may return as many channels as they were given, but others."""


@dataclass
class Traced:
    """What Torch-Pruning is given."""

    model: nn.Module
    """The network, and beside it the stand-ins that have weights."""
    inputs: tuple[Tensor, ...]
    forward: Callable[[nn.Module, Sequence[Tensor]], list[Tensor]]
    fenced: list[nn.Module]
    """These keep all their output channels."""
    leaves: dict[str, Leaf]
    """Name of a module without weights -> what it does to channels."""


def trace_network(network: Network, inputs: tuple[Tensor, ...]) -> Traced:
    """Run the network once to find what must be fenced, and return how to run it for Torch-Pruning.

    The layers that make the network's outputs are fenced, and those that make a grid, an attention map or a mask.
    """
    module = network.module
    frozen = _find_loose_parameters(module)
    stand_ins = nn.ModuleList()
    names = {leaf: name for name, leaf in module.named_modules()}
    tracer = _Tracer(module, stand_ins)

    def forward(model: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
        with _without_gradients(frozen):
            return tracer.run(inputs)

    forward(module, inputs)
    model = nn.ModuleDict({"network": module, "stand_ins": stand_ins})
    leaves = {names[leaf]: rule for leaf, rule in tracer.leaves.items()}
    return Traced(model, inputs, forward, [*tracer.fenced, *stand_ins], leaves)


def _find_loose_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that belong to no layer that Torch-Pruning knows."""
    owned = {id(entry) for layer in module.modules() if _is_plain(layer) for entry in layer.parameters()}
    return [entry for entry in module.parameters() if id(entry) not in owned]


def _is_plain(layer: nn.Module) -> bool:
    """Tell a known layer whose weight is a parameter, not one that is computed (spectral norm and the like)."""
    return isinstance(layer, LAYERS) and (getattr(layer, "weight", None) is None or "weight" in layer._parameters)


@contextmanager
def _without_gradients(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    for entry in parameters:
        entry.requires_grad_(False)
    try:
        yield
    finally:
        for entry in parameters:
            entry.requires_grad_(True)


@dataclass
class _Tracer:
    """Runs a network with stand-ins; the first run finds them, later runs use the same."""

    module: nn.Module
    stand_ins: nn.ModuleList
    fenced: dict[nn.Module, None] = field(default_factory=dict)
    leaves: dict[nn.Module, Leaf] = field(default_factory=dict)
    makers: dict[Any, tuple[nn.Module, Tensor]] = field(default_factory=dict)
    """Node of the graph of gradients -> the layer that made it, and its result."""
    ends: list[Tensor] = field(default_factory=list)
    """Where the graph ends: the results of fenced layers."""
    inside: int = 0
    used: int = 0

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run the network, and return all the ends of its graph."""
        self.makers, self.ends, self.used = {}, [], 0
        with ExitStack() as stack, torch.enable_grad():
            for layer in filter(_is_plain, self.module.modules()):
                stack.callback(layer.register_forward_pre_hook(self.enter).remove)
                stack.callback(layer.register_forward_hook(self.leave).remove)
            for leaf in find_leaves(self.module):
                stack.enter_context(_replace_forward(leaf, self.stand_in(leaf)))
            stack.enter_context(_Watch(self))
            result = self.module(*inputs)
        self.fence(*_list_tensors(result))
        return self.ends

    def enter(self, *_: Any) -> None:
        self.inside += 1

    def leave(self, layer: nn.Module, _: Any, result: Tensor) -> None:
        self.inside -= 1
        self.makers[result.grad_fn] = (layer, result)

    def find_makers(self, tensor: Tensor) -> list[tuple[nn.Module, Tensor]]:
        """Return the nearest layers that a tensor was computed from, and their results."""
        found, seen, stack = {}, set(), [tensor.grad_fn]
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
        return tensor.grad_fn is not None and bool(self.find_makers(tensor))

    def fence(self, *tensors: Tensor) -> None:
        """Let the layers that these were computed from keep their channels; the graph may end there."""
        for tensor in tensors:
            for layer, result in self.find_makers(tensor):
                self.fenced[layer] = None
                self.ends.append(result)

    def stand_in(self, leaf: nn.Module) -> Callable[..., Any]:
        real = leaf.forward

        def forward(*arguments: Any, **named: Any) -> Any:
            self.inside += 1
            try:
                return self.call_leaf(leaf, real, arguments, named)
            finally:
                self.inside -= 1

        return forward

    def call_leaf(self, leaf: nn.Module, real: Callable[..., Any], arguments: Sequence[Any], named: Any) -> Any:
        if leaf not in self.leaves:
            self.leaves[leaf] = Leaf("fixed") if named else try_leaf(real, arguments)
        rule = self.leaves[leaf]
        kept = [value for place, value in enumerate(arguments) if place in rule.places]
        rest = [value for place, value in enumerate(arguments) if place not in rule.places]
        self.fence(*_list_tensors([rest, named]))
        with torch.no_grad():
            result = real(*arguments, **named)
        traced = [value for value in kept if self.is_traced(value)]
        if not traced:
            return result
        tied = traced[0]
        for value in traced[1:]:
            tied = tied + _resize(value, tied)
        if len(traced) < len(kept):
            self.fence(*traced)
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
        if self.inside:
            return function(*arguments, **named)
        given = _list_tensors([arguments, named])
        traced = [tensor for tensor in given if self.is_traced(tensor)]
        if not traced:
            return function(*arguments, **named)
        if name == "detach":
            return arguments[0]
        if name in SAMPLINGS:
            return self.sample(function, arguments, named)
        if name in JOINS:
            return self.join(function, arguments, named)
        result = function(*arguments, **named)
        made = _list_tensors(result)
        if not made or _is_flattened(traced, made):
            return result
        if name in LOSES_CHANNELS or not self.keeps_channels(name, traced, made):
            self.fence(*traced)
            return _map_tensors(result, Tensor.detach)
        return self.mind_others(function, arguments, named, result)

    def keeps_channels(self, name: str, traced: Sequence[Tensor], made: Sequence[Tensor]) -> bool:
        if name in PARTS:
            return sum(part.shape[1] for part in made if part.dim() > 1) == traced[0].shape[1]
        width = max(tensor.shape[1] if tensor.dim() > 1 else 0 for tensor in traced)
        return all(
            tensor.dim() > 1 and tensor.shape[1] == width and tensor.dim() == max(t.dim() for t in traced)
            for tensor in made
        )

    def mind_others(
        self, function: Callable[..., Any], arguments: Sequence[Any], named: dict[str, Any], result: Any
    ) -> Any:
        """Fence what meets something of a fixed width, and masks of one channel that meet features."""
        made = _list_tensors(result)[0]
        given = _list_tensors([arguments, named])
        narrow = [tensor for tensor in given if self.is_traced(tensor) and tensor.shape[1] < made.shape[1]]
        if narrow and not function.__name__.startswith(tuple(PARTS)):
            self.fence(*narrow)
            ended = {id(tensor) for tensor in narrow}
            arguments, named = (
                _map_tensors(value, lambda tensor: tensor.detach() if id(tensor) in ended else tensor)
                for value in (list(arguments), named)
            )
            result = function(*arguments, **named)
        if any(not self.is_traced(tensor) and _is_fixed_beside(tensor, made) for tensor in given):
            self.fence(*(tensor for tensor in given if self.is_traced(tensor)))
        return result

    def sample(self, function: Callable[..., Any], arguments: Sequence[Any], named: dict[str, Any]) -> Any:
        names = ("input", "grid")
        features, grid = (arguments[i] if i < len(arguments) else named[name] for i, name in enumerate(names))
        self.fence(grid)
        with torch.no_grad():
            result = function(*arguments, **named)
        return _resize(features, result) if self.is_traced(features) else result

    def join(self, function: Callable[..., Any], arguments: Sequence[Any], named: dict[str, Any]) -> Any:
        """Concatenate; what has no layer gets one that stands in, so that the others are found in their places."""
        tensors = list(arguments[0] if arguments else named["tensors"])
        dim = arguments[1] if len(arguments) > 1 else named.get("dim", named.get("axis", 0))
        if dim % tensors[0].dim() != 1:
            self.fence(*tensors)
            return _map_tensors(function(*arguments, **named), Tensor.detach)
        whole = [
            tensor if self.is_traced(tensor) or tensor.dim() != 4 else self.name_fixed(tensor) for tensor in tensors
        ]
        return function(whole, dim=1)


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


def _is_flattened(traced: Sequence[Tensor], made: Sequence[Tensor]) -> bool:
    """Tell whether (N, C, H, W) became (N, C * H * W), which Torch-Pruning follows into a linear layer."""
    if len(traced) != 1 or len(made) != 1:
        return False
    before, after = traced[0], made[0]
    return after.dim() == 2 < before.dim() and after.shape == before.flatten(1).shape


def _is_fixed_beside(tensor: Tensor, made: Tensor) -> bool:
    """Tell whether a tensor that no layer made has channels of its own where it meets `made`."""
    place = tensor.dim() - (made.dim() - 1)
    return (place >= 0 and tensor.shape[place] > 1) or (tensor.dim() == 1 and tensor.shape[0] == made.shape[1])


def _list_tensors(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists, dicts and dataclasses."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if hasattr(value, "__dataclass_fields__"):
        value = list(vars(value).values())
    if isinstance(value, list | tuple):
        return [tensor for entry in value for tensor in _list_tensors(entry)]
    return []


def _map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _map_tensors(entry, change) for key, entry in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_map_tensors(entry, change) for entry in value))
    if isinstance(value, list | tuple):
        return cast(Any, type(value))(_map_tensors(entry, change) for entry in value)
    return value

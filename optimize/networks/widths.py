"""The widths of a pruned network: which tensors are smaller than its factory makes them, kept in its configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import NetworkError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .registry import Network

__all__ = ["PRUNED", "find_pruned", "list_shapes", "narrow_network", "resize_module"]

PRUNED = "pruned"
"""The entry of a network's configuration: name in the state dict -> shape, where that is not the factory's."""

Shapes = Mapping[str, Sequence[int]]


def list_shapes(module: nn.Module) -> dict[str, list[int]]:
    """Return the shape of every tensor of the state dict."""
    return {name: list(tensor.shape) for name, tensor in module.state_dict().items()}


def find_pruned(module: nn.Module, full: Shapes) -> dict[str, list[int]]:
    """Return the shapes of `module` that are not those of the unpruned network, `full`."""
    return {name: shape for name, shape in list_shapes(module).items() if list(full[name]) != shape}


def narrow_network(network: Network, shapes: Shapes) -> Network:
    """Return a freshly built network with its tensors cut to `shapes`, which its configuration keeps; in place.

    Raises NetworkError as `resize_module` does, and where the shapes contradict each other: the network is run on
    small inputs, and must make what it makes unpruned, (N, C, H, W).
    """
    module = network.module.eval()
    inputs = _make_inputs(network)
    expected = _list_output_shapes(module, inputs, "the network does not run")
    resize_module(module, shapes)
    made = _list_output_shapes(module, inputs, "the pruned shapes contradict each other: the network does not run")
    if made != expected:
        raise NetworkError(f"with the pruned shapes the outputs are {made} and not {expected}; prune the network again")
    return replace(network, config={**network.config, PRUNED: shapes})


def _make_inputs(network: Network) -> tuple[Tensor, ...]:
    """Return small inputs, two pixels wide at the coarsest level, or the network's own where it runs on no other."""
    import torch

    def make(height: int, width: int) -> tuple[Tensor, ...]:
        return tuple(torch.zeros(1, spec.channels, height, width) for spec in network.inputs)

    side = 2 * network.multiple_of
    small = make(side, side)
    with suppress(NetworkError):
        _list_output_shapes(network.module, small, "")
        return small
    return make(*network.size)


def _list_output_shapes(module: nn.Module, inputs: tuple[Tensor, ...], problem: str) -> list[list[int]]:
    """Run the network and return the shapes of what it makes; raises NetworkError that begins with `problem`."""
    import torch

    from ..nested import list_tensors

    try:
        with torch.no_grad():
            return [list(tensor.shape) for tensor in list_tensors(module(*inputs))]
    except Exception as error:  # the user's own code, which may raise anything
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise NetworkError(f"{problem} ({reason}); prune the network again") from error


def resize_module(module: nn.Module, shapes: Shapes) -> None:
    """Cut the tensors of a freshly built network to `shapes`, in place; the layers know their new widths.

    Raises NetworkError for names that the network does not have, and for shapes that are no smaller ones: `shapes`
    come from files, and may be anything.
    """
    full = list_shapes(module)
    if not isinstance(shapes, Mapping):
        raise NetworkError(f"the pruned shapes are no shapes but {shapes!r:.60}; prune the network again")
    for name, shape in shapes.items():
        if name not in full or not _is_part(shape, full[name]):
            raise NetworkError(
                f"the pruned shape {shape!r:.60} of {name!r:.60} does not fit the network, which has "
                f"{full.get(name, 'no such tensor')}; was the network's code changed since it was pruned?"
            )
    for name, shape in shapes.items():
        owner, _, entry = name.rpartition(".")
        _cut(module.get_submodule(owner), entry, shape)
    for owner in {name.rpartition(".")[0] for name in shapes}:
        _tell_widths(module.get_submodule(owner))


def _is_part(shape: object, full: Sequence[int]) -> bool:
    if not isinstance(shape, list | tuple) or not full or len(shape) != len(full):
        return False
    return all(type(side) is int and 0 < side <= whole for side, whole in zip(shape, full, strict=True))


def _cut(layer: nn.Module, entry: str, shape: Sequence[int]) -> None:
    import torch

    part = tuple(slice(side) for side in shape)
    if entry in layer._parameters:
        whole = layer.get_parameter(entry)
        setattr(layer, entry, torch.nn.Parameter(whole.detach()[part].clone(), whole.requires_grad))
    else:
        setattr(layer, entry, layer.get_buffer(entry)[part].clone())


def _tell_widths(layer: nn.Module) -> None:
    """Set the widths that a layer keeps beside its tensors, from those."""
    from torch import nn

    if isinstance(layer, nn.modules.conv._ConvNd):
        first, second = layer.weight.shape[:2]
        if layer.groups == layer.in_channels == layer.out_channels:
            layer.groups = first
        inside, outside = (first, second * layer.groups) if layer.transposed else (second * layer.groups, first)
        layer.in_channels, layer.out_channels = inside, outside
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.modules.batchnorm._NormBase):
        layer.num_features = next(tensor for tensor in layer.state_dict().values() if tensor.dim()).shape[0]
    elif isinstance(layer, nn.GroupNorm):
        layer.num_channels = layer.weight.shape[0]
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = tuple(layer.weight.shape)
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = layer.weight.shape[0]

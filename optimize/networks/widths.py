"""The widths of a pruned network: which tensors are smaller than its factory makes them, kept in its configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import NetworkError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["PRUNED", "find_pruned", "list_shapes", "resize_module"]

PRUNED = "pruned"
"""The entry of a network's configuration: name in the state dict -> shape, where that is not the factory's."""

Shapes = Mapping[str, Sequence[int]]


def list_shapes(module: nn.Module) -> dict[str, list[int]]:
    """Return the shape of every tensor of the state dict."""
    return {name: list(tensor.shape) for name, tensor in module.state_dict().items()}


def find_pruned(module: nn.Module, full: Shapes) -> dict[str, list[int]]:
    """Return the shapes of `module` that are not those of the unpruned network, `full`."""
    return {name: shape for name, shape in list_shapes(module).items() if list(full[name]) != shape}


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

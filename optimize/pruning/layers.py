"""The layers that Torch-Pruning takes channels from rightly, and where those channels are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["CHANNELS_LAST", "count_parts", "gradients_of", "is_plain", "list_known_parameters"]

LAYERS = (
    nn.modules.conv._ConvNd,
    nn.Linear,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.PReLU,
)
"""Torch-Pruning knows how to take channels from these."""

CHANNELS_LAST = (nn.Linear, nn.LayerNorm)
"""Of these the channels are the last dimension, of all others the second."""


def list_known_parameters(module: nn.Module) -> set[int]:
    """Return the ids of the parameters that belong to layers that Torch-Pruning knows."""
    return {id(entry) for layer in module.modules() if is_plain(layer) for entry in layer.parameters()}


def is_plain(layer: nn.Module) -> bool:
    """Tell a layer whose channels Torch-Pruning removes rightly.

    Its weight must be a parameter, not one that is computed (spectral norm and the like).
    """
    if not isinstance(layer, LAYERS) or not (layer.weight is None or "weight" in layer._parameters):
        return False
    if isinstance(layer, nn.modules.conv._ConvNd) and layer.groups > 1:
        sides = {layer.in_channels, layer.out_channels}
        return sides == {layer.groups} or not (layer.transposed or layer.groups in sides)
    if isinstance(layer, nn.modules.instancenorm._InstanceNorm):
        return layer.running_mean is None
    return not isinstance(layer, nn.LayerNorm) or len(layer.normalized_shape) == 1


def count_parts(layer: nn.Module) -> int:
    """Return into how many equal parts a layer divides the channels that it is given."""
    if isinstance(layer, nn.modules.conv._ConvNd) and layer.groups < layer.in_channels:
        return layer.groups
    return layer.num_groups if isinstance(layer, nn.GroupNorm) else 1


@contextmanager
def gradients_of(module: nn.Module, known: set[int]) -> Iterator[None]:
    """Let these parameters of the module alone have gradients, for the graph that Torch-Pruning reads."""
    before = {entry: entry.requires_grad for entry in module.parameters()}
    for entry in before:
        entry.requires_grad_(id(entry) in known)
    try:
        yield
    finally:
        for entry, asked in before.items():
            entry.requires_grad_(asked)

"""What the layers of a network compute, counted while it runs for its shapes alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["count_macs", "run_shapes"]

QUICK_PIXELS = 64 * 64
"""Pictures of so many pixels are computed faster than torch finds the shapes without."""


def count_macs(module: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, int]:
    """Return the multiply-adds of one run by convolution and linear layer, biases and warps left out."""
    counted: dict[str, int] = defaultdict(int)
    handles = []

    def watch(name: str) -> Callable[..., None]:
        def add(layer: Any, given: tuple[Tensor, ...], made: Tensor) -> None:
            # Every weight meets each place of the result once; that of a transposed convolution, of its input.
            places = given[0] if getattr(layer, "transposed", False) else made
            channels = places.shape[-1] if isinstance(layer, nn.Linear) else places.shape[1]
            counted[name] += layer.weight.numel() * places.numel() // channels

        return add

    handles.append(module.register_forward_pre_hook(lambda *_: counted.clear()))  # it may be run twice for its shapes
    for name, layer in module.named_modules():
        if isinstance(layer, nn.modules.conv._ConvNd | nn.Linear):
            handles.append(layer.register_forward_hook(watch(name)))
    try:
        run_shapes(module, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return dict(counted)


def run_shapes(module: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    """Run the network for the shapes alone, on numbers where that takes less time or it runs on nothing else."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with torch.no_grad():
        if max(given.shape[-2:].numel() for given in inputs) > QUICK_PIXELS:
            with suppress(Exception), FakeTensorMode(allow_non_fake_inputs=True):  # it may ask for a number
                return module(*inputs)
        return module(*inputs)

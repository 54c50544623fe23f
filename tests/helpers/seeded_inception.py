"""Inception weights drawn from a seed, in both layouts that the published ones come in."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from vtopt.benchmarks.fid.inception import SIDE, Inception

__all__ = ["draw_weights", "save_state_dict", "save_torchscript"]


def draw_weights(seed: int = 0) -> dict[str, Tensor]:
    """Return random weights under which values neither grow nor shrink through the layers."""
    draws = torch.Generator().manual_seed(seed)
    weights = Inception().state_dict()
    for name, tensor in weights.items():
        if name.endswith(("conv.weight", "fc.weight")):
            tensor.normal_(std=(2 / tensor[0].numel()) ** 0.5, generator=draws)
        elif name.endswith(("running_mean", "bias")):
            tensor.normal_(std=0.1, generator=draws)
        elif name.endswith(("running_var", "bn.weight")):
            tensor.uniform_(0.8, 1.2, generator=draws)
    return weights


def save_state_dict(weights: dict[str, Tensor], path: Path) -> Path:
    """Save them as the .pth is: without counters of batches, which old versions of torch had not."""
    torch.save({name: tensor for name, tensor in weights.items() if "num_batches" not in name}, path)
    return path


class _Program(nn.Module):
    """Resizes and scales in its own way, then runs `layers`, as the published program does."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, img: Tensor, return_features: bool = False) -> Tensor:
        resized = nn.functional.interpolate(img.float(), [299, 299], mode="nearest")
        features = self.layers((resized - 128) / 128).reshape(-1, 2048)
        return features if return_features else features.softmax(1)


def save_torchscript(weights: dict[str, Tensor], path: Path) -> Path:
    """Save them as TorchScript whose `layers` give (N, 2048, 1, 1)."""
    network = Inception()
    network.load_state_dict(weights)
    layers = nn.Sequential(network.eval(), nn.Unflatten(1, (2048, 1, 1)))
    with torch.no_grad():
        traced = torch.jit.trace(layers, torch.zeros(1, 3, SIDE, SIDE), check_trace=False)
    torch.jit.script(_Program(traced)).save(path)
    return path

"""LPIPS: how different two pictures look, by the features of a trained network, where its weights are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...optimize.errors import InputError
from ...optimize.weights import load_weights, require_finite

__all__ = ["Lpips", "load_lpips", "measure_lpips"]

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of pictures in [-1, 1], as the weights were trained."""
EPSILON = 1e-10
SMALLEST_SIDE = 32
PREFIX = "features."

Layers = Sequence[tuple[int, ...] | None]
"""Convolutions as (width, kernel, stride, padding), each with a ReLU, and None for a pooling."""

_ALEX: Layers = ((64, 11, 4, 2), None, (192, 5, 1, 2), None, (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
_VGG_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


@dataclass(frozen=True)
class Trunk:
    """The layers of a network up to the last that is compared, as torchvision numbers its `features`."""

    layers: Layers
    pool: int
    """Side of a pooling, which halves."""
    taken: tuple[int, ...]
    """Which ReLUs are compared, by their places."""
    widths: tuple[int, ...]
    """Of these."""


TRUNKS: Mapping[str, Trunk] = {
    "alex": Trunk(_ALEX, 3, (1, 4, 7, 9, 11), (64, 192, 384, 256, 256)),
    "vgg": Trunk(
        [
            layer
            for index, block in enumerate(_VGG_WIDTHS)
            for layer in [*([None] if index else []), *((width, 3, 1, 1) for width in block)]
        ],
        2,
        (3, 8, 15, 22, 29),
        (64, 128, 256, 512, 512),
    ),
}


@dataclass(frozen=True)
class Lpips:
    """A network with its weights, frozen."""

    name: str
    """alex or vgg; numbers of one do not compare with those of the other."""
    trunk: nn.Sequential
    weights: tuple[Tensor, ...]
    """Of the channels of each compared layer, (C,)."""


def load_lpips(trunk: Path, linear: Path) -> Lpips:
    """Return LPIPS with the weights of two files, neither of which is run.

    `trunk` is torchvision's alexnet or vgg16 (a state_dict), `linear` the learned weights v0.1 for that network,
    alex.pth or vgg.pth, of https://github.com/richzhang/PerceptualSimilarity. Raises InputError when they are not.
    """
    given = {name.removeprefix(PREFIX): tensor for name, tensor in _read(trunk).items()}
    linears = _read(linear)
    for name, kind in TRUNKS.items():
        network = _build_trunk(kind)
        expected = network.state_dict()
        if any(tuple(given[key].shape) != tuple(expected[key].shape) for key in expected if key in given):
            continue
        if missing := [key for key in expected if key not in given]:
            raise InputError(f"{trunk}: is not torchvision's alexnet or vgg16: {PREFIX}{missing[0]} is missing")
        network.load_state_dict({key: given[key].float() for key in expected})
        return Lpips(name, network.eval().requires_grad_(False), _take_linears(linears, kind, name, linear))
    raise InputError(f"{trunk}: is not torchvision's alexnet or vgg16; save the state_dict of one of these")


def measure_lpips(network: Lpips, picture: np.ndarray, reference: np.ndarray) -> float:
    """Return how different two pictures (3, H, W) in [-1, 1] look: 0 for equal ones, seldom above 1.

    Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018
    (https://arxiv.org/abs/1801.03924). Infinite where a picture holds NaN or infinite values. Raises InputError for
    pictures of different shapes, or with a side under 32 pixels.
    """
    if picture.shape != reference.shape or picture.ndim != 3:
        raise InputError(
            f"pictures of shapes {picture.shape} and {reference.shape} cannot be compared; "
            "make both with the same size, (3, H, W)"
        )
    if min(picture.shape[1:]) < SMALLEST_SIDE:
        raise InputError(f"pictures of shape {picture.shape} are too small for LPIPS; make them 32 or more wide")
    if not (np.isfinite(picture).all() and np.isfinite(reference).all()):
        return float("inf")
    with torch.inference_mode():
        features = torch.from_numpy(np.stack([picture, reference]).astype(np.float32))
        shift, scale = (features.new_tensor(values).view(1, 3, 1, 1) for values in (SHIFT, SCALE))
        features = (features - shift) / scale
        total, weights = 0.0, iter(network.weights)
        for index, layer in enumerate(network.trunk):
            features = layer(features)
            if index in TRUNKS[network.name].taken:
                directions = features / (features.norm(dim=1, keepdim=True) + EPSILON)
                difference = (directions[0] - directions[1]).square()
                total += float(torch.einsum("chw,c->hw", difference, next(weights)).mean())
    return total


def _read(path: Path) -> dict[str, Tensor]:
    weights, _ = load_weights(path)
    require_finite(weights, path)
    return weights


def _build_trunk(kind: Trunk) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for layer in kind.layers:
        if layer is None:
            layers.append(nn.MaxPool2d(kind.pool, stride=2))
            continue
        width, kernel, stride, padding = layer
        layers += [nn.Conv2d(channels, width, kernel, stride, padding), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers)


def _take_linears(weights: Mapping[str, Tensor], kind: Trunk, name: str, path: Path) -> tuple[Tensor, ...]:
    taken = []
    for index, width in enumerate(kind.widths):
        key = f"lin{index}.model.1.weight"
        found = list(weights[key].shape) if key in weights else "missing"
        if found != [1, width, 1, 1]:
            raise InputError(
                f"{path}: is not the LPIPS weights of {name}: {key} is {found}, not {[1, width, 1, 1]}; "
                f"take lpips/weights/v0.1/{name}.pth"
            )
        taken.append(weights[key].float().flatten())
    return tuple(taken)

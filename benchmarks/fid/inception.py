"""The Inception v3 of FID: pooled features of its last layer, names and shapes as in the published weights.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016
(https://arxiv.org/abs/1512.00567), as it was released on 2015-12-05, with 1008 classes. Heusel et al., "GANs Trained
by a Two Time-Scale Update Rule", NeurIPS 2017 (https://arxiv.org/abs/1706.08500), measure FID on it. It differs from
later releases: its average pooling does not count padding, and its last block pools by the maximum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["FEATURES", "SIDE", "Inception"]

SIDE = 299
"""Height and width of the pictures it takes, in pixels."""
FEATURES = 2048
CLASSES = 1008
NORM_EPSILON = 1e-3


class Conv(NamedTuple):
    """A convolution without bias, then batch norm, then ReLU; `valid` ones are not padded."""

    name: str
    width: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    valid: bool = False


Step = tuple[Conv, ...] | Callable[[Tensor], Tensor]
"""Convolutions side by side, or a pooling."""
Branch = tuple[Step, ...]

ROW, COLUMN = (1, 7), (7, 1)


def _average(features: Tensor) -> Tensor:
    return F.avg_pool2d(features, 3, stride=1, padding=1, count_include_pad=False)


def _take_peaks(features: Tensor) -> Tensor:
    return F.max_pool2d(features, 3, stride=1, padding=1)


def _halve(features: Tensor) -> Tensor:
    return F.max_pool2d(features, 3, stride=2)


def _chain(name: str, *convs: tuple[object, ...]) -> Branch:
    """Convolutions one after the other, numbered from 1; a single one has the name alone."""
    names = [name] if len(convs) == 1 else [f"{name}_{index}" for index in range(1, len(convs) + 1)]
    return tuple((Conv(each, *conv),) for each, conv in zip(names, convs, strict=True))  # type: ignore[arg-type]


def _pool(pool: Callable[[Tensor], Tensor], width: int) -> Branch:
    return (pool, *_chain("branch_pool", (width,)))


def _spread(name: str, width: int) -> Step:
    """A row and a column of three, side by side."""
    return Conv(f"{name}a", width, (1, 3)), Conv(f"{name}b", width, (3, 1))


def _mix_small(pooled: int) -> tuple[Branch, ...]:
    return (
        _chain("branch1x1", (64,)),
        _chain("branch5x5", (48,), (64, 5)),
        _chain("branch3x3dbl", (64,), (96, 3), (96, 3)),
        _pool(_average, pooled),
    )


def _mix_factored(inner: int) -> tuple[Branch, ...]:
    return (
        _chain("branch1x1", (192,)),
        _chain("branch7x7", (inner,), (inner, ROW), (192, COLUMN)),
        _chain("branch7x7dbl", (inner,), (inner, COLUMN), (inner, ROW), (inner, COLUMN), (192, ROW)),
        _pool(_average, 192),
    )


def _mix_spread(pool: Callable[[Tensor], Tensor]) -> tuple[Branch, ...]:
    return (
        _chain("branch1x1", (320,)),
        ((Conv("branch3x3_1", 384),), _spread("branch3x3_2", 384)),
        (*_chain("branch3x3dbl", (448,), (384, 3)), _spread("branch3x3dbl_3", 384)),
        _pool(pool, 192),
    )


STEM: Branch = (
    (Conv("Conv2d_1a_3x3", 32, 3, 2, valid=True),),
    (Conv("Conv2d_2a_3x3", 32, 3, valid=True),),
    (Conv("Conv2d_2b_3x3", 64, 3),),
    _halve,
    (Conv("Conv2d_3b_1x1", 80),),
    (Conv("Conv2d_4a_3x3", 192, 3, valid=True),),
    _halve,
)
BLOCKS: Mapping[str, tuple[Branch, ...]] = {
    "Mixed_5b": _mix_small(32),
    "Mixed_5c": _mix_small(64),
    "Mixed_5d": _mix_small(64),
    "Mixed_6a": (
        _chain("branch3x3", (384, 3, 2, True)),
        _chain("branch3x3dbl", (64,), (96, 3), (96, 3, 2, True)),
        (_halve,),
    ),
    "Mixed_6b": _mix_factored(128),
    "Mixed_6c": _mix_factored(160),
    "Mixed_6d": _mix_factored(160),
    "Mixed_6e": _mix_factored(192),
    "Mixed_7a": (
        _chain("branch3x3", (192,), (320, 3, 2, True)),
        _chain("branch7x7x3", (192,), (192, ROW), (192, COLUMN), (192, 3, 2, True)),
        (_halve,),
    ),
    "Mixed_7b": _mix_spread(_average),
    "Mixed_7c": _mix_spread(_take_peaks),
}
"""Name -> branches, whose outputs are joined in this order."""


class Inception(nn.Module):
    """Returns features (N, 2048) of pictures (N, 3, 299, 299) in [-1, 1]; the classifier `fc` is not run."""

    def __init__(self) -> None:
        super().__init__()
        width = _add_convs(self, STEM, 3)
        for name, branches in BLOCKS.items():
            block = InceptionBlock(width, branches)
            self.add_module(name, block)
            width = block.width
        self.fc = nn.Linear(width, CLASSES)

    def forward(self, pictures: Tensor) -> Tensor:
        features = _follow(self, STEM, pictures)
        for name in BLOCKS:
            features = self.get_submodule(name)(features)
        return features.mean(dim=(2, 3))


class InceptionBlock(nn.Module):
    """Joins the channels of its branches."""

    def __init__(self, channels: int, branches: tuple[Branch, ...]) -> None:
        super().__init__()
        self.branches = branches
        self.width = sum(_add_convs(self, branch, channels) for branch in branches)

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([_follow(self, branch, features) for branch in self.branches], dim=1)


class NormalizedConv(nn.Module):
    def __init__(self, channels: int, conv: Conv) -> None:
        super().__init__()
        height, width = conv.kernel if isinstance(conv.kernel, tuple) else (conv.kernel, conv.kernel)
        padding = (0, 0) if conv.valid else (height // 2, width // 2)
        self.conv = nn.Conv2d(channels, conv.width, (height, width), conv.stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(conv.width, eps=NORM_EPSILON)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(features)))


def _add_convs(module: nn.Module, branch: Branch, channels: int) -> int:
    """Give a module the convolutions of a branch; return how many channels leave it."""
    for step in branch:
        if isinstance(step, tuple):
            for conv in step:
                module.add_module(conv.name, NormalizedConv(channels, conv))
            channels = sum(conv.width for conv in step)
    return channels


def _follow(module: nn.Module, branch: Branch, features: Tensor) -> Tensor:
    for step in branch:
        if isinstance(step, tuple):
            features = torch.cat([module.get_submodule(conv.name)(features) for conv in step], dim=1)
        else:
            features = step(features)
    return features

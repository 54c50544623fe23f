"""The pieces of the completion networks: residual blocks of spectrally normalised convolutions, and attention."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.spectral_norm import SpectralNorm, spectral_norm

__all__ = ["Attention", "Block", "FirstBlock", "GrowingBlock", "make_conv", "make_head", "normalize_spectrum"]

LEAKY_SLOPE = 0.1
POWER_ITERATIONS = 15
"""How often the singular vectors of fresh weights are improved; training goes on with once per step."""

Layer = TypeVar("Layer", nn.Conv2d, nn.ConvTranspose2d)


def normalize_spectrum(layer: Layer) -> Layer:
    """Give a layer spectral norm, with singular vectors that fit its first weights.

    Those that torch begins with are random, and an untrained network divides by next to nothing. The state dict has
    `weight_orig`, `weight_u` and `weight_v`; the matrix has a row for each first index of the weight.
    """
    normalized = spectral_norm(layer, n_power_iterations=POWER_ITERATIONS, dim=0)
    hook = next(hook for hook in normalized._forward_pre_hooks.values() if isinstance(hook, SpectralNorm))
    if not layer.weight.is_meta:
        with torch.no_grad():
            hook(normalized, ())
    hook.n_power_iterations = 1
    return normalized


def make_conv(in_channels: int, out_channels: int, kernel: int = 3) -> nn.Conv2d:
    """Make a convolution of stride 1 that keeps height and width, without bias."""
    return normalize_spectrum(nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False))


def _make_growing_conv(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    conv = nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1, bias=False)
    return normalize_spectrum(conv)


def make_head(in_channels: int, out_channels: int) -> nn.Sequential:
    """Make what turns features into an output that no activation has bent yet."""
    return nn.Sequential(nn.LeakyReLU(LEAKY_SLOPE), make_conv(in_channels, out_channels))


class Block(nn.Module):
    """Residual block; with `halve` the result has half the height and width."""

    def __init__(self, in_channels: int, out_channels: int, hidden: int, *, halve: bool = False) -> None:
        super().__init__()
        self.conv1 = make_conv(in_channels, hidden)
        self.conv2 = make_conv(hidden, out_channels)
        self.bypass = make_conv(in_channels, out_channels, 1)
        self.halve = halve

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.leaky_relu(x, LEAKY_SLOPE))
        y = self.conv2(F.leaky_relu(y, LEAKY_SLOPE)) + self.bypass(x)
        return F.avg_pool2d(y, 2) if self.halve else y


class FirstBlock(nn.Module):
    """Residual block that halves height and width of what is no features yet, so that nothing bends it first."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = make_conv(in_channels, out_channels)
        self.conv2 = make_conv(out_channels, out_channels)
        self.bypass = make_conv(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.leaky_relu(self.conv1(x), LEAKY_SLOPE))
        return F.avg_pool2d(y, 2) + self.bypass(F.avg_pool2d(x, 2))


class GrowingBlock(nn.Module):
    """Residual block with instance norms that doubles height and width."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = nn.InstanceNorm2d(in_channels, affine=True)
        self.conv1 = make_conv(in_channels, out_channels)
        self.norm2 = nn.InstanceNorm2d(out_channels, affine=True)
        self.conv2 = _make_growing_conv(out_channels, out_channels)
        self.bypass = _make_growing_conv(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.leaky_relu(self.norm1(x), LEAKY_SLOPE))
        return self.conv2(F.leaky_relu(self.norm2(y), LEAKY_SLOPE)) + self.bypass(x)


class _Gather(nn.Module):
    """Give every place the mean of all places, weighted by how alike their queries are; a module for itself, so that
    pruning can see that it keeps the channels of `values` apart."""

    def forward(self, query: Tensor, values: Tensor) -> Tensor:
        tokens = query.flatten(2)
        weights = (tokens.transpose(1, 2) @ tokens).softmax(-1)
        return (values.flatten(2) @ weights.transpose(1, 2)).unflatten(2, values.shape[2:])


class _Blend(nn.Module):
    """Take one of two in the hole, and the other around it."""

    def forward(self, inside: Tensor, around: Tensor, hole: Tensor) -> Tensor:
        return hole * inside + (1 - hole) * around


class Attention(nn.Module):
    """Attention of features to themselves, and with the same weights to an encoder's, around the hole.

    Method: the short and long term attention of Zheng et al., "Pluralistic Image Completion", CVPR 2019
    (https://arxiv.org/abs/1903.04227). The shares of what is gathered begin at 0 and are learnt.
    """

    def __init__(self, channels: int, encoder_channels: int = 0) -> None:
        super().__init__()
        self.query = make_conv(channels, channels // 4, 1)
        self.gather = _Gather()
        self.blend = _Blend()
        self.own_share = nn.Parameter(torch.zeros(1))
        if encoder_channels:
            self.encoder_share = nn.Parameter(torch.zeros(1))
        self.merge = Block(channels + (encoder_channels or channels), channels, channels)

    def forward(self, x: Tensor, encoded: Tensor | None = None, hole: Tensor | None = None) -> Tensor:
        """Return features like `x` (N, C, H, W); `encoded` has its height and width, `hole` (N, 1, H, W) is 1 in it.

        Without `encoded`, as in a discriminator, what was gathered is merged with `x` itself.
        """
        query = self.query(x)
        gathered = x + self.own_share * self.gather(query, x)
        if encoded is None or hole is None:
            return self.merge(torch.cat([gathered, x], 1))
        context = self.blend(self.encoder_share * self.gather(query, encoded), encoded, hole)
        return self.merge(torch.cat([gathered, context], 1))

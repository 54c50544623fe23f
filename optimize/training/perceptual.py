"""How different two pictures look: by the features of VGG19, or, without its weights, by their Laplacian pyramids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..weights import load_weights, require_finite

__all__ = ["build_vgg19", "compare_features", "compare_pyramids", "load_vgg19", "make_perceptual_loss"]

BLOCKS = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512,))
"""Widths of VGG19's convolutions up to conv5_1; a halving stands between blocks."""
FEATURES = {1: 1 / 32, 6: 1 / 16, 11: 1 / 8, 20: 1 / 4, 29: 1.0}
"""Layer of relu1_1, relu2_1, ... relu5_1 -> its weight."""
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pictures in 0..1, by which VGG19's inputs are scaled."""
PREFIX = "features."

PYRAMID_LEVELS = 5
BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)

Compare = Callable[[Tensor, Tensor], Tensor]


def make_perceptual_loss(vgg: Path | None, device: torch.device | str = "cpu") -> Compare:
    """Return a function of two pictures (N, 3, H, W) in [-1, 1] that measures how different they look, a scalar.

    `vgg` is a file of torchvision's VGG19 weights, for `compare_features`. Without one the substitute is
    `compare_pyramids`.
    """
    if vgg is None:
        return compare_pyramids
    network = load_vgg19(vgg).to(device)
    return lambda picture, truth: compare_features(network, picture, truth)


def build_vgg19() -> nn.Sequential:
    """Return VGG19's layers up to relu5_1, numbered as in torchvision's `vgg19().features`, with random weights.

    Simonyan and Zisserman, "Very Deep Convolutional Networks", ICLR 2015 (https://arxiv.org/abs/1409.1556).
    """
    layers: list[nn.Module] = []
    channels = 3
    for block in BLOCKS:
        layers += [nn.MaxPool2d(2)] if layers else []
        for width in block:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return nn.Sequential(*layers)


def load_vgg19(path: Path) -> nn.Sequential:
    """Return VGG19's layers up to relu5_1 with the weights of a file, frozen, in evaluation mode.

    The file is a state_dict of torchvision's `vgg19` or of its `features`, a .pth read without pickle or a
    .safetensors; what lies behind relu5_1 is not needed. Raises InputError when it is not that.
    """
    weights, _ = load_weights(path)
    require_finite(weights, path)
    named = {name.removeprefix(PREFIX): tensor.float() for name, tensor in weights.items()}
    network = build_vgg19().eval().requires_grad_(False)
    expected = network.state_dict()
    for name, tensor in expected.items():
        found = list(named[name].shape) if name in named else "missing"
        if found != list(tensor.shape):
            raise InputError(
                f"{path}: is not torchvision's vgg19: {PREFIX}{name} is {found}, not {list(tensor.shape)}; "
                "save torchvision.models.vgg19(weights='DEFAULT').state_dict()"
            )
    network.load_state_dict({name: named[name] for name in expected})
    return network


def compare_features(vgg: nn.Sequential, picture: Tensor, truth: Tensor) -> Tensor:
    """Return the weighted mean absolute differences between VGG19's features of two pictures, a scalar.

    Johnson et al., "Perceptual Losses for Real-Time Style Transfer", ECCV 2016 (https://arxiv.org/abs/1603.08155),
    with the layers and weights of Wang et al., "High-Resolution Image Synthesis", CVPR 2018
    (https://arxiv.org/abs/1711.11585). Layers that a picture is too small for, below 16 pixels for the last, are
    left out.
    """
    made, wanted = _standardize(picture), _standardize(truth.detach())
    total = picture.new_zeros(())
    for index, layer in enumerate(vgg):
        if isinstance(layer, nn.MaxPool2d) and min(made.shape[2:]) < 2:
            break
        made, wanted = layer(made), layer(wanted)
        if index in FEATURES:
            total = total + FEATURES[index] * (made - wanted).abs().mean()
    return total


def _standardize(picture: Tensor) -> Tensor:
    mean, deviation = (picture.new_tensor(values).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
    return (picture / 2 + 0.5 - mean) / deviation


def compare_pyramids(picture: Tensor, truth: Tensor) -> Tensor:
    """Return the sum over levels of the mean absolute difference between two Laplacian pyramids, a scalar.

    Lap1 of Bojanowski et al., "Optimizing the Latent Space of Generative Networks", ICML 2018
    (https://arxiv.org/abs/1707.05776): its weight 4 ** level and the level's number of pixels cancel out. Five levels
    at most, the last one being what is left; pictures below four pixels are not halved further.
    """
    left = picture - truth.detach()  # a pyramid is linear
    total = picture.new_zeros(())
    for _ in range(PYRAMID_LEVELS - 1):
        if min(left.shape[2:]) < 4:
            break
        low = _blur(left)[:, :, ::2, ::2]
        band = left - F.interpolate(low, size=left.shape[2:], mode="bilinear", align_corners=False)
        total = total + band.abs().mean()
        left = low
    return total + left.abs().mean()


def _blur(picture: Tensor) -> Tensor:
    channels = picture.shape[1]
    row = picture.new_tensor(BINOMIAL)
    kernel = torch.outer(row, row).expand(channels, 1, 5, 5)
    return F.conv2d(F.pad(picture, (2, 2, 2, 2), mode="replicate"), kernel, groups=channels)

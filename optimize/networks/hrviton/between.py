"""Between HR-VITON's two networks: from scores of 13 classes and a warped garment to what the image generator takes.

Method and constants: Lee et al., "High-Resolution Virtual Try-On with Misalignment and Occlusion-Handled Conditions",
ECCV 2022 (https://arxiv.org/abs/2206.14180), and its published test code.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["blur", "group_classes", "mask_upper", "remove_overlap"]

UPPER = 3
"""The class of the garment that is changed."""

COVERING = (1, 2, *range(5, 13))
"""Classes that hide the garment where they are: all but the background, the garment itself and what is worn below."""

GROUPS = (0, 3, 1, 2, 1, 4, 5, 1, 1, 1, 1, 1, 6)
"""Class of the condition generator -> class of the image generator, to which all that is kept as it is is one.

background 0, hair 1, face 2, upper 3, bottom 4, left arm 5, right arm 6, left leg 7, right leg 8, left shoe 9, right
shoe 10, socks 11, noise 12 -> background 0, kept 1, upper 2, hair 3, left arm 4, right arm 5, noise 6
"""

BLUR_SIDE = 15
BLUR_SIGMA = 3.0


def mask_upper(scores: Tensor, mask: Tensor) -> Tensor:
    """Multiply the garment's scores, of (N, 13, H, W), by the warped mask (N, 1, H, W): no garment where none came."""
    return torch.cat([scores[:, :UPPER], scores[:, UPPER : UPPER + 1] * mask, scores[:, UPPER + 1 :]], 1)


def blur(x: Tensor) -> Tensor:
    """Blur each channel of (N, C, H, W) by a Gaussian of 15x15 pixels, sigma 3, along one side and then the other."""
    channels, reach = x.shape[1], BLUR_SIDE // 2
    places = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    weights = torch.exp(-(places**2) / (2 * BLUR_SIGMA**2))
    kernel = (weights / weights.sum()).expand(channels, 1, 1, BLUR_SIDE)
    x = F.conv2d(x, kernel, padding=(0, reach), groups=channels)
    return F.conv2d(x, kernel.transpose(2, 3), padding=(reach, 0), groups=channels)


def group_classes(scores: Tensor) -> Tensor:
    """Return each pixel's likeliest class, of scores (N, 13, H, W), as the image generator has it.

    The result is (N, 7, H, W) of 0 and 1; of equal scores the first wins.
    """
    groups = torch.tensor(GROUPS, device=scores.device)[scores.argmax(1, keepdim=True)]
    numbers = torch.arange(max(GROUPS) + 1, device=scores.device).view(1, -1, 1, 1)
    return torch.where(groups == numbers, 1.0, 0.0)


def remove_overlap(mask: Tensor, scores: Tensor) -> Tensor:
    """Take from the garment's mask (N, 1, H, W) what hair, face, arms and the like, of (N, 13, H, W), cover of it."""
    shares = scores.softmax(1)
    covered = sum(shares[:, number : number + 1] for number in COVERING)
    return mask * (1 - covered)

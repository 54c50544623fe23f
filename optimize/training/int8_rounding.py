"""The arithmetic of int8 files in float32, with gradients: what onnxruntime will round is rounded while training.

Rounding passes gradients on as if it were not there (straight-through: Bengio et al., arXiv:1308.3432, 2013). The ends
of a range learn from what they cut off and from the rounding within, as the steps of Esser et al., "Learned Step Size
Quantization", ICLR 2020 (arXiv:1902.08153), with its scale of gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Int8Conv2d", "RoundedTensor", "find_ends", "round_weight"]

LEVELS = 255
RATE = 10
"""How much faster than weights ranges learn, by our choice. What learns is their logarithm, as in Jain et al., "Trained
Quantization Thresholds", MLSys 2020 (arXiv:1903.08066)."""
SMALLEST_STEP = 1e-35
"""As in the files: below it float32 runs out."""


class RoundedTensor(nn.Module):
    """Round a tensor to 8 bits over a range that learns: of its calibrated ends, by which factor each moved.

    A factor keeps an end's sign, keeps at zero what begins there, and moves alike whatever the range is. `growth` (2,)
    is the logarithm of both, over `RATE`; weight decay draws it to the calibrated range.
    """

    calibrated: Tensor
    adam_epsilon = 1e-12
    """Gradients are divided by the root of 255 times the numbers rounded: many are below 1e-8, which is Adam's own."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.register_buffer("calibrated", torch.tensor([low, high]))
        self.growth = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` rounded, float32, of its shape."""
        return _Round.apply(x.float(), *find_ends(self.calibrated, self.growth))


def find_ends(calibrated: Tensor, growth: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ends (), () of a range that has grown."""
    low, high = (calibrated * (RATE * growth).exp()).unbind()
    return low, high


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        # In float64, as the files' steps and zeros are computed.
        width = high.double() - low.double()
        step = torch.where(width > 0, width / LEVELS, torch.ones_like(width))
        zero = (-low.double() / step).round().clamp(0, LEVELS)
        scale = step.float()
        rounded = torch.fake_quantize_per_tensor_affine(x, scale, zero.int(), 0, LEVELS)
        ctx.save_for_backward(x, rounded, scale, zero.float())
        return rounded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (gradient,) = gradients
        x, rounded, scale, zero = ctx.saved_tensors
        below, above = x < -zero * scale, x > (LEVELS - zero) * scale
        inside = gradient.masked_fill(below | above, 0)
        share = (x.numel() * LEVELS) ** -0.5
        within = (inside * (rounded - x)).sum() / (scale * LEVELS)
        low, high = (gradient * below).sum() - within, (gradient * above).sum() + within
        return inside, low * share, high * share


def round_weight(weight: Tensor, limit: int) -> Tensor:
    """Return weights (O, ...) rounded to `limit` steps either side of zero, as the largest of each channel O sets them.

    A batch-norm that is folded into the weights multiplies whole channels, and with them their steps: it commutes with
    this rounding.
    """
    weight = weight.float()
    steps = weight.detach().abs().flatten(1).amax(1) / limit
    steps = torch.where(steps > SMALLEST_STEP, steps, torch.ones_like(steps))
    return torch.fake_quantize_per_channel_affine(weight, steps, torch.zeros_like(steps).int(), 0, -limit, limit)


class Int8Conv2d(nn.Conv2d):
    """A convolution that reads rounded numbers and rounded weights; `prepare_int8_training` makes them of others."""

    int8_input: RoundedTensor
    int8_output: RoundedTensor
    """Rounds what the convolution makes, or the batch-norm behind it that files fold into it."""
    int8_limit: int
    """How many steps weights have either side of zero."""

    def forward(self, input: Tensor) -> Tensor:
        # Not in bfloat16, whatever the rest is in: its eight digits would round what is rounded to eight already.
        with torch.autocast(input.device.type, enabled=False):
            return self._conv_forward(self.int8_input(input), round_weight(self.weight, self.int8_limit), self.bias)

"""One correlation layer as a model of its own, in every form it can be written, and numbers to feed it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

import numpy as np

from ...optimize.rewrites.sites import Runtime
from .form_group import parse_sides
from .network_forms import Variant

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DEFAULT_CASES", "SHIPPED", "SLICES", "Case", "draw_feeds", "list_forms", "parse_case", "write_forms"]

DEFAULT_CASES = ("256x8x6", "256x16x12", "256x32x24", "256x64x48", "256x128x96")
"""Channels, height and width of PF-AFN's five levels, for pictures of 256x192."""

SLICES = "slices"
"""The plain form: one shifted copy, one product and one mean for each shift."""
SHIPPED = "tiles"
"""The form in which `Correlation` computes."""

RADIUS = 3
OPSET = 17
SEED = 0

RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)


class Case(NamedTuple):
    """Two feature maps (1, C, H, W)."""

    channels: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width}"


def parse_case(text: str) -> Case:
    """Read CHANNELSxHEIGHTxWIDTH; raises UsageError for anything else."""
    return Case(*parse_sides(text, "correlation", DEFAULT_CASES[2]))


def draw_feeds(case: Case) -> dict[str, np.ndarray]:
    """Draw two feature maps from a fixed seed."""
    generator = np.random.default_rng(SEED)
    return {name: generator.standard_normal((1, *case), np.float32) for name in ("first", "second")}


def list_forms() -> Mapping[str, Callable[[Tensor, Tensor, int], Tensor]]:
    """Return the forms by their names: functions of two feature maps and a radius, all with one result."""
    from ...optimize.networks.correlation import correlate, correlate_slices

    return {SLICES: correlate_slices, "im2col": correlate_columns, "banded": correlate_bands, SHIPPED: correlate}


def correlate_columns(first: Tensor, second: Tensor, radius: int) -> Tensor:
    """Lay the surroundings of every pixel side by side (im2col), multiply them by the pixel, and take the mean."""
    from torch.nn import functional as F

    count, channels, height, width = first.shape
    side = 2 * radius + 1
    around = F.unfold(second, side, padding=radius).reshape(count, channels, side * side, height, width)
    return (first.unsqueeze(2) * around).mean(1)


def correlate_bands(first: Tensor, second: Tensor, radius: int) -> Tensor:
    """Multiply every row of pixels by the rows that a shift leads to, as matrices, and pick the band of its shifts."""
    import torch
    from torch.nn import functional as F

    count, channels, height, width = first.shape
    side = 2 * radius + 1
    band = torch.arange(width).view(-1, 1) * (width + side) + torch.arange(side)
    places = band.flatten().to(first.device, torch.int32)
    rows = first.permute(0, 2, 3, 1)
    shifted = F.pad(second, (radius,) * 4).permute(0, 2, 1, 3)
    bands = []
    for dy in range(side):
        products = (rows @ shifted[:, dy : dy + height]).flatten(2)
        bands.append(products.index_select(2, places).reshape(count, height, width, side))
    return torch.cat(bands, 3).permute(0, 3, 1, 2) / channels


def write_forms(case: Case, folder: Path, forms: tuple[str, ...] = ()) -> list[Variant]:
    """Export these forms, by default all, alike: each by TorchScript to a file of its own, for every runtime."""
    import onnx
    from torch import nn

    from ...optimize.networks import InputSpec, Network
    from .plain_warp import trace_plainly

    class Form(nn.Module):
        def __init__(self, correlate: Callable[[Tensor, Tensor, int], Tensor]) -> None:
            super().__init__()
            self.correlate = correlate

        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            return self.correlate(first, second, RADIUS)

    inputs = (InputSpec("first", case.channels), InputSpec("second", case.channels))
    known = list_forms()
    names = forms or tuple(known)
    for name in names:
        network = Network(module=Form(known[name]), inputs=inputs, outputs=("volume",), name=f"correlation as {name}")
        onnx.save(trace_plainly(network, (case.height, case.width), opset=OPSET), folder / f"{name}.onnx")
    return [Variant(name, runtime, folder / f"{name}.onnx") for runtime in RUNTIMES for name in names]

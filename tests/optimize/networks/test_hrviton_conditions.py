"""HR-VITON's condition generator: flow, warp and segmentation as published."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vtopt.optimize.networks import build_network, warping
from vtopt.optimize.networks.hrviton import conditions
from vtopt.optimize.networks.hrviton.conditions import ConditionGenerator, resize_flow, warp_by_flow

SMALL = {"width": 3}
SIZE = (64, 96)
TOLERANCE = 1e-4
"""Largest difference of two formulations, of the output's largest value."""


def _build() -> ConditionGenerator:
    """A small condition generator whose flows are some pixels long."""
    torch.manual_seed(0)
    module = build_network("hrviton_tocg", SMALL).module
    assert isinstance(module, ConditionGenerator)
    for layer in module.flow_conv:
        nn.init.normal_(layer.weight, std=0.3)  # type: ignore[arg-type]
    return module


def _draw_inputs() -> list[Tensor]:
    random = torch.Generator().manual_seed(1)
    coarse = (torch.rand(2, channels, 8, 12, generator=random) * 2 - 1 for channels in (4, 16))
    return [F.interpolate(x, size=SIZE, mode="bilinear", align_corners=True) for x in coarse]


# The method, plainly.


def _grow(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear")


def _warp(features: Tensor, flow: Tensor) -> Tensor:
    """Sample along a flow (N, h, w, 2) of half the size; a pixel of it is 2 / (side - 1) of the picture."""
    height, width = features.shape[2:]
    grown = _grow(flow.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    x = torch.linspace(-1, 1, width).view(1, 1, width) + grown[..., 0] / ((width / 2 - 1) / 2)
    y = torch.linspace(-1, 1, height).view(1, height, 1) + grown[..., 1] / ((height / 2 - 1) / 2)
    return F.grid_sample(features, torch.stack([x, y], 3), padding_mode="border", align_corners=False)


def _run_plainly(net: ConditionGenerator, garment: Tensor, person: Tensor) -> tuple[Tensor, ...]:
    garments, persons = [garment], [person]
    for one, other in zip(net.ClothEncoder, net.PoseEncoder, strict=True):
        garments.append(one(garments[-1]))
        persons.append(other(persons[-1]))
    flow = net.flow_conv[0](torch.cat([garments[5], persons[5]], 1)).permute(0, 2, 3, 1)
    pyramid, x = garments[5], _decode(net, 0, net.conv(persons[5]))
    for level in range(1, 5):
        pyramid = _grow(pyramid) + net.conv1[4 - level](garments[5 - level])
        warped = _warp(pyramid, flow)
        change = net.flow_conv[level](torch.cat([warped, net.bottleneck[level - 1](x)], 1))
        flow = _grow(flow.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) + change.permute(0, 2, 3, 1)
        x = _decode(net, level, torch.cat([x, persons[5 - level], warped], 1))
    warped = _warp(garment, flow)
    return warped[:, :3], warped[:, 3:], net.out_layer(torch.cat([x, person, warped], 1)), flow


def _decode(net: ConditionGenerator, level: int, x: Tensor) -> Tensor:
    block: Any = net.SegDecoder[level]
    scaled = block.scale[0](_grow(x))
    return (scaled + block.block(scaled)).relu()


def _compare_formulations() -> float:
    net, inputs = _build(), _draw_inputs()
    with torch.no_grad():
        pairs = zip(net(*inputs), _run_plainly(net, *inputs), strict=True)
        return max(float((made - plain).abs().max() / plain.abs().max()) for made, plain in pairs)


def test_forward_equals_the_plain_formulation() -> None:
    assert _compare_formulations() <= TOLERANCE


@pytest.mark.parametrize(
    ("module", "name", "mistake"),
    [
        pytest.param(
            conditions,
            "resize_flow",
            lambda flow, size: F.interpolate(flow, size=size, mode="bilinear"),
            id="pixels of another size",
        ),
        pytest.param(
            conditions, "offsets_to_grids", lambda x: warping.offsets_to_grids(x.flip(1)), id="x and y swapped"
        ),
        pytest.param(conditions, "_double", lambda x: F.interpolate(x, scale_factor=2.0), id="doubled by repetition"),
    ],
)
def test_a_mistake_would_differ(module: Any, name: str, mistake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, name, mistake)
    assert _compare_formulations() > 10 * TOLERANCE


def test_flows_are_some_pixels_long() -> None:
    with torch.no_grad():
        assert float(_build().estimate(*_draw_inputs()).flow.abs().max()) > 2


def test_outputs_are_named_and_the_first_is_a_picture() -> None:
    network = build_network("hrviton_tocg", SMALL)
    with torch.no_grad():
        shapes = {
            name: tuple(made.shape[1:])
            for name, made in zip(network.outputs, network.module(*_draw_inputs()), strict=True)
        }
    assert shapes == {
        "warped_cloth": (3, *SIZE),
        "warped_mask": (1, *SIZE),
        "segmentation": (13, *SIZE),
        "flow": (SIZE[0] // 2, SIZE[1] // 2, 2),
    }
    assert next(iter(shapes)) == "warped_cloth"


@pytest.mark.parametrize("size", [(16, 24), (33, 65)], ids=["twice the size", "another ratio"])
def test_a_flow_of_one_pixel_is_one_pixel_of_its_own_size(size: tuple[int, int]) -> None:
    flow = torch.ones(1, 2, 8, 12)
    resized = resize_flow(flow, size)
    assert resized.shape == (1, 2, *size)
    torch.testing.assert_close(resized[0, 0], torch.full(size, (size[1] - 1) / 11))
    torch.testing.assert_close(resized[0, 1], torch.full(size, (size[0] - 1) / 7))


def test_no_flow_moves_the_middle_nowhere() -> None:
    picture = torch.rand(1, 3, 33, 65)
    warped = warp_by_flow(picture, torch.zeros(1, 2, 8, 12))
    torch.testing.assert_close(warped[..., 16, 32], picture[..., 16, 32])

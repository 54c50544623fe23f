"""SDAFN and SDAFN_plus: the published names and shapes, and the published method.

The method is written here a second time, plainly and from the formulas, and must give the same pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from published import check_names_and_shapes, needs_upstream, read_manifest
from torch import Tensor, nn
from torch.nn import functional as F

from vtopt.optimize.networks import build_network, sdafn, warping
from vtopt.optimize.networks.sdafn import Flows, Sdafn

PUBLISHED = ["sdafn", "sdafn_plus_3", "sdafn_plus_4", "sdafn_plus_5"]
SMALL = {
    "pyramid_widths": (6, 8, 10),
    "pyramid_dim": 12,
    "heads": 3,
    "mfe_filters": (8, 6, 4),
    "shallow_hidden": 6,
    "shallow_dim": 8,
}
"""Widths that differ from each other, so that no two can be confused."""

TOLERANCE = 1e-4
"""Largest difference of two formulations, of the picture's largest value."""


# The method, plainly.


def _sample(features: Tensor, grids: Tensor) -> Tensor:
    places = grids.permute(0, 2, 3, 1)
    return F.grid_sample(features, places, mode="bilinear", padding_mode="border", align_corners=False)


def _add_offsets(offsets: Tensor) -> Tensor:
    """Pixel coordinates plus offsets, brought from 0..size-1 to -1..1."""
    height, width = offsets.shape[2:]
    x = torch.arange(width, dtype=offsets.dtype).view(1, 1, width) + offsets[:, 0::2].flatten(0, 1)
    y = torch.arange(height, dtype=offsets.dtype).view(1, height, 1) + offsets[:, 1::2].flatten(0, 1)
    return torch.stack([x / ((width - 1) / 2) - 1, y / ((height - 1) / 2) - 1], 1)


def _warp(features: Tensor, grids: Tensor, attention: Tensor) -> Tensor:
    heads, channels = attention.shape[1], features.shape[1]
    copies = features.repeat_interleave(heads, 0)
    weighted = _sample(copies, grids) * attention.flatten(0, 1).unsqueeze(1).repeat(1, channels, 1, 1)
    return torch.stack([group.sum(0) for group in weighted.split(heads)])


def _estimate(head: nn.Module, one: Tensor, other: Tensor, parts: int) -> tuple[Tensor, ...]:
    """Offsets, `parts` - 1 times, and attention; all of equal heads."""
    estimate = head(torch.cat([one, other], 1))
    heads = estimate.shape[1] // (3 * (parts - 1))
    *offsets, logits = estimate.split([2 * heads] * (parts - 1) + [heads * (parts - 1)], 1)
    return (*offsets, logits.exp() / logits.exp().sum(1, keepdim=True))


def _run_plainly(net: Sdafn, ref_input: Tensor, source_image: Tensor, ref_image: Tensor) -> Tensor:
    reference_levels = net.reference_FPN(net.reference_features(ref_input))
    source_levels = net.source_FPN(net.source_features(source_image))
    flow = net.dafnet
    before: tuple[Tensor, ...] | None = None
    for level, (source, reference) in enumerate(zip(source_levels, reference_levels, strict=True)):
        into_source, into_reference = source, reference
        if before is not None:
            cross, own, cross_attention, own_attention = before
            into_source, into_reference = (
                _warp(source, cross, cross_attention),
                _warp(reference, own, own_attention),
            )
        offsets, attention = _estimate(flow.Cross_MFEs[level], into_source, reference, 2)
        new_cross = _add_offsets(offsets)
        new_cross = new_cross if before is None else _sample(before[0], new_cross)
        into_source = _warp(source, new_cross, attention)

        offsets, attention = _estimate(flow.Self_MFEs[level], into_source, into_reference, 2)
        new_own = _add_offsets(offsets)
        new_own = new_own if before is None else _sample(before[1], new_own)
        into_reference = _warp(reference, new_own, attention)

        refine_cross, refine_own, attention = _estimate(flow.Refine_MFEs[level], into_source, into_reference, 3)
        new_cross = _sample(new_cross, _add_offsets(refine_cross))
        new_own = _sample(new_own, _add_offsets(refine_own))
        own_attention, cross_attention = attention.chunk(2, 1)
        grown = (new_cross, new_own, cross_attention, own_attention)
        before = tuple(F.interpolate(x, size=(2 * x.shape[2], 2 * x.shape[3]), mode="bilinear") for x in grown)
    assert before is not None
    cross, own, cross_attention, own_attention = before
    garment = _warp(flow.lights_encoder(source_image), cross, cross_attention)
    person = _warp(flow.lights_encoder(ref_image), own, own_attention)
    return flow.lights_decoder(garment + person)


def _build(name: str, config: Mapping[str, Any], strength: float) -> tuple[Any, list[int]]:
    """A network with torch's first weights; `strength` scales the last layer of the flow heads."""
    torch.manual_seed(0)
    network = build_network(name, config)
    for head in (m for m in network.module.modules() if isinstance(m, sdafn._FlowHead)):
        last: Any = head.layers[-1]
        last.weight.data *= strength
        last.bias.data *= strength
    return network.module, [spec.channels for spec in network.inputs]


def _draw_inputs(channels: list[int], size: tuple[int, int], batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    coarse = (torch.rand(batch, c, size[0] // 8, size[1] // 8, generator=generator) * 2 - 1 for c in channels)
    return [F.interpolate(x, size=size, mode="bilinear", align_corners=True) for x in coarse]


def _compare_formulations(net: Sdafn, inputs: list[Tensor]) -> float:
    plain_inputs = inputs if len(inputs) == 3 else [inputs[0], inputs[1], inputs[0]]
    with torch.no_grad():
        picture, plain = net(*inputs), _run_plainly(net, *plain_inputs)
    assert picture.shape == plain.shape == inputs[1].shape
    return float((picture - plain).abs().max() / plain.abs().max())


def _measure_flows(flows: Flows) -> float:
    """The longest way, in pixels, from a pixel to where its heads look."""
    height, width = flows.cross_grids.shape[2:]
    away = flows.cross_grids - F.affine_grid(torch.eye(2, 3)[None], [1, 1, height, width], False).permute(0, 3, 1, 2)
    return float((away.abs() * torch.tensor([width / 2, height / 2]).view(1, 2, 1, 1)).max())


@pytest.mark.parametrize("size", [(128, 96), (64, 80)], ids=["128x96", "64x80"])
@pytest.mark.parametrize("strength", [1.0, 8.0], ids=["torch's first weights", "flows of several pixels"])
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("sdafn", SMALL),
        ("sdafn_plus_3", SMALL),
        ("sdafn_plus_4", SMALL | {"pyramid_widths": (6, 8, 10, 12), "heads": 1}),
        ("sdafn_plus_tiny", {}),
    ],
)
def test_forward_equals_the_plain_formulation(
    name: str, config: dict[str, Any], strength: float, size: tuple[int, int]
) -> None:
    net, channels = _build(name, config, strength)
    assert _compare_formulations(net, _draw_inputs(channels, size)) <= TOLERANCE


def test_strong_heads_make_flows_of_several_pixels() -> None:
    net, channels = _build("sdafn_plus_3", SMALL, 8.0)
    with torch.no_grad():
        flows = net.estimate_flows(*_draw_inputs(channels, (128, 96)))[-1]
    assert _measure_flows(flows) > 4


def test_full_size_forward_equals_the_plain_formulation() -> None:
    net, channels = _build("sdafn_plus_3", {}, 8.0)
    assert _compare_formulations(net, _draw_inputs(channels, (128, 96), batch=1)) <= TOLERANCE


def test_levels_end_with_the_picture_at_full_size() -> None:
    net, channels = _build("sdafn", SMALL, 1.0)
    inputs = _draw_inputs(channels, (64, 48))
    with torch.no_grad():
        levels = net.forward_levels(*inputs)
        assert torch.equal(levels[-1][0], net(*inputs))
    sizes = [tuple(picture.shape[2:]) for picture, _ in levels]
    assert sizes == [(64 // shrink, 48 // shrink) for shrink in (4, 2, 1)]
    for picture, flows in levels:
        assert flows.cross_grids.shape == (2 * SMALL["heads"], 2, *picture.shape[2:])
        total = (flows.cross_attention + flows.self_attention).sum(1)
        torch.testing.assert_close(total, torch.ones_like(total), atol=1e-5, rtol=0)


def test_the_first_level_gets_gradients_from_its_own_warps_only() -> None:
    net, channels = _build("sdafn_plus_3", SMALL, 1.0)
    net(*_draw_inputs(channels, (32, 24))).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_sizes_are_multiples_of_two_to_the_levels(levels: int) -> None:
    network = build_network("sdafn_plus_3", SMALL | {"pyramid_widths": (4,) * levels})
    assert network.multiple_of == 2**levels


# Against the public network.


@needs_upstream
@pytest.mark.parametrize("name", PUBLISHED)
def test_names_and_shapes_are_the_published_ones(name: str) -> None:
    manifest = read_manifest(name)
    network = build_network(name)
    check_names_and_shapes(network)
    assert [spec.name for spec in network.inputs] == list(manifest["inputs"])
    assert [spec.channels for spec in network.inputs] == [shape[1] for shape in manifest["inputs"].values()]
    assert network.outputs == tuple(manifest["outputs"])


def _sample_as(padding: str, corners: bool) -> Callable[..., Tensor]:
    def sample(features: Tensor, grids: Tensor, heads: int = 1) -> Tensor:
        points = grids.permute(0, 2, 3, 1).reshape(-1, heads * grids.shape[2], grids.shape[3], 2)
        return F.grid_sample(features, points, mode="bilinear", padding_mode=padding, align_corners=corners)

    return sample


def _swap_x_and_y(offsets: Tensor) -> Tensor:
    return warping.offsets_to_grids(offsets.unflatten(1, (-1, 2)).flip(2).flatten(1, 2))


def _divide_by_size(offsets: Tensor) -> Tensor:
    height, width = offsets.shape[2:]
    scale = torch.tensor([(width - 1) / width, (height - 1) / height]).repeat(offsets.shape[1] // 2)
    return warping.offsets_to_grids(offsets * scale.view(1, -1, 1, 1))


def _swap_attention(cross_grids: Tensor, self_grids: Tensor, cross_attention: Tensor, self_attention: Tensor) -> Flows:
    return Flows(cross_grids, self_grids, self_attention, cross_attention)


def _compose_backwards(before: Tensor | None, grids: Tensor) -> Tensor:
    return grids if before is None else warping.compose_grids(grids, before)


MISTAKES: list[Any] = [
    pytest.param(sdafn, "Flows", _swap_attention, id="attentions swapped"),
    pytest.param(sdafn, "offsets_to_grids", _swap_x_and_y, id="x and y swapped"),
    pytest.param(sdafn, "offsets_to_grids", _divide_by_size, id="offsets scaled by 2 / size"),
    pytest.param(sdafn, "compose_grids", lambda before, grids: grids, id="flows not composed"),
    pytest.param(sdafn, "compose_grids", _compose_backwards, id="flows composed the other way round"),
    pytest.param(warping, "sample_features", _sample_as("border", True), id="align_corners True"),
    pytest.param(warping, "sample_features", _sample_as("zeros", False), id="zeros outside"),
    pytest.param(
        sdafn, "_double", lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest"), id="doubled by repetition"
    ),
]


@pytest.mark.parametrize(("module", "function", "mistake"), MISTAKES)
def test_a_mistake_would_differ_from_the_plain_formulation(
    module: Any, function: str, mistake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, function, mistake)
    net, channels = _build("sdafn_plus_3", SMALL, 8.0)
    assert _compare_formulations(net, _draw_inputs(channels, (64, 80))) > 10 * TOLERANCE


def test_teacher_is_sdafn_fed_with_pose_and_agnostic_person() -> None:
    teacher, published = build_network("sdafn_tiny"), build_network("sdafn")
    assert [spec.fed_by for spec in teacher.inputs] == ["pose+agnostic", "clothes", "agnostic"]
    assert [(spec.name, spec.channels) for spec in teacher.inputs] == [
        (spec.name, spec.channels) for spec in published.inputs
    ]
    assert teacher.module.state_dict().keys() < published.module.state_dict().keys()  # a pyramid level fewer


def test_teacher_has_the_widths_of_its_student() -> None:
    teacher, student = build_network("sdafn_tiny"), build_network("sdafn_plus_tiny")
    assert {**teacher.config, "reference_channels": 3} == dict(student.config)


def test_teacher_makes_a_picture_at_every_level() -> None:
    teacher = build_network("sdafn_tiny", {"pyramid_widths": (4, 6), "pyramid_dim": 8})
    fed = [torch.zeros(1, spec.channels, 16, 12) for spec in teacher.inputs]
    levels = teacher.module.forward_levels(*fed)
    assert [tuple(picture.shape) for picture, _ in levels] == [(1, 3, 8, 6), (1, 3, 16, 12)]
    torch.testing.assert_close(levels[-1][0], teacher.module(*fed))

"""The warp equals the published formulation, in values and gradients, and copies no features."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vtopt.optimize.networks.warping import (
    DeformableAttentionWarp,
    compose_grids,
    offsets_to_grids,
    sample_features,
)

TOLERANCE = {"atol": 1e-12, "rtol": 0.0}
"""For float64: both sides do the same arithmetic in another order."""

BATCH, CHANNELS, HEIGHT, WIDTH = 2, 3, 7, 10


def _draw(*shape: int, seed: int = 0, spread: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64) * spread


def _sample_published(features: Tensor, places: Tensor) -> Tensor:
    return F.grid_sample(features, places, mode="bilinear", padding_mode="border", align_corners=False)


def _warp_published(features: Tensor, grids: Tensor, attention: Tensor) -> Tensor:
    heads = attention.shape[1]
    copies = features.repeat_interleave(heads, 0)
    sampled = _sample_published(copies, grids.permute(0, 2, 3, 1))
    return (sampled.unflatten(0, (-1, heads)) * attention.unsqueeze(2)).sum(1)


@pytest.mark.parametrize("heads", [1, 2, 6])
def test_warp_equals_copies_of_the_features_in_values_and_gradients(heads: int) -> None:
    inputs = (
        _draw(BATCH, CHANNELS, HEIGHT, WIDTH),
        _draw(BATCH * heads, 2, HEIGHT, WIDTH, seed=1, spread=0.7),
        _draw(BATCH, heads, HEIGHT, WIDTH, seed=2).softmax(1),
    )
    weights = _draw(BATCH, CHANNELS, HEIGHT, WIDTH, seed=3)
    results = []
    for warp in (DeformableAttentionWarp(), _warp_published):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        output = warp(*leaves)
        (output * weights).sum().backward()
        results.append([output, *(leaf.grad for leaf in leaves)])
    for ours, published in zip(*results, strict=True):
        torch.testing.assert_close(ours, published, **TOLERANCE)


def test_warp_samples_at_another_size_than_the_features() -> None:
    features, grids = _draw(BATCH, CHANNELS, HEIGHT, WIDTH), _draw(BATCH * 2, 2, 4, 5, seed=1)
    attention = _draw(BATCH, 2, 4, 5, seed=2)
    output = DeformableAttentionWarp()(features, grids, attention)
    torch.testing.assert_close(output, _warp_published(features, grids, attention), **TOLERANCE)


def test_warp_pairs_each_head_with_its_own_attention() -> None:
    features = _draw(1, 1, HEIGHT, WIDTH)
    grids = torch.stack([torch.full((2, 1, 1), -1.0), torch.full((2, 1, 1), 1.0)]).double()
    attention = torch.tensor([0.25, 0.75], dtype=torch.float64).view(1, 2, 1, 1)
    expected = 0.25 * features[0, 0, 0, 0] + 0.75 * features[0, 0, -1, -1]
    torch.testing.assert_close(DeformableAttentionWarp()(features, grids, attention).squeeze(), expected, **TOLERANCE)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_no_copy_of_the_features_is_in_the_graph() -> None:
    inputs = (_draw(1, CHANNELS, HEIGHT, WIDTH), _draw(6, 2, HEIGHT, WIDTH), _draw(1, 6, HEIGHT, WIDTH))
    graph = torch.jit.trace(DeformableAttentionWarp(), inputs, check_trace=False).inlined_graph
    kinds = [node.kind() for node in graph.nodes()]
    assert kinds.count("aten::grid_sampler") == 1
    assert {"aten::repeat_interleave", "aten::repeat", "aten::index_select", "aten::tile"}.isdisjoint(kinds)


def _list_places(size: int) -> list[float]:
    """Places along one side: inside, on pixel centres, exactly at the borders, and outside."""
    edge, centre = 1.0, 1 - 1 / size
    inside = [-0.9 * centre, -0.37, 0.0, 0.5, 1 / size]
    return [*inside, -centre, centre, -edge, edge, -1.5, 1.5, -1e4, 1e4]


@pytest.mark.parametrize("outside", ["border", "zeros"])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("height", "width"), [(HEIGHT, WIDTH), (8, 8), (1, 5), (3, 1)])
def test_sample_features_equals_every_form_of_grid_sample(
    height: int, width: int, align_corners: bool, outside: str
) -> None:
    features = _draw(1, CHANNELS, height, width)
    x, y = (torch.tensor(_list_places(size), dtype=torch.float64) for size in (width, height))
    grids = torch.stack(torch.meshgrid(x, y, indexing="xy"))[None]
    how: dict[str, Any] = {"align_corners": align_corners}
    expected = F.grid_sample(features, grids.permute(0, 2, 3, 1), padding_mode=outside, **how)
    torch.testing.assert_close(sample_features(features, grids, outside=outside, **how), expected, **TOLERANCE)


def test_sample_features_equals_padding_with_the_border_in_float32() -> None:
    features = _draw(2, CHANNELS, 96, 128).float()
    grids = _draw(2, 2, 50, 60, seed=1).float()
    largest = features.abs().max()
    difference = (sample_features(features, grids) - _sample_published(features, grids.permute(0, 2, 3, 1))).abs().max()
    assert difference <= 1e-5 * largest


def test_no_offsets_point_at_the_pixel_itself() -> None:
    grids = offsets_to_grids(torch.zeros(1, 2, HEIGHT, WIDTH, dtype=torch.float64))
    for column in range(WIDTH):
        for row in range(HEIGHT):
            expected = [2 * column / (WIDTH - 1) - 1, 2 * row / (HEIGHT - 1) - 1]
            assert grids[0, :, row, column].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("heads", [1, 3])
def test_offsets_are_pixels_x_before_y_head_by_head(heads: int) -> None:
    offsets = _draw(BATCH, 2 * heads, HEIGHT, WIDTH)
    grids = offsets_to_grids(offsets)
    moved = grids - offsets_to_grids(torch.zeros_like(offsets))
    assert grids.shape == (BATCH * heads, 2, HEIGHT, WIDTH)
    for picture in range(BATCH):
        for head in range(heads):
            x, y = moved[picture * heads + head]
            torch.testing.assert_close(x, offsets[picture, 2 * head] * 2 / (WIDTH - 1), **TOLERANCE)
            torch.testing.assert_close(y, offsets[picture, 2 * head + 1] * 2 / (HEIGHT - 1), **TOLERANCE)


def test_compose_noop_when_nothing_came_before() -> None:
    grids = _draw(2, 2, HEIGHT, WIDTH)
    assert compose_grids(None, grids) is grids


def test_composed_grids_look_through_the_first_at_the_second() -> None:
    before, grids = _draw(2, 2, HEIGHT, WIDTH), _draw(2, 2, HEIGHT, WIDTH, seed=1)
    expected = _sample_published(before, grids.permute(0, 2, 3, 1))
    torch.testing.assert_close(compose_grids(before, grids), expected, **TOLERANCE)


def test_composed_shifts_add_up() -> None:
    """Far from the border, a shift of a after a shift of b is one of a + b."""
    size = 32
    rows, columns = torch.meshgrid(*[torch.arange(size, dtype=torch.float64)] * 2, indexing="ij")
    centres = torch.stack([(2 * columns + 1) / size - 1, (2 * rows + 1) / size - 1])[None]
    first, second = (torch.tensor(shift).view(1, 2, 1, 1) * 2 / size for shift in ([2.0, -1.0], [1.5, 3.0]))
    composed = compose_grids(centres + first, centres + second)
    inside = (..., slice(6, -6), slice(6, -6))
    torch.testing.assert_close(composed[inside], (centres + first + second)[inside], **TOLERANCE)

"""PF-AFN: the published method, written here a second time, plainly and from the formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vtopt.optimize.errors import NetworkError
from vtopt.optimize.networks import NETWORKS, build_network, pfafn, warping
from vtopt.optimize.networks.correlation import correlate_slices
from vtopt.optimize.networks.pfafn import Pfafn, PfafnGenerator, PfafnWarp
from vtopt.optimize.provenance import read_history
from vtopt.optimize.strip import strip_checkpoint
from vtopt.optimize.weights import load_network

WARP = {"pyramid_widths": (6, 8, 10), "pyramid_dim": 12, "flow_filters": (8, 6, 4)}
GENERATOR = {"generator_widths": (6, 8, 10)}
"""Widths that differ from each other, so that no two can be confused."""

TOLERANCE = 1e-4
"""Largest difference of two formulations, of the output's largest value."""


# The method, plainly.


def _sample(features: Tensor, places: Tensor, align_corners: bool) -> Tensor:
    return F.grid_sample(features, places, mode="bilinear", padding_mode="border", align_corners=align_corners)


def _add_offsets(offsets: Tensor) -> Tensor:
    """Pixel coordinates plus offsets, brought from 0..size-1 to -1..1: (N, H, W, 2)."""
    height, width = offsets.shape[2:]
    x = torch.arange(width, dtype=offsets.dtype).view(1, 1, width) + offsets[:, 0]
    y = torch.arange(height, dtype=offsets.dtype).view(1, height, 1) + offsets[:, 1]
    return torch.stack([x / ((width - 1) / 2) - 1, y / ((height - 1) / 2) - 1], 3)


def _warp_plainly(net: PfafnWarp, person: Tensor, clothes: Tensor) -> tuple[Tensor, Tensor]:
    corners = net.align_corners
    garments = net.image_FPN(net.image_features(clothes))
    persons = net.cond_FPN(net.cond_features(person))
    places: Tensor | None = None
    for level, (garment, wearer) in enumerate(zip(garments, persons, strict=True)):
        warped = garment if places is None else _sample(garment, places, corners)
        volume = correlate_slices(warped, wearer, 3)
        found = _add_offsets(net.aflow_net.netMain[level](torch.where(volume > 0, volume, 0.1 * volume)))
        if places is not None:
            found = _sample(places.permute(0, 3, 1, 2), found, corners).permute(0, 2, 3, 1)
        side_by_side = torch.cat([_sample(garment, found, corners), wearer], 1)
        refined = _add_offsets(net.aflow_net.netRefine[level](side_by_side))
        grids = _sample(found.permute(0, 3, 1, 2), refined, corners)
        size = (2 * grids.shape[2], 2 * grids.shape[3])
        places = F.interpolate(grids, size=size, mode="bilinear").permute(0, 2, 3, 1)
    assert places is not None
    return _sample(clothes, places, corners), places.permute(0, 3, 1, 2)


def _generate_plainly(net: PfafnGenerator, person: Tensor, clothes: Tensor, edge: Tensor) -> tuple[Tensor, Tensor]:
    def block(layer: Any, x: Tensor) -> Tensor:
        first, norm, _, second, other_norm = layer.block
        return F.relu(other_norm(second(F.relu(norm(first(x))))) + x)

    def level(layers: Any, x: Tensor) -> Tensor:
        for layer in layers:
            if type(layer).__name__ == "_ResidualBlock":
                x = block(layer, x)
            elif isinstance(layer, nn.Upsample):
                x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
            else:
                x = torch.cat([x, level(layer.model, x)], 1) if hasattr(layer, "model") else layer(x)
        return x

    raw = level(net.model.model, torch.cat([person, clothes, edge], 1))
    picture, mask = torch.tanh(raw[:, 0:3]), torch.sigmoid(raw[:, 3:4]) * edge
    return clothes * mask + picture * (1 - mask), raw


def _run_plainly(net: Pfafn, person: Tensor, clothes: Tensor, edge: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mask = torch.where(edge > 0.5, 1.0, 0.0)
    warped, flow = _warp_plainly(net.warp, person, clothes * mask)
    corners = net.warp.align_corners
    warped_mask = F.grid_sample(mask, flow.permute(0, 2, 3, 1), padding_mode="zeros", align_corners=corners)
    return _generate_plainly(net.generator, person, warped, warped_mask)[0], warped, warped_mask


# And the two compared.


def _build(name: str, config: dict[str, Any], strength: float = 8.0) -> Any:
    """A network with torch's first weights and norms that do something; `strength` makes flows of several pixels."""
    torch.manual_seed(0)
    module = build_network(name, config).module
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for entry, low, high in (("running_mean", -0.2, 0.2), ("running_var", 0.5, 1.5), ("weight", 0.5, 1.5)):
                nn.init.uniform_(getattr(layer, entry), low, high)
        elif isinstance(layer, pfafn._FlowHead):
            last: Any = layer[-1]
            last.weight.data *= strength
            last.bias.data *= strength
    return module


def _draw(size: tuple[int, int], *channels: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    coarse = (torch.rand(2, c, size[0] // 8, size[1] // 8, generator=generator) * 2 - 1 for c in channels)
    return [F.interpolate(x, size=size, mode="bilinear", align_corners=True) for x in coarse]


def _compare(made: tuple[Tensor, ...], plain: tuple[Tensor, ...]) -> float:
    assert [one.shape for one in made] == [other.shape for other in plain]
    shares = [float((one - other).abs().max() / other.abs().max()) for one, other in zip(made, plain, strict=True)]
    return max(shares)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("strength", [1.0, 8.0], ids=["torch's first weights", "flows of several pixels"])
def test_warp_equals_the_plain_formulation(strength: float, align_corners: bool) -> None:
    warp = _build("pfafn_warp", WARP | {"align_corners": align_corners}, strength)
    pictures = _draw((64, 48), 3, 3)
    with torch.no_grad():
        assert _compare(warp(*pictures), _warp_plainly(warp, *pictures)) <= TOLERANCE


def test_generator_equals_the_plain_formulation() -> None:
    generator = _build("pfafn_gen", GENERATOR)
    person, clothes, edge = _draw((32, 48), 3, 3, 1)
    with torch.no_grad():
        made = generator(person, clothes, edge.abs())
        assert _compare(made, _generate_plainly(generator, person, clothes, edge.abs())) <= TOLERANCE


@pytest.mark.parametrize("name", ["pfafn", "pfafn_aligned"])
def test_the_whole_equals_the_plain_formulation(name: str) -> None:
    network = _build(name, WARP | GENERATOR)
    assert network.warp.align_corners == (name == "pfafn_aligned")
    inputs = _draw((64, 48), 3, 3, 1)
    with torch.no_grad():
        assert _compare(network(*inputs), _run_plainly(network, *inputs)) <= TOLERANCE


def _sample_as(padding: str, flip: bool) -> Any:
    def sample(features: Tensor, grids: Tensor, *, align_corners: bool, outside: str = "border") -> Tensor:
        places = grids.permute(0, 2, 3, 1)
        return F.grid_sample(features, places, padding_mode=padding, align_corners=align_corners != flip)

    return sample


MISTAKES: list[Any] = [
    pytest.param("sample_features", _sample_as("border", True), id="the other align_corners"),
    pytest.param("sample_features", _sample_as("zeros", False), id="zeros outside"),
    pytest.param("sample_features", _sample_as("border", False), id="the edge repeats outside"),
    pytest.param("cut_edge", lambda edge: (edge > -0.5).float(), id="another threshold"),
    pytest.param("LEAKY_SLOPE", 0.2, id="another slope"),
    pytest.param("offsets_to_grids", lambda x: warping.offsets_to_grids(x.flip(1)), id="x and y swapped"),
]


@pytest.mark.parametrize(("what", "mistake"), MISTAKES)
def test_a_mistake_would_differ_from_the_plain_formulation(
    what: str, mistake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pfafn, what, mistake)
    network = _build("pfafn", WARP | GENERATOR)
    inputs = _draw((64, 48), 3, 3, 1)
    with torch.no_grad():
        assert _compare(network(*inputs), _run_plainly(network, *inputs)) > 10 * TOLERANCE


def test_flows_are_of_several_pixels_and_double_in_size() -> None:
    warp = _build("pfafn_warp", WARP)
    with torch.no_grad():
        levels = warp.estimate_flows(*_draw((64, 48), 3, 3))
    assert [tuple(grids.shape[1:]) for grids in levels] == [(2, 16, 12), (2, 32, 24), (2, 64, 48)]
    still = F.affine_grid(torch.eye(2, 3)[None], [1, 1, 64, 48], False).permute(0, 3, 1, 2)
    assert float(((levels[-1] - still).abs() * torch.tensor([24.0, 32.0]).view(1, 2, 1, 1)).max()) > 4


def test_every_weight_gets_gradients() -> None:
    network = _build("pfafn", WARP | GENERATOR)
    sum(output.sum() for output in network(*_draw((32, 48), 3, 3, 1))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_where_there_is_no_garment_the_generator_draws() -> None:
    network = _build("pfafn", WARP | GENERATOR)
    person, clothes = _draw((32, 48), 3, 3)
    nothing = torch.zeros(2, 1, 32, 48)
    with torch.no_grad():
        tryon, warped, edge = network(person, clothes, nothing)
        raw = network.generator(person, warped, edge)[1]
    assert not edge.any() and not warped.any()
    torch.testing.assert_close(tryon, raw[:, :3].tanh())


@pytest.mark.parametrize(
    ("config", "multiple"),
    [(WARP | GENERATOR, 8), (WARP | {"generator_widths": (4, 4)}, 8), ({"pyramid_widths": (4,)} | GENERATOR, 8)],
)
def test_sizes_are_multiples_of_what_both_networks_halve(config: dict[str, Any], multiple: int) -> None:
    assert build_network("pfafn", config).multiple_of == multiple


def test_published_sizes_are_multiples_of_32() -> None:
    with torch.device("meta"):
        assert {build_network(name).multiple_of for name in ("pfafn", "pfafn_warp", "pfafn_gen")} == {32}


def test_a_config_from_a_file_builds_the_same_network_again() -> None:
    network = build_network("pfafn_aligned", {"pyramid_widths": [4, 6], "generator_widths": [4, 6]})
    again = build_network("pfafn", network.config)
    assert again.config == network.config and again.module.warp.align_corners
    assert again.module.state_dict().keys() == network.module.state_dict().keys()


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of a small warp, which do not say what they are, while the registered ones are as small."""
    for name, settings in (("pfafn_warp", WARP), ("pfafn_warp_aligned", WARP | {"align_corners": True})):
        monkeypatch.setitem(cast(dict, NETWORKS), name, ("pfafn:build_pfafn_warp", settings))
    path = tmp_path / "warp.pth"
    torch.save(build_network("pfafn_warp").module.state_dict(), path)
    return path


def test_align_corners_that_nobody_chose_is_said(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = load_network(checkpoint, "pfafn_warp")
    assert not network.config["align_corners"]
    assert "choose --network pfafn_warp_aligned" in capsys.readouterr().err
    (record,) = read_history(strip_checkpoint(checkpoint, checkpoint.with_suffix(".safetensors"), network="pfafn_warp"))
    assert "choose --network pfafn_warp_aligned" in record.notices[-1]


def test_a_chosen_align_corners_is_not_spoken_of(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_network(checkpoint, "pfafn_warp_aligned").config["align_corners"]
    stripped = strip_checkpoint(checkpoint, checkpoint.with_suffix(".safetensors"), network="pfafn_warp")
    load_network(stripped)
    assert "align_corners" not in capsys.readouterr().err


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(NetworkError, match="generator_widths"):
        build_network("pfafn_warp", GENERATOR)

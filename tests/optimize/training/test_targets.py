"""What a network gives its student, and its picture alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_registered import build_small
from small_sdafn import SMALL
from torch import Tensor, nn

from vtopt.optimize.errors import NetworkError
from vtopt.optimize.networks import InputSpec, Network, build_network, warping
from vtopt.optimize.networks.warping import place_offsets
from vtopt.optimize.training.targets import make_picture, make_targets


def _feed(network: Network) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(2, spec.channels, 16, 12, generator=generator) * 2 - 1 for spec in network.inputs]


@pytest.mark.parametrize("name", ["sdafn", "sdafn_plus_tiny"])
@torch.no_grad()
def test_the_targets_of_a_network_are_what_its_other_methods_make(name: str) -> None:
    network = build_network(name, SMALL)
    inputs = _feed(network)
    targets = make_targets(network, inputs)
    levels = network.module.forward_levels(*inputs)  # type: ignore[operator]
    assert torch.equal(targets["picture/1"], network.module(*inputs))
    for scale, (picture, flows) in zip((2, 1), levels, strict=True):
        assert torch.equal(targets[f"picture/{scale}"], picture)
        for kind, tensor in flows._asdict().items():
            assert torch.equal(targets[f"{kind}/{scale}"], tensor)
    kinds = {target.partition("/")[0] for target in targets}
    assert kinds == {"picture", "source_features", "reference_features", *levels[0][1]._fields}


@torch.no_grad()
def test_a_scale_says_how_much_smaller_a_target_is() -> None:
    network = build_network("sdafn_plus_tiny", SMALL)
    for name, tensor in make_targets(network, _feed(network)).items():
        scale = int(name.partition("/")[2])
        assert tuple(tensor.shape[2:]) == (16 // scale, 12 // scale), name


@torch.no_grad()
def test_places_stay_float32_under_mixed_precision() -> None:
    network = build_network("sdafn_plus_tiny", SMALL)
    inputs = _feed(network)
    exact = make_targets(network, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = make_targets(network, inputs)
    assert mixed["source_features/2"].dtype == torch.bfloat16
    for name in ("cross_grids/1", "self_grids/1"):
        assert mixed[name].dtype == torch.float32
        pixels = (mixed[name] - exact[name]).abs().max() * 12 / 2
        assert pixels < 0.02  # bfloat16 itself has steps of 1/256 here, 0.02 pixels of a picture as small as this


@pytest.mark.parametrize("name", ["sdafn_plus_tiny", "pfafn_warp", "hrviton_tocg"])
@torch.no_grad()
def test_offsets_are_float32_under_mixed_precision(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_small(name)
    offsets: list[torch.dtype] = []
    made: set[torch.dtype] = set()

    def place(x: Tensor) -> Tensor:
        offsets.append(x.dtype)
        return place_offsets(x)

    monkeypatch.setattr(warping, "place_offsets", place)
    for layer in network.module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _, __, output: made.add(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        make_targets(network, [torch.zeros(1, spec.channels, *network.size) for spec in network.inputs])
    assert made == {torch.bfloat16, torch.float32}
    assert set(offsets) == {torch.float32}


class _Several(nn.Module):
    def forward(self, person: Tensor) -> tuple[Tensor, Tensor]:
        return person * 2, person[:, :1]


def test_a_users_own_network_gives_its_outputs() -> None:
    network = Network(_Several(), (InputSpec("person"),), outputs=("tryon", "mask"))
    inputs = _feed(network)
    targets = make_targets(network, inputs)
    assert targets.keys() == {"picture/1", "mask/1"}
    assert torch.equal(make_picture(network.module, inputs), (inputs[0] * 2).clamp(-1, 1))
    with pytest.raises(NetworkError, match="has 2 outputs and names tryon, mask, more"):
        make_targets(replace(network, outputs=("tryon", "mask", "more")), inputs)


def test_a_first_output_that_is_no_picture_is_refused() -> None:
    with pytest.raises(NetworkError, match="the try-on picture is N, 3, H, W"):
        make_picture(nn.Identity(), [torch.zeros(1, 2, 4, 4)])

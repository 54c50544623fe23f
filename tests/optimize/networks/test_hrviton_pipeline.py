"""HR-VITON as one network, and what is done between its two."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vtopt.optimize.errors import NetworkError
from vtopt.optimize.networks import Network, build_network
from vtopt.optimize.networks.edges import EDGE_THRESHOLD
from vtopt.optimize.networks.hrviton.between import blur, group_classes, mask_upper, remove_overlap

SMALL = {"conditions_width": 2, "generator_width": 2, "size": (128, 256), "condition_size": (32, 64)}
TOLERANCE = 1e-4

KEPT = ["face", "bottom", "left leg", "right leg", "left shoe", "right shoe", "socks"]
CLASSES = ["background", "hair", "face", "upper", "bottom", "left arm", "right arm", *KEPT[2:], "noise"]
GROUPS = [["background"], KEPT, ["upper"], ["hair"], ["left arm"], ["right arm"], ["noise"]]


def _build(**settings: Any) -> Network:
    torch.manual_seed(0)
    return build_network("hrviton", SMALL | settings)


def _draw_inputs(network: Network) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(1)
    drawn = {spec.name: torch.rand(1, spec.channels, *network.size, generator=random) for spec in network.inputs}
    classes = F.one_hot(drawn["parse_agnostic"].argmax(1), 13).permute(0, 3, 1, 2).float()
    pictures = {name: 2 * drawn[name] - 1 for name in ("clothes", "densepose", "agnostic")}
    return {**drawn, **pictures, "parse_agnostic": classes}


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_goes_to_its_group(name: str) -> None:
    scores = torch.zeros(1, 13, 2, 3)
    scores[:, CLASSES.index(name)] = 1
    expected = torch.tensor([float(name in group) for group in GROUPS])
    torch.testing.assert_close(group_classes(scores), expected.view(1, 7, 1, 1).expand(1, 7, 2, 3))


def test_of_equal_scores_the_background_wins() -> None:
    assert group_classes(torch.zeros(1, 13, 1, 1)).flatten().tolist() == [1, 0, 0, 0, 0, 0, 0]


def test_blur_is_the_gaussian_of_15_by_15() -> None:
    places = torch.arange(15.0) - 7
    line = torch.exp(-(places**2) / (2 * 3.0**2))
    square = torch.outer(line, line) / line.sum() ** 2
    point = torch.zeros(1, 2, 31, 40)
    point[:, 1, 15, 20] = 1
    expected = torch.zeros_like(point)
    expected[0, 1, 8:23, 13:28] = square
    torch.testing.assert_close(blur(point), expected, atol=1e-7, rtol=0)


def test_beyond_the_edge_blur_sees_nothing() -> None:
    assert float(blur(torch.ones(1, 1, 20, 20))[0, 0, 0, 10]) == pytest.approx(0.566, abs=2e-3)  # half and a half pixel


@pytest.mark.parametrize(("name", "left"), [("hair", 0), ("left arm", 0), ("noise", 0), ("upper", 1), ("bottom", 1)])
def test_a_garment_gives_way_to_what_is_before_it(name: str, left: float) -> None:
    scores = torch.zeros(1, 13, 1, 1)
    scores[:, CLASSES.index(name)] = 50
    assert float(remove_overlap(torch.ones(1, 1, 1, 1), scores)) == pytest.approx(left, abs=1e-6)


def test_only_the_garment_of_the_scores_is_masked() -> None:
    masked = mask_upper(torch.ones(1, 13, 1, 1), torch.full((1, 1, 1, 1), 0.25)).flatten()
    assert masked.tolist() == [0.25 if name == "upper" else 1 for name in CLASSES]


def test_it_is_both_networks_one_after_the_other() -> None:
    network = _build()
    given = _draw_inputs(network)
    inner: Any = network.module
    small = {name: F.interpolate(x, size=(32, 64), mode="bilinear") for name, x in given.items()}
    edge, parse = (F.interpolate(given[name], size=(32, 64)) for name in ("edge", "parse_agnostic"))
    with torch.no_grad():
        tryon, warped, mask = network.module(*given.values())
        tocg = inner.conditions(
            torch.cat([small["clothes"], (edge > 0.5).float()], 1), torch.cat([parse, small["densepose"]], 1)
        )
        scores = tocg[2].clone()
        scores[:, 3:4] *= tocg[1]
        scores = blur(F.interpolate(scores, size=network.size, mode="bilinear"))
        flow = F.interpolate(tocg[3].permute(0, 3, 1, 2), size=network.size, mode="bilinear")
        x = torch.linspace(-1, 1, 256) + flow[:, 0] / ((32 - 1.0) / 2.0)
        y = torch.linspace(-1, 1, 128).view(-1, 1) + flow[:, 1] / ((16 - 1.0) / 2.0)
        both = torch.cat([given["clothes"], (given["edge"] > 0.5).float()], 1)
        both = F.grid_sample(both, torch.stack([x, y], 3), padding_mode="border", align_corners=False)
        covered = scores.softmax(1)[:, [1, 2, *range(5, 13)]].sum(1, keepdim=True)
        plain_mask = both[:, 3:] * (1 - covered)
        plain = both[:, :3] * plain_mask + 1 - plain_mask
        picture = inner.generator(torch.cat([given["agnostic"], given["densepose"], plain], 1), group_classes(scores))
    torch.testing.assert_close(mask, plain_mask, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(warped, plain, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(tryon, picture, atol=TOLERANCE, rtol=0)


def test_the_garment_alone_is_warped_without_occlusion() -> None:
    network = _build(occlusion=False)
    given = _draw_inputs(network) | {"clothes": torch.full((1, 3, *SMALL["size"]), -1.0)}
    with torch.no_grad():
        _, warped, _ = network.module(*given.values())
    torch.testing.assert_close(warped, given["clothes"])


def test_names_are_those_of_both_networks_behind_a_prefix() -> None:
    names = {f"conditions.{name}" for name in build_network("hrviton_tocg", {"width": 2}).module.state_dict()}
    names |= {f"generator.{name}" for name in build_network("hrviton_gen", {"width": 2}).module.state_dict()}
    assert _build().module.state_dict().keys() == names


def test_it_is_built_again_from_its_configuration() -> None:
    network = _build(noise_seed=1)
    as_read = {key: list(value) if isinstance(value, tuple) else value for key, value in network.config.items()}
    assert build_network("hrviton", as_read).config == network.config


def test_a_condition_size_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(NetworkError, match="no multiple of 32"):
        build_network("hrviton", SMALL | {"condition_size": (48, 64)})


def test_the_mask_is_cut_at_a_half(monkeypatch: pytest.MonkeyPatch) -> None:
    network = _build()
    given = _draw_inputs(network)
    with torch.no_grad():
        expected = network.module(*given.values())[0]
        cut = {**given, "edge": (given["edge"] > EDGE_THRESHOLD).float()}
        assert torch.equal(network.module(*cut.values())[0], expected)

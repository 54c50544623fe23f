"""HR-VITON's image generator: SPADE blocks as published, and noise that is the same every time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vtopt.optimize.checkpoint import select_weights
from vtopt.optimize.networks import build_network
from vtopt.optimize.networks.hrviton import generator, spade
from vtopt.optimize.weights import fit_weights

SMALL = {"width": 2, "size": (128, 256)}
TOLERANCE = 1e-5


def _build(**settings: Any) -> nn.Module:
    """A small generator with torch's first weights, and noise scales that are not zero."""
    torch.manual_seed(0)
    module = build_network("hrviton_gen", SMALL | settings).module
    for name, scale in module.named_parameters():
        if name.endswith("noise_scale"):
            nn.init.uniform_(scale, 0.5, 1.0)
    return module


def _draw_inputs(batch: int = 1) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    x = torch.rand(batch, 9, 128, 256, generator=random) * 2 - 1
    labels = torch.randint(7, (batch, 128, 256), generator=random)
    return x, F.one_hot(labels, 7).permute(0, 3, 1, 2).float()


# The method, plainly.


def _normalise(entries: Mapping[str, Tensor], name: str, x: Tensor, labels: Tensor) -> Tensor:
    def convolve(layer: str, given: Tensor) -> Tensor:
        return F.conv2d(given, entries[f"{name}.{layer}.weight"], entries[f"{name}.{layer}.bias"], padding=1)

    shared = convolve("conv_shared.0", labels).relu()
    mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), correction=0, keepdim=True)
    plain = (x - mean) / (variance + 1e-5).sqrt()
    return plain + plain * convolve("conv_gamma", shared) + convolve("conv_beta", shared)


def _convolve(entries: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    weight = entries[f"{name}.weight_orig"]
    sigma = entries[f"{name}.weight_u"] @ weight.flatten(1) @ entries[f"{name}.weight_v"]
    return F.conv2d(x, weight / sigma, entries.get(f"{name}.bias"), padding=weight.shape[-1] // 2)


def _run_plainly(entries: Mapping[str, Tensor], x: Tensor, seg: Tensor) -> Tensor:
    names = ["head_0", "G_middle_0", "G_middle_1", *(f"up_{number}" for number in range(5))]
    made = x[:, :0]
    for level, name in enumerate(names):
        size = [side * 2**level // 2**7 for side in x.shape[2:]]
        picture, labels = (F.interpolate(given, size=size, mode="nearest") for given in (x, seg))
        seen = F.conv2d(picture, entries[f"conv_{level}.weight"], entries[f"conv_{level}.bias"], padding=1)
        before = torch.cat([F.interpolate(made, size=size, mode="nearest"), seen], 1) if level else seen
        inner = _convolve(
            entries, f"{name}.conv_0", F.leaky_relu(_normalise(entries, f"{name}.norm_0", before, labels), 0.2)
        )
        inner = _convolve(
            entries, f"{name}.conv_1", F.leaky_relu(_normalise(entries, f"{name}.norm_1", inner, labels), 0.2)
        )
        if f"{name}.conv_s.weight_orig" in entries:
            before = _convolve(entries, f"{name}.conv_s", _normalise(entries, f"{name}.norm_s", before, labels))
        made = before + inner
    return F.conv2d(F.leaky_relu(made, 0.2), entries["conv_img.weight"], entries["conv_img.bias"], padding=1).tanh()


def _compare_formulations() -> float:
    module, inputs = _build(), _draw_inputs()
    with torch.no_grad():
        return float((module(*inputs) - _run_plainly(module.state_dict(), *inputs)).abs().max())


def test_forward_equals_the_plain_formulation() -> None:
    assert _compare_formulations() <= TOLERANCE


@pytest.mark.parametrize(
    ("module", "name", "mistake"),
    [
        pytest.param(spade, "LEAKY_SLOPE", 0.1, id="another slope in the blocks"),
        pytest.param(generator, "LEAKY_SLOPE", 0.1, id="another slope at the end"),
        pytest.param(generator, "_take_nearest", lambda x, step: F.avg_pool2d(x, step), id="shrunk by averages"),
    ],
)
def test_a_mistake_would_differ(module: Any, name: str, mistake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, name, mistake)
    assert _compare_formulations() > 10 * TOLERANCE


def test_no_noise_is_added_unless_it_is_asked_for() -> None:
    inputs = _draw_inputs()
    with torch.no_grad():
        quiet, noisy = _build()(*inputs), _build(noise_seed=3)(*inputs)
    assert float((quiet - noisy).abs().max()) > 1e-3


def test_one_seed_makes_one_noise_whatever_the_batch() -> None:
    module, (x, seg) = _build(noise_seed=3), _draw_inputs(batch=2)
    with torch.no_grad():
        picture = module(x, seg)
        assert torch.equal(picture, _build(noise_seed=3)(x, seg))
        torch.testing.assert_close(picture[:1], module(x[:1], seg[:1]), atol=TOLERANCE, rtol=0)
        assert float((picture - _build(noise_seed=4)(x, seg)).abs().max()) > 1e-3


def test_every_norm_has_a_noise_of_its_own() -> None:
    seeds = [norm.noise_seed for norm in _build(noise_seed=3).modules() if isinstance(norm, spade.SpadeNorm)]
    assert len(seeds) == len(set(seeds)) == 3 * 7 + 2
    drawn = [spade.draw_noise(seed, 2, 3) for seed in seeds if seed is not None]
    assert len({float(noise[0, 0, 0, 0]) for noise in drawn}) == len(seeds)


def test_noise_is_standard_normal() -> None:
    noise = spade.draw_noise((0, 1), 64, 48)
    assert noise.shape == (1, 1, 64, 48)
    assert abs(float(noise.mean())) < 4 / (64 * 48) ** 0.5
    assert float(noise.std()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("old", ["ace_{}.Spade.", "alias_{}.", "norm_{}.Spade.", "norm_{}."])
def test_weights_fit_under_the_names_they_were_published_with(old: str) -> None:
    network = build_network("hrviton_gen", SMALL)
    published = {
        re.sub(r"norm_([01s])\.", lambda found: old.format(found[1]), f"module.{name}"): tensor + 1
        for name, tensor in network.module.state_dict().items()
    }
    chosen = select_weights({"state_dict": published}, Path("gen.pth"))
    fit_weights(network, chosen.weights, "gen.pth")
    assert torch.equal(
        network.module.state_dict()["up_0.norm_s.conv_gamma.bias"],
        published[f"module.up_0.{old.format('s')}conv_gamma.bias"],
    )


def test_size_is_a_setting_as_a_file_has_it() -> None:
    assert build_network("hrviton_gen", {"width": 2, "size": [512, 384]}).size == (512, 384)
    assert build_network("hrviton_gen", {"width": 2}).size == (1024, 768)

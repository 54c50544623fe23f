"""Folding spectral norms: the same outputs, and nothing left of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm

from vtopt.optimize.networks import Network, build_network
from vtopt.optimize.networks.spectral_norm import FOLDED, fold_network, fold_spectral_norm

GENERATOR = {"width": 2, "size": (128, 128)}


class _Tied(nn.Module):
    """One normalised convolution used twice, and a plain one."""

    def __init__(self, normalise: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        self.conv = normalise(nn.Conv2d(3, 3, 3, padding=1))
        self.same = self.conv
        self.linear = normalise(nn.Linear(3, 2, bias=False))
        self.plain = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.same(self.plain(self.conv(x))).mean((2, 3)))


FORMS = pytest.mark.parametrize(
    "normalise", [spectral_norm, parametrizations.spectral_norm], ids=["hook", "parametrization"]
)


@FORMS
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_outputs_stay_and_nothing_of_the_norm_is_left(
    normalise: Callable[[nn.Module], nn.Module], training: bool
) -> None:
    torch.manual_seed(0)
    net = _Tied(normalise)
    x = torch.rand(2, 3, 8, 6)
    with torch.no_grad():
        net.train()(x)  # moves the vectors that sigma is computed with
        expected = net.eval()(x)
        assert fold_spectral_norm(net.train(training)) == ["conv", "linear"]
        assert torch.equal(net.eval()(x), expected)
    assert net.state_dict().keys() == {
        *(f"{layer}.{entry}" for layer in ("conv", "same", "plain") for entry in ("weight", "bias")),
        "linear.weight",
    }
    assert all(isinstance(layer.weight, nn.Parameter) for layer in (net.conv, net.linear))
    assert not net.conv._forward_pre_hooks


@FORMS
def test_folded_weights_have_the_norm_one(normalise: Callable[[nn.Module], nn.Module]) -> None:
    torch.manual_seed(0)
    net = normalise(nn.Linear(6, 4))
    for _ in range(50):
        net.train()(torch.rand(1, 6))
    fold_spectral_norm(net)
    assert isinstance(net, nn.Linear)
    assert float(torch.linalg.matrix_norm(net.weight.detach(), 2)) == pytest.approx(1, abs=1e-4)


def test_other_parametrizations_are_left_alone() -> None:
    net = parametrizations.weight_norm(nn.Linear(3, 3))
    before = net.state_dict().keys()
    assert fold_spectral_norm(net) == []
    assert net.state_dict().keys() == before


def test_a_network_says_that_it_is_folded_and_is_built_so_again() -> None:
    built = build_network("hrviton_gen", GENERATOR)
    weights = built.module.state_dict()
    network = fold_network(built)
    assert network.config[FOLDED] is True
    again = build_network("hrviton_gen", network.config)
    again.module.load_state_dict(network.module.state_dict())
    assert again.config == network.config
    assert sum(name.endswith("_orig") for name in weights) == 3 * 7 + 2
    assert not any(name.endswith(("_orig", "_u", "_v")) for name in again.module.state_dict())


def test_a_network_without_spectral_norms_stays_as_it_is() -> None:
    network = Network(nn.Conv2d(3, 3, 1), ())
    assert fold_network(network) is network

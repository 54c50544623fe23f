"""Multiply-adds in torch: by formula, and the same as those of the export, for every network that is registered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vtopt.benchmarks.cost.flops import count_macs
from vtopt.benchmarks.cost.model_cost import count_model
from vtopt.benchmarks.cost.torch_macs import FREE, RULES, count_torch_macs
from vtopt.optimize.artifacts import Size
from vtopt.optimize.export import export_onnx
from vtopt.optimize.networks import NETWORKS, build_network
from vtopt.optimize.networks.spectral_norm import fold_network

AGREEMENT = 0.01

SDAFN = {"pyramid_dim": 16, "heads": 2, "mfe_filters": (8, 8), "shallow_hidden": 8, "shallow_dim": 8}
WARP = {"pyramid_widths": (4, 6), "pyramid_dim": 8, "flow_filters": (4,)}
COMPLETION = {"first": 8, "most": 16}
SMALL: Mapping[str, Mapping[str, Any]] = {
    "sdafn": SDAFN | {"pyramid_widths": (8,) * 5},
    **{f"sdafn_plus_{levels}": SDAFN | {"pyramid_widths": (8,) * levels} for levels in (3, 4, 5)},
    "sdafn_plus_tiny": SDAFN | {"pyramid_widths": (8, 8)},
    "sdafn_tiny": SDAFN | {"pyramid_widths": (8, 8)},
    "completion": COMPLETION,
    "completion_shape": COMPLETION,
    "completion_texture": COMPLETION,
    "hrviton": {"conditions_width": 2, "generator_width": 2, "size": (128, 256), "condition_size": (32, 64)},
    "hrviton_tocg": {"width": 3},
    "hrviton_gen": {"width": 2, "size": (128, 256)},
    "pfafn": WARP | {"generator_widths": (4, 6, 6)},
    "pfafn_aligned": WARP | {"generator_widths": (4, 6, 6)},
    "pfafn_warp": WARP,
    "pfafn_warp_aligned": WARP,
    "pfafn_gen": {"generator_widths": (4, 6, 6)},
}
SIZES = {"completion": Size(256, 256), "hrviton": Size(128, 256)}
"""By the first word of the name; 64x64 for others."""
DYNAMO = {"hrviton"}
"""What TorchScript cannot export."""
PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "sdafn": {},
    "sdafn_plus_3": {},
    "pfafn": {},
    "hrviton": {"size": (128, 256), "condition_size": (32, 64)},
    "completion": {},
}
"""Networks of published widths, for small pictures."""


def test_every_network_has_its_small_form_here() -> None:
    assert SMALL.keys() == NETWORKS.keys()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "hrviton" else ()) for name in NETWORKS]
)
def test_a_network_and_its_export_count_the_same(name: str) -> None:
    _require_equal_counts(name, SMALL[name])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "sdafn_plus_3" else pytest.mark.slow) for name in PUBLISHED]
)
def test_a_network_of_published_widths_and_its_export_count_the_same(name: str) -> None:
    _require_equal_counts(name, PUBLISHED[name])


def _require_equal_counts(name: str, config: Mapping[str, Any]) -> None:
    """Count a network as weights are loaded, and its export.

    All are equal but completion: it attends twice by the same weights, which exporters compute once.
    """
    from vtopt.optimize.export import _trace_torchscript as trace  # pyright: ignore[reportPrivateUsage]
    from vtopt.optimize.export import make_example, trace_dynamo

    torch.manual_seed(0)
    network = fold_network(build_network(name, config))
    size = SIZES.get(name.split("_")[0], Size(64, 64))
    example = make_example(network, size, 1, 0)
    model = trace_dynamo(network, example, 18) if name in DYNAMO else trace(network, example, 17, False)
    here, there = count_torch_macs(network.module, example), count_macs(model)
    assert here.uncounted == there.uncounted == {}
    assert here.macs == pytest.approx(there.macs, rel=AGREEMENT if name.startswith("completion") else 0)


def test_weights_and_an_export_of_several_pictures_count_one(small_checkpoint: Path, tmp_path: Path) -> None:
    from vtopt.optimize.export import make_example, trace_dynamo
    from vtopt.optimize.weights import load_network

    network = load_network(small_checkpoint)
    model = trace_dynamo(network, make_example(network, Size(64, 48), 3, 0), 18)
    assert count_macs(model).macs == count_model(small_checkpoint, size=(64, 48)).macs.macs


def test_weights_count_as_their_export_does(small_checkpoint: Path, tmp_path: Path) -> None:
    size = Size(64, 48)
    exported = export_onnx(small_checkpoint, tmp_path / "x.onnx", size=size, exporter="torchscript", pair_count=1)
    counted = count_model(small_checkpoint, size=size).macs
    assert counted.macs == count_model(exported).macs.macs > 0
    assert counted.flops == 2 * counted.macs


class Run(nn.Module):
    """Whatever a function does to a picture."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


N, C, H, W = 2, 4, 6, 8
PIXELS = N * H * W


@pytest.mark.parametrize(
    ("function", "macs"),
    [
        pytest.param(nn.Conv2d(C, 10, 3, padding=1), PIXELS * 10 * C * 9, id="convolution"),
        pytest.param(nn.Conv2d(C, 8, 3, padding=1, groups=2), PIXELS * 8 * C // 2 * 9, id="in groups"),
        pytest.param(nn.ConvTranspose2d(C, 5, 4, stride=2), PIXELS * C * 5 * 16, id="transposed"),
        pytest.param(nn.Linear(W, 3), N * C * H * W * 3, id="linear"),
        pytest.param(lambda x: x @ x.transpose(2, 3), N * C * H * H * W, id="matrix product"),
        pytest.param(
            lambda x: F.scaled_dot_product_attention(x, x, x), 2 * N * C * H * H * W, id="attention, two products"
        ),
        pytest.param(
            lambda x: F.grid_sample(x, torch.zeros(N, 3, 5, 2), align_corners=False), N * C * 15 * 4, id="bilinear warp"
        ),
        pytest.param(
            lambda x: F.grid_sample(x, torch.zeros(N, 3, 5, 2), "nearest", align_corners=False), 0, id="nearest warp"
        ),
        pytest.param(
            lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"), PIXELS * C * 4 * 4, id="bilinear resize"
        ),
        pytest.param(lambda x: F.interpolate(x, scale_factor=2.0), 0, id="nearest resize"),
        pytest.param(lambda x: F.avg_pool2d(x, 2), PIXELS // 4 * C * 4, id="average pool"),
        pytest.param(lambda x: x.mean((2, 3)), PIXELS * C, id="mean"),
        pytest.param(lambda x: F.relu(x + 1).softmax(1).sum(2).sqrt(), 0, id="nothing"),
        pytest.param(nn.InstanceNorm2d(C), 0, id="normalisation"),
    ],
)
def test_count_torch_macs(function: Any, macs: int) -> None:
    counted = count_torch_macs(Run(function), (torch.zeros(N, C, H, W),))
    assert (counted.macs, counted.uncounted) == (macs, {})


def test_an_operation_without_a_rule_is_listed() -> None:
    counted = count_torch_macs(Run(lambda x: torch.linalg.inv(x @ x.transpose(2, 3)) + 1), (torch.zeros(1, 1, 2, 2),))
    assert counted.uncounted["linalg_inv_ex"] == 1


def test_a_network_that_asks_for_numbers_is_run_on_them() -> None:
    layer = nn.Conv2d(C, C, 1)
    counted = count_torch_macs(Run(lambda x: layer(x) if float(x.sum()) == 0 else x), (torch.zeros(N, C, H, W),))
    assert counted.macs == PIXELS * C * C


def test_no_operation_is_both_free_and_counted() -> None:
    assert not FREE & RULES.keys()

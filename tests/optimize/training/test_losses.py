"""Losses: nothing to say where nothing differs, and each kind of difference is felt."""

from __future__ import annotations

import pytest
import torch
from small_sdafn import SMALL
from torch import Tensor

from vtopt.optimize.networks import build_network
from vtopt.optimize.training.losses import (
    GRADIENT_WEIGHT,
    TEACHER_LOSSES,
    list_levels,
    measure_teacher_loss,
    measure_truth_loss,
)


def _make_targets(seed: int = 0, **config: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    module = build_network("sdafn_plus_tiny", SMALL | config).module
    pictures = torch.rand(2, 2, 3, 16, 12, generator=torch.Generator().manual_seed(9)) * 2 - 1
    with torch.no_grad():
        return module.forward_targets(*pictures)  # type: ignore[operator]


def test_a_network_equal_to_its_teacher_has_no_loss() -> None:
    assert float(measure_teacher_loss(_make_targets(), _make_targets())) == 0


def test_every_kind_of_target_is_compared() -> None:
    made = _make_targets()
    assert {name.partition("/")[0] for name in made} == TEACHER_LOSSES.keys() - {"output"}
    for name in made:
        other = made | {name: made[name] + torch.linspace(0.1, 0.2, made[name].shape[-1])}
        assert float(measure_teacher_loss(other, made)) > 0, name


def test_a_finer_level_weighs_more() -> None:
    made = _make_targets()
    losses = [float(measure_teacher_loss(made | {name: made[name] + 0.1}, made)) for name in ("picture/2", "picture/1")]
    assert losses[0] < losses[1]


def test_grids_are_compared_in_pixels_of_the_picture_where_the_teacher_looks() -> None:
    made = _make_targets()
    attention = torch.zeros_like(made["cross_attention/1"])
    attention[:, 0] = 1
    wanted = made | {"cross_attention/1": attention}
    made = made | {"cross_attention/1": attention}
    heads = attention.shape[1]

    def measure(head: int) -> float:
        grids = made["cross_grids/1"].clone()
        grids[head::heads, 0] += 2 / 12  # one pixel of twelve, along x alone
        return float(measure_teacher_loss(made | {"cross_grids/1": grids}, wanted))

    weight, _ = TEACHER_LOSSES["cross_grids"]
    assert measure(0) == pytest.approx(weight * 0.5, rel=1e-4)
    assert measure(1) == 0


def test_features_of_other_widths_are_compared_by_their_energy() -> None:
    wanted, made = _make_targets(), _make_targets(pyramid_dim=6)
    only = {name: tensor.requires_grad_() for name, tensor in made.items() if "features" in name}
    loss = measure_teacher_loss(only, wanted)
    loss.backward()
    assert float(loss.detach()) > 0
    assert all(tensor.grad is not None and tensor.grad.isfinite().all() for tensor in only.values())
    doubled = {name: torch.cat([tensor, tensor], 1) for name, tensor in wanted.items() if "features" in name}
    assert float(measure_teacher_loss(doubled, wanted)) == pytest.approx(0, abs=1e-6)


def test_other_heads_are_left_out_and_the_picture_is_not() -> None:
    wanted, made = _make_targets(), _make_targets(heads=3)
    assert measure_teacher_loss(made, wanted).isfinite()
    only = {name: made[name] for name in made if "grids" in name or "attention" in name}
    assert float(measure_teacher_loss(only, wanted)) == 0


def test_outputs_of_any_name_are_compared() -> None:
    made = {"picture/1": torch.zeros(1, 3, 4, 4), "mask/1": torch.ones(1, 1, 4, 4)}
    wanted = made | {"mask/1": torch.zeros(1, 1, 4, 4)}
    assert float(measure_teacher_loss(made, wanted)) == 1


def test_the_truth_loss_is_the_distance_of_pictures_and_gradients() -> None:
    truth = torch.zeros(1, 3, 4, 4)
    ramp = torch.arange(4.0).expand(1, 3, 4, 4)
    loss = measure_truth_loss(list_levels({"picture/1": ramp}), {"truth": truth})
    assert float(loss) == pytest.approx(1.5 + GRADIENT_WEIGHT * 1)


def test_places_lead_the_flows_where_pairs_know_them() -> None:
    made = _make_targets()
    batch = {"truth": torch.zeros(2, 3, 16, 12)}
    place = torch.ones(2, 3, 16, 12)
    assert measure_truth_loss(list_levels(made), batch | {"place": place}) > measure_truth_loss(
        list_levels(made), batch
    )
    assert [level.picture.shape[2] for level in list_levels(made)] == [8, 16]

"""The loss of a distillation: what it judges, what it adds up, and that it can be learned."""

from __future__ import annotations

import pytest
import torch
from small_sdafn import SMALL
from torch import Tensor
from torch.utils.data import default_collate

from vtopt.optimize.data.outfit_dataset import OutfitDataset
from vtopt.optimize.networks import Network, build_network
from vtopt.optimize.training.losses import Level, measure_truth_loss
from vtopt.optimize.training.perceptual import compare_pyramids
from vtopt.optimize.training.smoothness import measure_grid_bend
from vtopt.optimize.training.tutor import Exercise, copy_teacher, set_exercise
from vtopt.optimize.training.tutor_loss import TutorLoss, measure_exercise

SIZE = (32, 24)
WEIGHTS = {"look_weight": 0.5, "smooth_weight": 0.01}


def _build(name: str, seed: int) -> Network:
    torch.manual_seed(seed)
    return build_network(name, SMALL)


def _load_batch(count: int = 2, ends: tuple[int, int] = (0, 0)) -> dict[str, Tensor]:
    dataset = OutfitDataset(range(count), SIZE, ends)
    return default_collate([dataset[index] for index in range(count)])


def _draw(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape))) * 2 - 1


def _make_exercise(judged: Tensor, place: Tensor | None = None) -> Exercise:
    return Exercise(_draw(1, 3, 16, 12), _draw(1, 3, 16, 12), _draw(1, 3, 16, 12).clone(), judged, place)


def test_the_parts_are_truth_looks_and_bends() -> None:
    exercise = _make_exercise(torch.ones(1, 1, 16, 12), _draw(1, 3, 16, 12).abs())
    made = {
        "picture/2": _draw(1, 3, 8, 6),
        "cross_grids/2": _draw(2, 2, 8, 6),
        "cross_attention/2": _draw(1, 2, 8, 6).abs(),
        "self_grids/2": _draw(2, 2, 6, 8).mT,
        "source_features/4": _draw(1, 8, 4, 3),
        "picture/1": _draw(1, 3, 16, 12) / 2,
    }
    truth, look, smooth = measure_exercise(made, exercise, compare_pyramids)
    assert exercise.place is not None
    levels = [
        Level(made["picture/2"], made["cross_grids/2"], made["cross_attention/2"]),
        Level(made["picture/1"], None, None),
    ]
    torch.testing.assert_close(truth, measure_truth_loss(levels, {"truth": exercise.truth, "place": exercise.place}))
    torch.testing.assert_close(look, compare_pyramids(made["picture/1"], exercise.truth))
    bends = [measure_grid_bend(made[name]) for name in ("cross_grids/2", "self_grids/2")]
    torch.testing.assert_close(smooth, bends[0] + bends[1])


def test_what_is_not_judged_costs_nothing_and_teaches_nothing() -> None:
    judged = torch.zeros(1, 1, 16, 12)
    judged[..., 6:] = 1
    picture = _draw(1, 3, 16, 12).flip(3).requires_grad_()
    truth, look, smooth = measure_exercise({"picture/1": picture}, _make_exercise(judged), compare_pyramids)
    (truth + look).backward()
    assert picture.grad is not None
    assert float(picture.grad[..., :6].abs().max()) == 0.0
    assert float(picture.grad[..., 6:].abs().min()) > 0.0
    assert float(smooth) == 0.0
    nothing = measure_exercise({"picture/1": picture}, _make_exercise(0 * judged), compare_pyramids)
    assert [part.item() for part in nothing] == [0.0, 0.0, 0.0]


def test_the_loss_is_the_weighted_sum_and_reaches_the_student_alone() -> None:
    student, teacher = _build("sdafn_plus_tiny", 0), _build("sdafn_tiny", 1)
    batch = _load_batch()
    totals = []
    for look, smooth in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.5, 0.25)):
        loss = TutorLoss(student, teacher, set_exercise, compare_pyramids, look_weight=look, smooth_weight=smooth)
        totals.append(loss(batch))
    plain, look, smooth, both = (total.detach() for total in totals)
    torch.testing.assert_close(both, plain + 0.5 * (look - plain) + 0.25 * (smooth - plain))
    totals[-1].backward()
    assert all(parameter.grad is None for parameter in teacher.module.parameters())
    assert all(parameter.grad is not None for parameter in student.module.parameters())
    assert {id(parameter) for parameter in loss.parameters()} == {id(p) for p in student.module.parameters()}


@pytest.mark.parametrize("ends", [(2, 2), (0, 2), (0, 0)], ids=["foreground", "plain", "variety"])
def test_every_lesson_can_be_learned(ends: tuple[int, int]) -> None:
    student, teacher = _build("sdafn_plus_tiny", 0), _build("sdafn_tiny", 1)
    assert _learn(TutorLoss(student, teacher, set_exercise, compare_pyramids, **WEIGHTS), _load_batch(ends=ends)) < 0.8


def test_copying_can_be_learned() -> None:
    student, teacher = _build("sdafn_plus_tiny", 0), _build("sdafn_tiny", 1)
    assert _learn(TutorLoss(student, teacher, copy_teacher, compare_pyramids, **WEIGHTS), _load_batch()) < 0.8


def _learn(loss: TutorLoss, batch: dict[str, Tensor]) -> float:
    """Take 15 steps on one batch, and return the last loss in parts of the first."""
    loss.module.train()
    optimizer = torch.optim.Adam(loss.module.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        value = loss(batch)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses[-1] / losses[0]

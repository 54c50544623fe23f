"""The tutor: what the teacher gives the student, and what the student must make of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vtopt.optimize.data.pairs import Pair, open_pairs
from vtopt.optimize.errors import InputError
from vtopt.optimize.networks import InputSpec, Network
from vtopt.optimize.training.tutor import check_teacher, copy_teacher, set_exercise, tutor_pairs

SIZE = (8, 6)


class _Teacher(nn.Module):
    """Adds its pictures up, looks at one place with a quarter of its attention, at another with an eighth."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.0))

    def forward(self, reference: Tensor, clothes: Tensor) -> Tensor:
        pose, agnostic = reference.chunk(2, 1)
        return self.gain * (clothes / 2 + agnostic / 4 + pose / 8)

    def forward_targets(self, reference: Tensor, clothes: Tensor) -> dict[str, Tensor]:
        count = len(clothes)
        places = torch.tensor([[0.5, -0.5], [1.0, 0.0]]).repeat(count, 1)[:, :, None, None]
        attention = torch.tensor([0.25, 0.125]).view(1, 2, 1, 1)
        return {
            "picture/1": self(reference, clothes),
            "cross_grids/1": places.expand(-1, 2, *SIZE),
            "cross_attention/1": attention.expand(count, 2, *SIZE),
        }


def _make_teacher(module: nn.Module | None = None) -> Network:
    inputs = (InputSpec("reference", 6, picture=("pose", "agnostic")), InputSpec("clothes"))
    return Network(module=module or _Teacher(), inputs=inputs)


def _make_batch(count: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    names = ("truth", "clothes", "worn", "pose", "agnostic")
    batch = {name: torch.rand(count, 3, *SIZE, generator=generator) * 2 - 1 for name in names}
    return batch | {"judged": torch.rand(count, 1, *SIZE, generator=generator)}


def _dress(batch: Mapping[str, Tensor], garment: str) -> Tensor:
    return batch[garment] / 2 + batch["agnostic"] / 4 + batch["pose"] / 8


def test_the_exercise_is_the_teachers_picture_and_the_real_garment() -> None:
    batch = _make_batch()
    exercise = set_exercise(_make_teacher(), batch)
    torch.testing.assert_close(exercise.person, _dress(batch, "worn"))
    assert exercise.clothes is batch["clothes"]
    assert exercise.truth is batch["truth"]
    assert exercise.judged is batch["judged"]
    assert not exercise.person.requires_grad


def test_copying_is_the_real_person_and_the_teachers_picture() -> None:
    batch = _make_batch()
    exercise = copy_teacher(_make_teacher(), batch)
    assert exercise.person is batch["truth"]
    assert exercise.clothes is batch["worn"]
    torch.testing.assert_close(exercise.truth, _dress(batch, "worn"))
    assert bool((exercise.judged == 1).all())
    assert not exercise.truth.requires_grad


@pytest.mark.parametrize("make", [set_exercise, copy_teacher])
def test_places_are_where_the_teacher_looks(make: Any) -> None:
    place = make(_make_teacher(), _make_batch()).place
    expected = [0.25 * 0.5 + 0.125 * 1.0, 0.25 * -0.5, 0.375]
    torch.testing.assert_close(place, torch.tensor(expected).view(1, 3, 1, 1).expand(2, 3, *SIZE))


def test_a_teacher_without_flows_leads_nowhere() -> None:
    class Plain(nn.Module):
        def forward(self, reference: Tensor, clothes: Tensor) -> Tensor:
            return reference[:, :3] * 100

    exercise = set_exercise(_make_teacher(Plain()), _make_batch())
    assert exercise.place is None
    assert float(exercise.person.abs().max()) == 1.0


def test_a_teacher_of_person_and_clothes_sees_the_real_person() -> None:
    class Mixer(nn.Module):
        def forward(self, person: Tensor, clothes: Tensor) -> Tensor:
            return (person + clothes) / 2

    batch = {name: tensor for name, tensor in _make_batch().items() if name not in ("pose", "agnostic")}
    teacher = Network(module=Mixer(), inputs=(InputSpec("person"), InputSpec("clothes")))
    torch.testing.assert_close(set_exercise(teacher, batch).person, (batch["truth"] + batch["worn"]) / 2)


def test_tutored_pairs_show_the_person_in_the_next_garment() -> None:
    pairs = open_pairs(None, SIZE, 3)
    tutored = tutor_pairs(_make_teacher(), pairs)
    for index, (pair, made) in enumerate(zip(pairs, tutored, strict=True)):
        assert pair.pose is not None
        assert pair.agnostic is not None
        expected = pairs[(index + 1) % 3].clothes / 2 + pair.agnostic / 4 + pair.pose / 8
        np.testing.assert_allclose(made.person, expected, atol=1e-6)
        assert made.person.dtype == np.float32
        assert (made.name, made.truth is None) == (pair.name, False)


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        pytest.param(("truth", "pose", "agnostic"), None, id="everything"),
        pytest.param(("pose", "agnostic"), "needs truth of every pair; add test_truth/", id="no truth"),
        pytest.param(("truth",), "needs pose, agnostic of every pair; add test_pose/, test_agnostic/", id="no pose"),
    ],
)
def test_pairs_must_have_what_the_teacher_takes(given: tuple[str, ...], missing: str | None) -> None:
    blank = np.zeros((3, *SIZE), np.float32)
    optional = {name: blank if name in given else None for name in ("truth", "pose", "agnostic")}
    pair = Pair("p", blank, blank, edge=None, **optional)
    if missing is None:
        check_teacher(_make_teacher(), pair, "folder")
        return
    with pytest.raises(InputError, match=re.escape(f"folder: distillation {missing}")):
        check_teacher(_make_teacher(), pair, "folder")

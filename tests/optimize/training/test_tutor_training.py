"""Distillation in process: what it learns from, what it refuses, where it ends, and that it can be taken up again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from vtopt.optimize.artifacts import Size
from vtopt.optimize.data.synthetic import write_pairs
from vtopt.optimize.errors import InputError, NetworkError, OutputError, UsageError
from vtopt.optimize.networks import InputSpec, Network
from vtopt.optimize.training import tutor_training
from vtopt.optimize.training.tutor_loss import TutorLoss
from vtopt.optimize.training.tutor_training import Distillation, distill

SIZE = Size(32, 24)
REQUEST = Distillation(
    steps=4,
    foreground_steps=2,
    plain_steps=2,
    size=SIZE,
    batch_size=2,
    learning_rate=1e-2,
    validate_every=3,
    validation_count=2,
    workers=0,
)


class _Mixer(nn.Module):
    """Two convolutions of all its pictures."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))

    def forward(self, *pictures: Tensor) -> Tensor:
        return self.layers(torch.cat(pictures, 1))


@pytest.fixture
def student() -> Network:
    torch.manual_seed(0)
    return Network(_Mixer(6), (InputSpec("person"), InputSpec("clothes")), multiple_of=4, name="student")


@pytest.fixture
def teacher() -> Network:
    torch.manual_seed(1)
    inputs = (InputSpec("reference", 6, picture=("pose", "agnostic")), InputSpec("clothes"))
    return Network(_Mixer(9), inputs, multiple_of=8, name="teacher")


@pytest.fixture
def progress(tmp_path: Path) -> Path:
    return tmp_path / "student.training.pth"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs", 4, size=SIZE)


def _read_state(network: Network) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.module.state_dict().items()}


def _equals(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _copy(network: Network) -> Network:
    copied = _Mixer(6)
    copied.load_state_dict(network.module.state_dict())
    return replace(network, module=copied)


def _blacken(file: Path) -> None:
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(file)


def test_a_student_learns_and_the_teacher_stays(student: Network, teacher: Network, progress: Path) -> None:
    before = _read_state(teacher)
    figures = distill(student, teacher, replace(REQUEST, steps=40), progress)
    assert figures["psnr_best"] > figures["psnr_before"] + 3
    assert (figures["steps"], figures["validation_pairs"]) == (44, 2)
    assert not student.module.training
    assert _equals(before, _read_state(teacher))


def test_without_validation_it_ends_with_the_last_average(student: Network, teacher: Network, progress: Path) -> None:
    before = _read_state(student)
    assert distill(student, teacher, replace(REQUEST, validate_every=0), progress) == {"steps": 8}
    assert not _equals(before, _read_state(student))


@pytest.mark.parametrize("stop", [1, 3, 7])
@pytest.mark.parametrize("copying", [False, True])
def test_an_interrupted_distillation_ends_the_same(
    stop: int, copying: bool, student: Network, teacher: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = replace(REQUEST, copy_teacher=copying)
    whole, parts = _copy(student), _copy(student)
    figures = distill(whole, teacher, request, tmp_path / "whole.pth")
    forward, calls = TutorLoss.forward, iter(range(99))

    def interrupt(self: TutorLoss, batch: Any) -> Tensor:
        if next(calls) == stop:
            raise KeyboardInterrupt
        return forward(self, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TutorLoss, "forward", interrupt)
        distill(parts, teacher, request, tmp_path / "parts.pth")
    again = _copy(student)
    assert distill(again, teacher, request, tmp_path / "parts.pth") == figures
    assert _equals(_read_state(whole), _read_state(again))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"plain_steps": 3}, id="another curriculum"),
        pytest.param({"copy_teacher": True}, id="no tutor"),
        pytest.param({"smooth_weight": 1.0}, id="another loss"),
        pytest.param({"seed": 1}, id="another seed"),
        pytest.param({"coarse_size": Size(64, 48)}, id="another size"),
    ],
)
def test_another_distillations_file_is_refused(
    change: dict[str, Any], student: Network, teacher: Network, progress: Path
) -> None:
    distill(_copy(student), teacher, REQUEST, progress)
    with pytest.raises(OutputError, match="other settings"):
        distill(_copy(student), teacher, replace(REQUEST, **change), progress)
    forced, fresh = _copy(student), _copy(student)
    distill(forced, teacher, replace(REQUEST, **change), progress, force=True)
    distill(fresh, teacher, replace(REQUEST, **change), progress.with_name("fresh.pth"))
    assert _equals(_read_state(forced), _read_state(fresh))


def test_another_teachers_file_is_refused(student: Network, teacher: Network, progress: Path) -> None:
    distill(_copy(student), teacher, REQUEST, progress)
    with pytest.raises(OutputError, match="other settings"):
        distill(student, replace(teacher, module=_Mixer(9)), REQUEST, progress)


def test_workers_change_nothing(student: Network, teacher: Network, tmp_path: Path) -> None:
    one, other = _copy(student), _copy(student)
    distill(one, teacher, REQUEST, tmp_path / "a.pth")
    distill(other, teacher, replace(REQUEST, workers=1), tmp_path / "b.pth")
    assert _equals(_read_state(one), _read_state(other))


def test_lessons_follow_the_steps(
    student: Network, teacher: Network, progress: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged, heights, forward = [], [], TutorLoss.forward

    def watch(self: TutorLoss, batch: Any) -> Tensor:
        judged.append(bool((batch["judged"] == 1).all()))
        heights.append(batch["truth"].shape[2])
        return forward(self, batch)

    monkeypatch.setattr(TutorLoss, "forward", watch)
    request = replace(REQUEST, size=Size(64, 48), coarse_size=SIZE)
    distill(student, teacher, request, progress)
    assert judged == [False] * 2 + [True] * 6
    assert heights == [32] * 4 + [64] * 4
    assert REQUEST.lesson_ends == (4, 8)
    assert replace(REQUEST, copy_teacher=True).lesson_ends == (0, 0)


def test_the_person_of_a_folder_is_never_seen(student: Network, teacher: Network, pairs: Path, tmp_path: Path) -> None:
    """It may wear the very garment; what is learned from and validated on is the teacher's picture."""
    made = []
    for number in range(2):
        own = _copy(student)
        figures = distill(own, teacher, replace(REQUEST, pairs=pairs), tmp_path / f"{number}.pth")
        made.append((figures, _read_state(own)))
        for file in (pairs / "test_img").iterdir():
            _blacken(file)
    assert made[0][0] == made[1][0]
    assert _equals(made[0][1], made[1][1])


def test_the_last_tenth_is_held_out(student: Network, teacher: Network, pairs: Path, tmp_path: Path) -> None:
    states = []
    for spoiled in (None, "000003_0.png", "000000_0.png"):
        if spoiled:
            _blacken(pairs / "test_truth" / spoiled)
        own = _copy(student)
        request = replace(REQUEST, pairs=pairs, validate_every=0)
        distill(own, teacher, request, tmp_path / f"{spoiled}.pth")
        states.append(_read_state(own))
    assert _equals(states[0], states[1])
    assert not _equals(states[1], states[2])


@pytest.mark.parametrize("place", ["test_truth", "test_pose", "test_agnostic"])
def test_pairs_without_what_it_needs_are_refused(
    place: str, student: Network, teacher: Network, pairs: Path, progress: Path
) -> None:
    shutil.rmtree(pairs / place)
    with pytest.raises(InputError, match=rf"pairs: distillation needs .* of every pair; add {place}/"):
        distill(student, teacher, replace(REQUEST, pairs=pairs), progress)


def test_two_pairs_are_too_few(student: Network, teacher: Network, tmp_path: Path, progress: Path) -> None:
    folder = write_pairs(tmp_path / "two", 2, size=SIZE)
    with pytest.raises(InputError, match="two: has 2 pairs, distillation needs 3"):
        distill(student, teacher, replace(REQUEST, pairs=folder), progress)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"size": Size(36, 27)}, "size 36x27: .* divisible by 4", id="the student cannot take it"),
        pytest.param({"size": Size(48, 36)}, "size 48x36: .* divisible by 8", id="the teacher cannot take it"),
        pytest.param({"coarse_size": Size(48, 36)}, "size 48x36: .* divisible by 8", id="nor in the first lessons"),
        pytest.param({"size": Size(32, 32)}, "size 32x32: drawn pairs are 4:3", id="it cannot be drawn"),
        pytest.param(
            {"steps": 0, "plain_steps": 0, "foreground_steps": 0}, "nothing to do in 0 steps", id="there are no steps"
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    change: dict[str, Any], message: str, student: Network, teacher: Network, progress: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        distill(student, teacher, replace(REQUEST, **change), progress)
    assert not progress.exists()


def test_a_student_that_needs_the_pose_is_refused(teacher: Network, progress: Path) -> None:
    with pytest.raises(NetworkError, match=r"student 'teacher' takes pose\+agnostic, which no exercise has"):
        distill(teacher, teacher, REQUEST, progress)


def test_perceptual_loss_comes_from_the_file_given(
    student: Network, teacher: Network, progress: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Path | None] = []

    def make(vgg: Path | None, device: Any) -> Callable[[Tensor, Tensor], Tensor]:
        asked.append(vgg)
        return lambda picture, truth: (picture - truth).abs().mean()

    monkeypatch.setattr(tutor_training, "make_perceptual_loss", make)
    (tmp_path / "vgg.pth").write_bytes(b"weights")
    distill(student, teacher, replace(REQUEST, vgg=tmp_path / "vgg.pth"), progress)
    assert asked == [tmp_path / "vgg.pth"]

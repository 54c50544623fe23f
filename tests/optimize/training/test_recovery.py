"""Recovery in process, as pruning calls it: what it learns from, what it refuses, where it ends."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vtopt.optimize.artifacts import Size
from vtopt.optimize.data.synthetic import write_pairs
from vtopt.optimize.errors import NetworkError, OutputError, UsageError
from vtopt.optimize.networks import InputSpec, Network, build_network
from vtopt.optimize.training import loop
from vtopt.optimize.training import student as training_student
from vtopt.optimize.training.recovery import Recovery, recover
from vtopt.optimize.training.state import Training

REQUEST = Recovery(
    steps=4, coarse_steps=2, batch_size=1, learning_rate=1e-2, validate_every=3, validation_count=2, workers=0
)


pytestmark = pytest.mark.usefixtures("one_thread")


def _read_state(network: Network) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.module.state_dict().items()}


def _equals(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _copy(network: Network) -> Network:
    copied = build_network(network.name)
    copied.module.load_state_dict(network.module.state_dict())
    return copied


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs", 3, size=(32, 24))


def test_a_student_comes_nearer_to_its_teacher(student: Network, teacher: Network) -> None:
    before = _read_state(teacher)
    figures = recover(student, teacher, replace(REQUEST, steps=14, learning_rate=5e-2, truth=False))
    assert figures["against"] == "teacher"
    assert figures["psnr_best"] > figures["psnr_before"] + 2
    assert figures["steps"] == 16
    assert not student.module.training
    assert _equals(before, _read_state(teacher))


def test_without_a_teacher_it_learns_the_truth(student: Network) -> None:
    figures = recover(student, None, replace(REQUEST, steps=14, learning_rate=5e-2))
    assert figures["against"] == "truth"
    assert figures["psnr_best"] > figures["psnr_before"] + 2


def test_without_validation_it_ends_with_the_last_average(student: Network, teacher: Network) -> None:
    before = _read_state(student)
    assert recover(student, teacher, replace(REQUEST, validate_every=0)) == {"steps": 6}
    assert not _equals(before, _read_state(student))


def test_a_student_that_only_becomes_worse_stays_as_it_was(student: Network) -> None:
    before = _read_state(student)
    figures = recover(student, _copy(student), replace(REQUEST, truth=False))
    assert figures["psnr_best"] == figures["psnr_before"] == 100.0
    assert figures["best_step"] == 0
    assert _equals(before, _read_state(student))


def test_truth_that_is_not_wanted_changes_nothing(student: Network, teacher: Network, pairs: Path) -> None:
    states = []
    for truth in (True, False):
        for spoiled in (False, True):
            folder = pairs.with_name(f"pairs-{truth}-{spoiled}")
            shutil.copytree(pairs, folder)
            for file in (folder / "test_truth").iterdir() if spoiled else ():
                Image.fromarray(np.zeros((32, 24, 3), np.uint8)).save(file)
            own = _copy(student)
            figures = recover(own, teacher, replace(REQUEST, pairs=folder, truth=truth))
            assert figures["against"] == ("truth" if truth else "teacher")
            states.append(_read_state(own))
    assert not _equals(states[0], states[1])
    assert _equals(states[2], states[3])


def test_the_last_tenth_is_held_out(student: Network, teacher: Network, pairs: Path) -> None:
    """The last pair of three changes no weight; the first does."""
    request = replace(REQUEST, validate_every=0, pairs=pairs)
    states = []
    for spoiled in (None, "000002_0.png", "000000_0.png"):
        if spoiled:
            Image.fromarray(np.zeros((32, 24, 3), np.uint8)).save(pairs / "test_img" / spoiled)
        own = _copy(student)
        recover(own, teacher, request)
        states.append(_read_state(own))
    assert _equals(states[0], states[1])
    assert not _equals(states[1], states[2])


def test_one_pair_is_learned_from_and_validated_on(student: Network, teacher: Network, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "one", 1, size=(32, 24))
    notices: list[str] = []
    assert recover(student, teacher, replace(REQUEST, pairs=pairs), notices=notices)["validation_pairs"] == 1
    assert notices == [
        f"{pairs} has one pair, which was learned from and validated on; give more to know what it is worth"
    ]
    recover(student, teacher, replace(REQUEST, pairs=write_pairs(tmp_path / "two", 2, size=(32, 24))), notices=notices)
    assert len(notices) == 1


def test_pairs_without_truth_need_a_teacher(student: Network, teacher: Network, pairs: Path) -> None:
    shutil.rmtree(pairs / "test_truth")
    with pytest.raises(UsageError, match=r"pairs: has no truth pictures to learn from; pass --teacher ORIGINAL"):
        recover(student, None, replace(REQUEST, pairs=pairs))
    assert recover(student, teacher, replace(REQUEST, pairs=pairs))["against"] == "teacher"


def test_neither_teacher_nor_truth_is_refused(student: Network) -> None:
    with pytest.raises(UsageError, match="nothing to learn from; pass --teacher"):
        recover(student, None, replace(REQUEST, truth=False))


def test_a_teacher_with_other_inputs_is_refused(student: Network) -> None:
    teacher = replace(student, inputs=(InputSpec("person", 6), InputSpec("clothes")))
    message = (
        "the student takes person with 3 channels, clothes with 3 channels, edge with 1 channels, "
        "the teacher person with 6 channels, clothes with 3 channels; choose a teacher"
    )
    with pytest.raises(NetworkError, match=message):
        recover(student, teacher, REQUEST)


@pytest.mark.parametrize("size", [Size(32, 32), Size(44, 33), Size(16, 12)], ids=str)
def test_a_size_that_cannot_be_drawn_is_refused(size: Size, student: Network, teacher: Network) -> None:
    with pytest.raises(UsageError, match=rf"size {size}: "):
        recover(student, teacher, replace(REQUEST, size=size))


def test_half_a_size_is_one_that_can_be_drawn(student: Network, teacher: Network) -> None:
    """Half of 48x36 would be 24x18, which neither the pairs nor the network can be."""
    assert recover(student, teacher, replace(REQUEST, size=Size(48, 36)))["steps"] == 6


def test_pairs_of_a_folder_may_have_any_shape(student: Network, teacher: Network, pairs: Path) -> None:
    recover(student, teacher, replace(REQUEST, pairs=pairs, size=Size(16, 32)))
    with pytest.raises(UsageError, match=r"size 18x32: network .* needs height and width divisible by 4"):
        recover(student, teacher, replace(REQUEST, pairs=pairs, size=Size(18, 32)))


@pytest.mark.parametrize("change", [{"seed": 1}, {"learning_rate": 1e-3}, {"truth": False}], ids=str)
def test_a_state_of_other_settings_is_refused_unless_forced(
    change: dict[str, object], student: Network, teacher: Network, tmp_path: Path
) -> None:
    state = tmp_path / "state.pth"
    recover(_copy(student), teacher, REQUEST, state)
    other = replace(REQUEST, **change)  # type: ignore[arg-type]
    with pytest.raises(OutputError, match=r"state\.pth: holds a training with other settings; .*--force"):
        recover(_copy(student), teacher, other, state)
    forced, plain = _copy(student), _copy(student)
    recover(forced, teacher, other, state, force=True)
    recover(plain, teacher, other)
    assert _equals(_read_state(forced), _read_state(plain))


def test_a_state_of_other_weights_or_pairs_is_refused(
    student: Network, teacher: Network, pairs: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state.pth"
    request = replace(REQUEST, pairs=pairs)
    recover(_copy(student), teacher, request, state)
    with pytest.raises(OutputError, match="other settings"):
        recover(_copy(teacher), teacher, request, state)
    Image.fromarray(np.zeros((32, 24, 3), np.uint8)).save(pairs / "test_img" / "000000_0.png")
    with pytest.raises(OutputError, match="other settings"):
        recover(_copy(student), teacher, request, state)


def test_a_state_of_other_versions_is_taken_up_and_told(
    student: Network, teacher: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(training: Training, *rest: Any) -> float:
        if training.step == 3:
            raise KeyboardInterrupt
        return take_step(training, *rest)

    take_step, state = loop.take_step, tmp_path / "state.pth"
    for version in ("1.0", "1.1"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(training_student, "list_versions", lambda version=version: {"torch": version})
            patch.setattr(loop, "take_step", interrupt)
            recover(_copy(student), teacher, REQUEST, state)
    monkeypatch.setattr(training_student, "list_versions", lambda: {"torch": "1.1"})
    notices: list[str] = []
    recover(_copy(student), teacher, REQUEST, state, notices=notices)
    assert notices == [
        "taken up with other versions (torch 1.0, then 1.1): trained in one go it would have other bytes"
    ]
    notices.clear()
    recover(_copy(student), teacher, REQUEST, notices=notices)
    assert notices == []


def test_the_number_of_workers_is_no_other_setting(student: Network, teacher: Network, tmp_path: Path) -> None:
    state = tmp_path / "state.pth"
    one, other = _copy(student), _copy(student)
    recover(one, teacher, REQUEST, state)
    recover(other, teacher, replace(REQUEST, workers=1), state)
    assert _equals(_read_state(one), _read_state(other))


def test_bfloat16_on_a_cpu_trains_too(student: Network, teacher: Network) -> None:
    figures = recover(student, teacher, replace(REQUEST, precision="bf16"))
    assert all(tensor.dtype == torch.float32 for tensor in student.module.state_dict().values())
    assert figures["steps"] == 6


def test_a_network_of_pose_and_agnostic_person_is_recovered_too(pairs: Path) -> None:
    small = {"pyramid_widths": (4, 6), "pyramid_dim": 8, "heads": 2, "mfe_filters": (8,), "shallow_hidden": 4}
    torch.manual_seed(0)
    student = build_network("sdafn_tiny", small)
    request = replace(REQUEST, steps=1, coarse_steps=0, size=Size(32, 24))
    assert recover(student, _copy_as(student, small), request)["steps"] == 1
    assert recover(student, _copy_as(student, small), replace(request, pairs=pairs))["steps"] == 1


def _copy_as(network: Network, config: dict[str, object]) -> Network:
    return build_network(network.name, config)

"""vtopt distill: from the teacher's weights to a student's, and what the file says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_sdafn import SMALL

from vtopt.optimize.artifacts import Size, hash_artifact
from vtopt.optimize.distill import distill_network
from vtopt.optimize.errors import InputError, NetworkError, OutputError
from vtopt.optimize.networks import NETWORKS, build_network
from vtopt.optimize.provenance import CONFIG, NETWORK, read_history, read_metadata
from vtopt.optimize.training.tutor_loss import TutorLoss
from vtopt.optimize.weights import describe_network, load_network, save_weights

SETTINGS: dict[str, Any] = {
    "size": Size(32, 24),
    "foreground_steps": 1,
    "plain_steps": 1,
    "steps": 2,
    "batch_size": 2,
    "validate_every": 2,
    "validation_count": 1,
    "workers": 0,
}


@pytest.fixture(autouse=True)
def _small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sdafn_tiny", "sdafn_plus_tiny"):
        monkeypatch.setitem(NETWORKS, name, (NETWORKS[name][0], SMALL))  # type: ignore[arg-type]


def _save(name: str, path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    network = build_network(name)
    save_weights(network.module.state_dict(), path, describe_network(name, network))
    return path


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    return _save("sdafn_tiny", tmp_path / "teacher.safetensors", 1)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "student.safetensors"


def test_a_student_is_written_that_says_how_it_was_made(teacher: Path, output: Path) -> None:
    assert distill_network(teacher, output, **SETTINGS) == output
    metadata, (record,) = read_metadata(output), read_history(output)
    assert metadata[NETWORK] == "sdafn_plus_tiny"
    assert json.loads(metadata[CONFIG])["reference_channels"] == 3
    assert (record.step, record.parent) == ("distill", "teacher.safetensors")
    assert record.settings["size"] == record.settings["coarse_size"] == "32x24"
    assert "workers" not in record.settings
    assert record.settings["network"] == "sdafn_plus_tiny"
    assert record.figures["steps"] == 4
    assert [spec.fed_by for spec in load_network(output).inputs] == ["person", "clothes"]
    assert {path.name for path in output.parent.iterdir()} == {"teacher.safetensors", "student.safetensors"}


def test_the_same_command_gives_the_same_bytes_also_interrupted(
    teacher: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distill_network(teacher, output, **SETTINGS)
    forward, calls = TutorLoss.forward, iter(range(99))

    def interrupt(self: TutorLoss, batch: Any) -> torch.Tensor:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return forward(self, batch)

    again = output.with_name("again.safetensors")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TutorLoss, "forward", interrupt)
        distill_network(teacher, again, **SETTINGS)
    assert again.with_suffix(".training.pth").exists()
    assert not again.exists()
    distill_network(teacher, again, **SETTINGS)
    assert again.read_bytes() == output.read_bytes()


def test_a_student_may_begin_with_weights(teacher: Path, output: Path, tmp_path: Path) -> None:
    begun = _save("sdafn_plus_tiny", tmp_path / "begun.safetensors", 5)
    rest = {"foreground_steps": 0, "plain_steps": 0, "steps": 1, "learning_rate": 0.0}
    distill_network(teacher, output, **SETTINGS | rest, student=begun)
    made, before = (dict(load_network(file).module.named_parameters()) for file in (output, begun))
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.items())
    settings = read_history(output)[-1].settings
    assert settings["student"] == "begun.safetensors"
    assert settings["student_sha256"] == hash_artifact(begun)


def test_random_students_differ_by_seed(teacher: Path, tmp_path: Path) -> None:
    rest = SETTINGS | {"foreground_steps": 0, "plain_steps": 0, "steps": 1, "validate_every": 0}
    files = [
        distill_network(teacher, tmp_path / f"{n}.safetensors", **rest, seed=seed) for n, seed in enumerate((0, 0, 3))
    ]
    first, second, third = (load_network(file).module.state_dict() for file in files)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert any(not torch.equal(tensor, third[name]) for name, tensor in first.items())


def test_copying_the_teacher_is_said(teacher: Path, output: Path) -> None:
    distill_network(teacher, output, **SETTINGS, copy_teacher=True)
    assert read_history(output)[-1].settings["copy_teacher"] is True


def test_an_output_that_exists_is_refused_before_any_work(teacher: Path, output: Path) -> None:
    output.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        distill_network(teacher, output, **SETTINGS)
    assert output.read_bytes() == b"mine"


def test_a_teacher_is_no_student(teacher: Path, output: Path) -> None:
    with pytest.raises(NetworkError, match=r"student 'sdafn_tiny' takes agnostic, pose\+agnostic"):
        distill_network(teacher, output, **SETTINGS, network="sdafn_tiny")


def test_a_vgg_file_that_is_none_is_refused(teacher: Path, output: Path) -> None:
    with pytest.raises(InputError, match="is not torchvision's vgg19"):
        distill_network(teacher, output, **SETTINGS, vgg=teacher)

"""vtopt finetune brings registered networks of every kind back: what they are fed with, what they learn from."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_registered import SMALL, build_small

from vtopt.optimize.artifacts import Size
from vtopt.optimize.data.synthetic import write_pairs
from vtopt.optimize.errors import InputError, UsageError
from vtopt.optimize.export import export_onnx, make_example
from vtopt.optimize.finetune import finetune_network
from vtopt.optimize.nested import list_tensors
from vtopt.optimize.networks.spectral_norm import fold_network
from vtopt.optimize.networks.widths import PRUNED, find_pruned, list_shapes
from vtopt.optimize.provenance import read_history
from vtopt.optimize.pruning.removal import PruningRequest, prune_module
from vtopt.optimize.weights import describe_network, load_network, save_weights

QUICK = ("pfafn_gen",)
SLOW = (
    "pfafn",
    "pfafn_warp",
    "hrviton_tocg",
    "hrviton_gen",
    "hrviton",
    "completion_shape",
    "completion_texture",
    "completion",
    "sdafn_tiny",
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("drawn") / "pairs", 3, size=(64, 48))


def _write_teacher(folder: Path, name: str) -> Path:
    network = build_small(name)
    path = folder / "original.safetensors"
    save_weights(network.module.state_dict(), path, describe_network(name, network))
    return path


def _write_pruned(folder: Path, name: str) -> Path:
    network = fold_network(build_small(name))
    full = list_shapes(network.module)
    example = make_example(network, Size(*network.size), 1, 0)
    prune_module(network, PruningRequest({"": 0.4}, round_to=1), example)
    network = replace(network, config={**network.config, PRUNED: find_pruned(network.module, full)})
    path = folder / "pruned.safetensors"
    save_weights(network.module.state_dict(), path, describe_network(name, network))
    return path


def _finetune(source: Path, teacher: Path | None, pairs: Path | None, size: Size, validate_every: int = 1) -> Path:
    return finetune_network(
        *(source, source.with_name("recovered.safetensors")),
        teacher=teacher,
        pairs=pairs,
        size=size,
        steps=2,
        batch_size=2,
        validate_every=validate_every,
        validation_count=1,
        workers=0,
    )


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_a_pruned_network_learns_from_its_teacher_and_is_exported(name: str, drawn: Path, tmp_path: Path) -> None:
    source, size = _write_pruned(tmp_path, name), Size(*SMALL[name][1])
    output = _finetune(source, _write_teacher(tmp_path, name), drawn, size, validate_every=0)
    before, after = load_network(source), load_network(output)
    assert any(
        not torch.equal(tensor, other)
        for tensor, other in zip(before.module.parameters(), after.module.parameters(), strict=True)
    )
    with torch.no_grad():
        made = list_tensors(after.module(*make_example(after, size, 1, 0)))
    assert all(tensor.isfinite().all() for tensor in made)
    notices = read_history(output)[-1].notices
    told = any("it learned from the teacher, and not from the truth" in said for said in notices)
    assert told == bool(before.without_truth)
    assert export_onnx(output, tmp_path / "net.onnx", size=size, pair_count=1).exists()


@pytest.mark.parametrize("name", ["pfafn_warp_aligned", "hrviton_gen", "completion_shape"])
def test_what_no_truth_shows_needs_a_teacher(name: str, tmp_path: Path) -> None:
    source = _write_teacher(tmp_path, name)
    with pytest.raises(UsageError, match=rf"^network '{name}' .*, so the truth .*; pass --teacher ORIGINAL$"):
        _finetune(source, None, None, Size(*SMALL[name][1]))


def test_drawn_pairs_feed_what_they_are_asked_for(tmp_path: Path) -> None:
    teacher = _write_teacher(tmp_path, "hrviton_tocg")
    output = _finetune(teacher, teacher, None, Size(128, 96))
    figures = read_history(output)[-1].figures
    assert (figures["steps"], figures["against"]) == (2, "teacher")


def test_pairs_that_lack_a_picture_are_refused_before_work(drawn: Path, tmp_path: Path) -> None:
    pairs = shutil.copytree(drawn, tmp_path / "pairs")
    shutil.rmtree(pairs / "test_parse_agnostic")
    teacher = _write_teacher(tmp_path, "hrviton_tocg")
    with pytest.raises(InputError, match=r"has no 'parse_agnostic'; add test_parse_agnostic/ to the pairs"):
        _finetune(teacher, teacher, pairs, Size(64, 96))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["original.safetensors", "pairs"]


def test_a_person_that_stood_in_is_told(drawn: Path, tmp_path: Path) -> None:
    pairs = shutil.copytree(drawn, tmp_path / "pairs")
    shutil.rmtree(pairs / "test_pose")
    teacher = _write_teacher(tmp_path, "sdafn_tiny")
    output = _finetune(teacher, teacher, pairs, Size(64, 48))
    record = read_history(output)[-1]
    assert record.figures["against"] == "truth"
    (said,) = [said for said in record.notices if "stood in" in said]
    assert "has no pose: the person stood in; add test_pose/ to the pairs" in said

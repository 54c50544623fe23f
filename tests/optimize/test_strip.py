"""Stripping: the weights alone are kept, unchanged, and a failure leaves nothing behind."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vtopt.optimize import strip
from vtopt.optimize.artifacts import hash_artifact
from vtopt.optimize.errors import DifferenceError, InputError, NetworkError, OutputError, UsageError, VtoptError
from vtopt.optimize.networks import build_network
from vtopt.optimize.provenance import read_history, read_metadata
from vtopt.optimize.strip import strip_checkpoint
from vtopt.optimize.weights import describe_network, load_network

NAME = "sdafn_plus_tiny"
SMALL = {
    "pyramid_widths": (4, 6),
    "pyramid_dim": 8,
    "heads": 2,
    "mfe_filters": (4, 4),
    "shallow_hidden": 4,
    "shallow_dim": 4,
}


def _make_checkpoint() -> dict[str, Any]:
    """What training of a small network leaves, with the two moments of Adam."""
    torch.manual_seed(0)
    network = build_network(NAME, SMALL)
    weights = network.module.state_dict()
    moments = {
        index: {name: torch.zeros_like(tensor, dtype=torch.float32) for name in ("exp_avg", "exp_avg_sq")}
        for index, tensor in enumerate(weights.values())
    }
    return {
        "network": NAME,
        "config": dict(network.config),
        "state_dict": weights,
        "optimizer": {"state": moments, "param_groups": [{"lr": 1e-4}]},
        "opt": argparse.Namespace(batch=4),
        "epoch": 7,
        "loss": 0.125,
    }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return _save(_make_checkpoint(), tmp_path / "in" / "net.pth")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out" / "net.safetensors"


def _save(checkpoint: Any, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    torch.save(checkpoint, path)
    return path


def _list_left(output: Path) -> list[Path]:
    return sorted(output.parent.iterdir()) if output.parent.exists() else []


def test_strip(source: Path, output: Path) -> None:
    weights = _make_checkpoint()["state_dict"]
    assert strip_checkpoint(source, output) == output
    written = load_file(output)
    assert sorted(written) == sorted(weights)
    assert all(torch.equal(written[name], tensor) for name, tensor in weights.items())
    assert output.stat().st_size < source.stat().st_size / 2
    assert _list_left(output) == [output]


def test_strip_records_what_it_did(source: Path, output: Path) -> None:
    checkpoint = _make_checkpoint()
    (record,) = read_history(strip_checkpoint(source, output))
    moments = sum(2 * 4 * tensor.numel() for tensor in checkpoint["state_dict"].values())
    assert (record.step, record.parent, record.parent_sha256) == ("strip", "net.pth", hash_artifact(source))
    assert record.parent_bytes == source.stat().st_size
    assert record.settings == {"network": None, "key": None}
    assert record.figures == {
        "kept": len(checkpoint["state_dict"]),
        "dropped": [f"optimizer ({moments / 1e6:.1f} MB)", "opt", "epoch", "loss"],
        "from": "state_dict",
    }
    assert list(record.notices) == []


def test_stripped_weights_load_into_their_network(source: Path, output: Path) -> None:
    network = load_network(strip_checkpoint(source, output))
    metadata = read_metadata(output)
    assert describe_network(NAME, network).items() <= metadata.items()
    trained = _make_checkpoint()["state_dict"]
    assert all(torch.equal(tensor, trained[name]) for name, tensor in network.module.state_dict().items())


def test_the_network_may_be_named_by_the_user(tmp_path: Path, output: Path) -> None:
    weights = build_network(NAME).module.state_dict()
    strip_checkpoint(_save(weights, tmp_path / "in" / "net.pth"), output, network=NAME)
    assert describe_network(NAME, build_network(NAME)).items() <= read_metadata(output).items()


def test_an_unknown_network_is_noted(tmp_path: Path, output: Path) -> None:
    strip_checkpoint(_save({"weight": torch.ones(2)}, tmp_path / "in" / "net.pth"), output)
    (record,) = read_history(output)
    assert set(read_metadata(output)) == {"vtopt.history"}
    assert "pass --network" in record.notices[-1]


def test_strip_noop_on_stripped_weights(source: Path, output: Path) -> None:
    again = strip_checkpoint(strip_checkpoint(source, output), output.with_name("again.safetensors"))
    first, second = load_file(output), load_file(again)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert describe_network(NAME, build_network(NAME, SMALL)).items() <= read_metadata(again).items()
    assert [record.parent for record in read_history(again)] == ["net.pth", "net.safetensors"]


def test_tied_views_and_odd_types_are_written_bit_for_bit(tmp_path: Path, output: Path) -> None:
    table = torch.arange(12.0).reshape(3, 4)
    weights = {
        "tied": table,
        "tied_too": table,
        "turned": table.t(),
        "negative_zero": torch.tensor([-0.0, 0.0]),
        "half": torch.tensor([1 / 3], dtype=torch.bfloat16),
        "none": torch.ones(0, 3),
        "count": torch.tensor(3),
        "mask": torch.tensor([True, False]),
    }
    strip_checkpoint(_save(weights, tmp_path / "in" / "net.pth"), output)
    written = load_file(output)
    assert all(written[name].dtype == tensor.dtype for name, tensor in weights.items())
    assert all(torch.equal(written[name], tensor) for name, tensor in weights.items())
    assert torch.signbit(written["negative_zero"]).tolist() == [True, False]


def test_the_same_checkpoint_gives_the_same_bytes(source: Path, output: Path) -> None:
    other = output.with_name("other.safetensors")
    assert strip_checkpoint(source, output).read_bytes() == strip_checkpoint(source, other).read_bytes()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_named(tmp_path: Path, output: Path, value: float) -> None:
    weights = {"good": torch.ones(2), "bad": torch.tensor([1.0, value]), "count": torch.tensor(3)}
    path = _save({"model": weights}, tmp_path / "in" / "net.pth")
    with pytest.raises(InputError, match=r"net\.pth: NaN or infinite values in bad;"):
        strip_checkpoint(path, output)
    assert _list_left(output) == []


def test_values_that_are_not_finite_may_be_dropped(tmp_path: Path, output: Path) -> None:
    path = _save({"model": {"w": torch.ones(2)}, "loss": torch.tensor(float("nan"))}, tmp_path / "net.pth")
    assert list(load_file(strip_checkpoint(path, output))) == ["w"]


def _rename(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.replace("dafnet", "flownet"): tensor for name, tensor in weights.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(_rename, r"missing: dafnet\.\S+, .* and \d+ more; unexpected: flownet\.", id="renamed"),
        pytest.param(
            lambda weights: {name: tensor[:1] if tensor.dim() else tensor for name, tensor in weights.items()},
            r"of another shape: \S+ \[1.*\(the network has \[",
            id="cut",
        ),
        pytest.param(lambda weights: {**weights, "extra": torch.ones(1)}, r"unexpected: extra\.", id="one more"),
    ],
)
def test_weights_of_another_network_are_summed_up(tmp_path: Path, output: Path, change: Any, message: str) -> None:
    checkpoint = _make_checkpoint()
    checkpoint["state_dict"] = change(checkpoint["state_dict"])
    with pytest.raises(NetworkError, match=message) as caught:
        strip_checkpoint(_save(checkpoint, tmp_path / "in" / "net.pth"), output)
    assert f"net.pth as {NAME}: the weights do not fit" in str(caught.value)
    assert _list_left(output) == []


def test_a_network_the_user_misnames_is_refused(source: Path, output: Path) -> None:
    with pytest.raises(NetworkError, match="'resnet' is not known"):
        strip_checkpoint(source, output, network="resnet")
    assert _list_left(output) == []


def test_an_existing_output_is_refused_and_untouched(source: Path, output: Path) -> None:
    output.parent.mkdir()
    output.write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"exists already; .*--force"):
        strip_checkpoint(source, output)
    assert output.read_bytes() == b"precious"
    strip_checkpoint(source, output, force=True)
    assert len(load_file(output)) == len(_make_checkpoint()["state_dict"])
    assert _list_left(output) == [output]


def test_stripped_weights_can_be_stripped_in_place(source: Path, output: Path) -> None:
    strip_checkpoint(source, output)
    before = load_file(output)
    strip_checkpoint(output, output, force=True)
    assert load_file(output).keys() == before.keys()
    assert len(read_history(output)) == 2


def test_an_output_of_another_kind_is_refused(source: Path, output: Path) -> None:
    with pytest.raises(OutputError, match=r"name it net\.safetensors"):
        strip_checkpoint(source, output.with_suffix(".pth"))
    assert _list_left(output) == []


def test_weights_changed_in_writing_are_refused(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save_wrongly(weights: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        changed = dict(weights)
        first = min(changed)
        changed[first] = changed[first].nextafter(torch.tensor(9.0))
        save_weights(changed, path, metadata)

    save_weights = strip.save_weights
    monkeypatch.setattr(strip, "save_weights", save_wrongly)
    with pytest.raises(DifferenceError, match=r"net\.safetensors: changed in writing: dafnet\.\S+; "):
        strip_checkpoint(source, output)
    assert _list_left(output) == []


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_leaves_nothing(source: Path, output: Path, part: float) -> None:
    source.write_bytes(source.read_bytes()[: int(source.stat().st_size * part)])
    with pytest.raises(InputError):
        strip_checkpoint(source, output)
    assert _list_left(output) == []


def test_several_sets_of_weights_ask_for_a_key(tmp_path: Path, output: Path) -> None:
    both = {"netG": {"weight": torch.ones(2)}, "netD": {"weight": torch.zeros(3)}}
    path = _save(both, tmp_path / "in" / "net.pth")
    with pytest.raises(VtoptError, match=r"--key: netG \(.*\), netD \(.*\)$"):
        strip_checkpoint(path, output)
    assert _list_left(output) == []
    strip_checkpoint(path, output, key="netD")
    assert load_file(output)["weight"].shape == (3,)
    assert read_history(output)[0].settings == {"network": None, "key": "netD"}


def _save_parts(network: str, folder: Path) -> list[Path]:
    """A checkpoint of each part, as its own training leaves it: the second has a wrapper's prefix and an optimizer."""
    torch.manual_seed(0)
    first, second = (module.state_dict() for _, module in build_network(network).module.named_children())
    wrapped = {f"module.{name}": tensor for name, tensor in second.items()}
    return [
        _save(first, folder / "first.pth"),
        _save({"state_dict": wrapped, "optimizer": {"lr": 1e-4}}, folder / "second.pth"),
    ]


@pytest.mark.parametrize("network", ["small_parts:build_pfafn", "small_parts:build_hrviton"])
def test_two_checkpoints_become_one_network(network: str, tmp_path: Path, output: Path) -> None:
    first, second = _save_parts(network, tmp_path / "in")
    strip_checkpoint(second, output, network=network, with_=[first])
    torch.manual_seed(0)
    expected = build_network(network).module.state_dict()
    written = load_file(output)
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in expected.items())
    assert load_network(output, network).name == network
    parts = [name for name, _ in build_network(network).module.named_children()]
    (record,) = read_history(output)
    assert (record.parent, record.parent_sha256) == ("second.pth", hash_artifact(second))
    assert record.settings["with"] == "first.pth"
    files = dict(zip(parts, (first, second), strict=True))
    assert record.figures["files"] == {part: path.name for part, path in files.items()}
    assert record.figures["sha256"] == {part: hash_artifact(path) for part, path in files.items()}
    assert record.figures["from"] == dict(zip(parts, ("the top level", "state_dict"), strict=True))
    assert record.figures["kept"] == len(expected)
    assert record.figures["dropped"] == ["second.pth: optimizer"]
    assert record.notices[0] == "second.pth: removed 'module.' from the names"
    again = strip_checkpoint(second, output.with_name("again.safetensors"), network=network, with_=[first])
    assert again.read_bytes() == output.read_bytes()


def test_parts_that_do_not_make_a_whole_leave_nothing(tmp_path: Path, output: Path) -> None:
    network = "small_parts:build_pfafn"
    first, second = _save_parts(network, tmp_path / "in")
    other = _save({"weight": torch.ones(2)}, tmp_path / "in" / "other.pth")
    for paths, error, message in (
        (
            [first, other],
            NetworkError,
            r"other\.pth: the weights fit no part of small_parts:build_pfafn, which has warp",
        ),
        ([first, second, first], UsageError, r"a file is named twice"),
    ):
        with pytest.raises(error, match=message):
            strip_checkpoint(paths[0], output, network=network, with_=paths[1:])
    with pytest.raises(UsageError, match="name that with --network"):
        strip_checkpoint(first, output, with_=[second])
    assert _list_left(output) == []


@pytest.mark.parametrize(
    ("asked", "seed"),
    [({}, None), ({"noise": 3}, 3), ({"set_": ["noise_seed=4"]}, 4), ({"set_": ["noise_seed=null"]}, None)],
)
def test_settings_travel_with_the_weights(
    asked: dict[str, Any], seed: int | None, tmp_path: Path, output: Path
) -> None:
    built = build_network("hrviton_gen", {"width": 2})
    torch.save(built.module.state_dict(), path := tmp_path / "gen.pth")
    strip_checkpoint(path, output, network="hrviton_gen", **{**asked, "set_": ["width=2", *asked.get("set_", [])]})
    assert load_network(output).config["noise_seed"] == seed
    (record,) = read_history(output)
    assert record.settings["set"] == "width=2" + (f", noise_seed={json.dumps(seed)}" if asked else "")
    assert bool(asked) != any("--noise SEED keeps some" in notice for notice in record.notices)


@pytest.mark.parametrize(
    ("network", "asked", "message"),
    [
        (NAME, {"noise": 3}, f"network '{NAME}' has no setting noise_seed; they are "),
        (NAME, {"set_": ["heads"]}, "--set 'heads' is no setting; write NAME=VALUE"),
        (None, {"set_": ["heads=2"]}, "choose settings of the network; name that with --network"),
    ],
)
def test_settings_that_a_network_has_not_are_refused(
    network: str | None, asked: dict[str, Any], message: str, tmp_path: Path, output: Path
) -> None:
    path = _save(_make_checkpoint()["state_dict"], tmp_path / "net.pth")
    with pytest.raises(UsageError, match=message):
        strip_checkpoint(path, output, network=network, **asked)
    assert not output.exists()


def test_a_setting_that_is_spelled_in_another_way_is_refused(tmp_path: Path, output: Path) -> None:
    path = _save(_make_checkpoint()["state_dict"], tmp_path / "net.pth")
    with pytest.raises(NetworkError, match='align_corners takes true or false, and not "False"'):
        strip_checkpoint(path, output, network="pfafn_warp", set_=["align_corners=False"])
    assert not output.exists()

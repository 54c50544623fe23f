"""Reading training checkpoints: no code of theirs runs, and the right weights are found."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vtopt.optimize.checkpoint import Selection, read_checkpoint, select_weights
from vtopt.optimize.errors import InputError, NetworkError
from vtopt.optimize.networks import build_network
from vtopt.optimize.weights import describe_network

SMALL = {
    "pyramid_widths": (4, 6),
    "pyramid_dim": 8,
    "heads": 2,
    "mfe_filters": (4, 4),
    "shallow_hidden": 4,
    "shallow_dim": 4,
}
"""Settings that make a network of the registry small enough for tests."""

NAMES = ["conv.weight", "conv.bias", "norm.weight", "norm.bias"]
BUFFERS = ["norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]
FLOAT = torch.ones(()).element_size()


def _make_weights(value: float = 1.0, buffers: bool = True) -> dict[str, Tensor]:
    """The state dict of a convolution of 3 channels and a BatchNorm, every value `value`."""
    weights = {
        "conv.weight": torch.full((3, 3, 3, 3), value),
        **{name: torch.full((3,), value) for name in [*NAMES[1:], *BUFFERS[:2]]},
        "norm.num_batches_tracked": torch.tensor(7),
    }
    return {name: weights[name] for name in NAMES + BUFFERS * buffers}


def _prefix(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in weights.items()}


def _select(checkpoint: Any, key: str | None = None, network: str | None = None) -> Selection:
    return select_weights(checkpoint, Path("net.pth"), key=key, network=network)


def _save(checkpoint: Any, path: Path, **options: Any) -> Path:
    torch.save(checkpoint, path, **options)
    return path


class Touch:
    """Pickles to a call that makes a file, as a malicious checkpoint would."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


class System:
    """Pickles to a shell command that makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.path}'",)


class CraftedScalar:
    """Pickles to a numpy scalar whose dtype takes eight bytes of the file for the address of an object."""

    def __reduce__(self) -> tuple[Any, ...]:
        return np._core.multiarray.scalar, (CraftedDtype(), b"\x01" * 8)  # type: ignore[attr-defined]


class CraftedDtype:
    def __reduce__(self) -> tuple[Any, ...]:
        return np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0)


@pytest.mark.parametrize("legacy", [False, True], ids=["a zip checkpoint", "a checkpoint of before torch 1.6"])
def test_read_checkpoint(tmp_path: Path, legacy: bool) -> None:
    path = _save(_make_weights(), tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    read = read_checkpoint(path)
    assert list(read) == NAMES + BUFFERS
    assert all(torch.equal(read[name], tensor) for name, tensor in _make_weights().items())


def test_read_checkpoint_takes_safetensors(tmp_path: Path) -> None:
    save_file(_make_weights(2.0), tmp_path / "a.safetensors")
    read = read_checkpoint(tmp_path / "a.safetensors")
    assert sorted(read) == sorted(NAMES + BUFFERS)
    assert torch.equal(read["conv.weight"], torch.full((3, 3, 3, 3), 2.0))


@pytest.mark.parametrize(
    "leftover",
    [
        pytest.param(argparse.Namespace(lr=0.1, name="daflow"), id="options in an argparse.Namespace"),
        pytest.param(np.float64(0.5), id="a numpy scalar"),
        pytest.param(np.arange(6.0).reshape(2, 3), id="a numpy array"),
        pytest.param(np.random.RandomState(0).get_state(), id="the state of a numpy generator"),
        pytest.param(Path("/data/viton"), id="a path"),
        pytest.param({"nested": [argparse.Namespace(a=np.int64(1))]}, id="all of these nested"),
        pytest.param(CraftedScalar(), id="a numpy scalar that would crash numpy"),
    ],
)
def test_inert_leftovers_are_allowed(tmp_path: Path, leftover: object) -> None:
    path = _save({"state_dict": _make_weights(), "opt": leftover}, tmp_path / "a.pth")
    chosen = select_weights(read_checkpoint(path), path)
    assert list(chosen.weights) == NAMES + BUFFERS
    assert chosen.dropped == ("opt",)


@pytest.mark.parametrize("payload", [Touch, System])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path, payload: type, legacy: bool) -> None:
    made = tmp_path / "made-by-the-pickle"
    checkpoint = {"state_dict": _make_weights(), "epoch": payload(made)}
    path = _save(checkpoint, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InputError, match=r"reading it needs \S+, and vtopt never runs code .*torch\.save\("):
        read_checkpoint(path)
    assert not made.exists()


def test_code_in_a_plain_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    made, path = tmp_path / "made-by-the-pickle", tmp_path / "a.pth"
    path.write_bytes(pickle.dumps(Touch(made), protocol=2))
    with pytest.raises(InputError, match="vtopt never runs code from a file"):
        read_checkpoint(path)
    assert not made.exists()


def test_a_whole_module_is_refused_by_its_class(tmp_path: Path) -> None:
    path = _save(nn.Conv2d(1, 1, 1), tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"a\.pth: reading it needs torch\.nn\.modules\.conv\.Conv2d,"):
        read_checkpoint(path)


def test_allowed_names_do_not_outlive_the_call(tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    read_checkpoint(_save(_make_weights(), tmp_path / "a.pth"))
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("part", [0.01, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, part: float, legacy: bool) -> None:
    path = _save(_make_weights(), tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(InputError, match=r"a\.pth: is damaged, cut short, .*; copy it or save it again$"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "is empty", id="zero bytes"),
        pytest.param(b"epoch 3, loss 0.1\n", "is not a PyTorch checkpoint", id="text"),
        pytest.param(b"version https://git-lfs", r"begins with b'version https://'", id="a pointer of Git LFS"),
        pytest.param(b"<!DOCTYPE html><html>", "was it downloaded completely", id="a web page"),
        pytest.param(np.random.default_rng(0).bytes(4096), "is not a PyTorch checkpoint", id="random bytes"),
        pytest.param(b"\x80\x02" + bytes(100), "is damaged, cut short", id="the beginning of a pickle"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_checkpoint(path)


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photos/one.txt", "a photo")
    with pytest.raises(InputError, match=r"not written by torch\.save"):
        read_checkpoint(path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_refused_without_a_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = tmp_path / "a.pth"
    torch.jit.save(torch.jit.trace(nn.Conv2d(1, 1, 1), torch.ones(1, 1, 2, 2)), str(path))
    recwarn.clear()
    with pytest.raises(InputError, match="is a TorchScript program, not a checkpoint"):
        read_checkpoint(path)
    assert not recwarn.list


def test_another_kind_of_artifact_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"\x08\x0a")
    with pytest.raises(InputError, match="is no checkpoint but onnx"):
        read_checkpoint(tmp_path / "a.onnx")
    with pytest.raises(InputError, match="no such file"):
        read_checkpoint(tmp_path / "b.pth")


@pytest.mark.parametrize(
    "where",
    [
        "",
        "state_dict",
        "model",
        "net",
        "network",
        "params",
        "weights",
        "model_state_dict",
        "generator",
        "netG",
        "ema",
        "model.state_dict",
        "checkpoint.model.params",
    ],
)
def test_weights_are_found_at(where: str) -> None:
    checkpoint: Any = _make_weights()
    for part in reversed(where.split(".") if where else []):
        checkpoint = {"epoch": 3, part: checkpoint}
    chosen = _select(checkpoint)
    assert list(chosen.weights) == NAMES + BUFFERS
    assert (chosen.source, chosen.kept) == (where, len(NAMES + BUFFERS))


def test_weights_deeper_than_three_levels_are_not_searched() -> None:
    with pytest.raises(InputError, match="holds no named weights"):
        _select({"a": {"b": {"c": {"d": _make_weights()}}}})


@pytest.mark.parametrize(
    "checkpoint",
    [
        pytest.param([torch.ones(2)], id="a list"),
        pytest.param(torch.ones(2), id="a tensor"),
        pytest.param({}, id="an empty mapping"),
        pytest.param({"epoch": 3, "loss": torch.tensor(0.5)}, id="counters alone"),
        pytest.param({"losses": {"l1": torch.tensor(0.5), "vgg": torch.tensor(2.0)}}, id="losses alone"),
        pytest.param({"optimizer": {"exp_avg": torch.ones(3)}}, id="an optimizer alone"),
    ],
)
def test_a_checkpoint_without_weights_is_refused(checkpoint: object) -> None:
    with pytest.raises(InputError, match=r"net\.pth: holds no named weights; .*torch\.save\("):
        _select(checkpoint)


def test_what_training_leaves_is_dropped_and_listed() -> None:
    moments = {index: {"exp_avg": torch.zeros(50_000), "step": torch.tensor(9.0)} for index in range(2)}
    chosen = _select(
        {
            "epoch": 12,
            "state_dict": {**_make_weights(), "version": 2, "_extra_state": None},
            "optimizer": {"state": moments, "param_groups": [{"lr": 0.1}]},
            "lr_scheduler": {"base": torch.ones(3)},
            "scaler": {"scale": torch.ones(1)},
            "loss": torch.tensor(0.25),
            "rng_state": torch.zeros(1000, dtype=torch.uint8),
        }
    )
    assert list(chosen.weights) == NAMES + BUFFERS
    assert chosen.dropped == (
        "epoch",
        "state_dict.version",
        "state_dict._extra_state",
        f"optimizer ({2 * 50_001 * FLOAT / 1e6:.1f} MB)",
        f"lr_scheduler ({3 * FLOAT / 1e3:.1f} kB)",
        f"scaler ({FLOAT / 1e3:.1f} kB)",
        f"loss ({FLOAT / 1e3:.1f} kB)",
        f"rng_state ({1000 / 1e3:.1f} kB)",
    )
    assert chosen.notices == ()


def test_lists_that_hold_themselves_are_dropped() -> None:
    knot: list[Any] = [torch.ones(1000)]
    knot.append(knot)
    assert _select({"model": _make_weights(), "knot": knot}).dropped == (f"knot ({1000 * FLOAT / 1e3:.1f} kB)",)


@pytest.mark.parametrize(
    ("raw", "averaged"),
    [
        ("state_dict", "ema"),
        ("model", "ema_state_dict"),
        ("model", "state_dict_ema"),
        ("model", "model_ema"),
        ("params", "params_ema"),
        ("model", "modelEMA"),
        ("model", "averaged_model"),
        ("net", "ema.shadow"),
    ],
)
def test_averaged_weights_are_preferred(raw: str, averaged: str) -> None:
    outer, _, inner = averaged.partition(".")
    ema: Any = {"decay": 0.999, inner: _make_weights(2.0)} if inner else _make_weights(2.0)
    chosen = _select({raw: _make_weights(1.0), outer: ema})
    assert chosen.source == averaged
    assert torch.equal(chosen.weights["conv.bias"], torch.full((3,), 2.0))
    assert chosen.notices == (f"took the averaged weights '{averaged}'; --key '{raw}' takes the raw ones",)
    assert _select({raw: _make_weights(1.0), outer: ema}, key=raw).source == raw


def test_what_the_average_lacks_comes_from_the_raw_weights() -> None:
    chosen = _select({"model": _make_weights(1.0), "ema": _make_weights(2.0, buffers=False)})
    assert sorted(chosen.weights) == sorted(NAMES + BUFFERS)
    assert all(torch.equal(chosen.weights[name], _make_weights(2.0)[name]) for name in NAMES)
    assert all(torch.equal(chosen.weights[name], _make_weights(1.0)[name]) for name in BUFFERS)
    assert chosen.notices[1] == (f"{len(BUFFERS)} tensors that it lacks, as norm.running_mean, come from 'model'")


def test_an_averaged_model_of_torch_is_read() -> None:
    averaged = {"n_averaged": torch.tensor(5), **_prefix("module.", _make_weights(2.0, buffers=False))}
    chosen = _select({"model": _make_weights(1.0), "ema": averaged})
    assert sorted(chosen.weights) == sorted(NAMES + BUFFERS)
    assert chosen.notices[0] == "removed 'module.' from the names"
    assert chosen.dropped[1].startswith("ema.n_averaged (")


@pytest.mark.parametrize("where", ["semantic_generator", "schema", "cinema"])
def test_a_name_that_merely_contains_ema_is_not_an_average(where: str) -> None:
    assert _select({where: _make_weights()}).notices == ()


@pytest.mark.parametrize(
    ("prefix", "removed"),
    [
        ("module.", ["module."]),
        ("_orig_mod.", ["_orig_mod."]),
        ("_forward_module.", ["_forward_module."]),
        ("module._orig_mod.", ["_orig_mod.", "module."]),
        ("_orig_mod.module.", ["_orig_mod.", "module."]),
        ("module.module.", ["module.", "module."]),
        ("_forward_module._orig_mod.module.", ["_orig_mod.", "_forward_module.", "module."]),
    ],
)
def test_prefixes_of_wrappers_are_removed(prefix: str, removed: list[str]) -> None:
    chosen = _select({"state_dict": _prefix(prefix, _make_weights())})
    assert list(chosen.weights) == NAMES + BUFFERS
    assert chosen.notices == tuple(f"removed '{one}' from the names" for one in removed)


def test_a_compiled_part_loses_its_prefix() -> None:
    chosen = _select({"encoder._orig_mod.weight": torch.ones(2), "decoder.weight": torch.ones(2)})
    assert list(chosen.weights) == ["encoder.weight", "decoder.weight"]


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["module.conv.weight", "head.weight"], id="module. on some names only"),
        pytest.param(["module", "module2.weight"], id="module as a whole name"),
        pytest.param(["submodule.weight", "submodule.bias"], id="module. inside another word"),
    ],
)
def test_prefixes_noop(names: list[str]) -> None:
    chosen = _select(dict.fromkeys(names, torch.ones(2)))
    assert (list(chosen.weights), chosen.notices) == (names, ())


def test_names_that_would_collide_are_refused() -> None:
    with pytest.raises(InputError, match="same names with and without _orig_mod"):
        _select({"conv.weight": torch.ones(2), "_orig_mod.conv.weight": torch.zeros(2)})


def test_several_sets_of_weights_ask_for_a_key() -> None:
    checkpoint = {"netG": _make_weights(), "netD": {"weight": torch.ones(50_000)}, "epoch": 3}
    size = (3**4 + 5 * 3) * FLOAT + torch.tensor(7).nbytes
    listed = rf"netG \({size / 1e3:.1f} kB\), netD \({50_000 * FLOAT / 1e6:.1f} MB\)"
    with pytest.raises(InputError, match=rf"several sets of weights; choose one with vtopt strip --key: {listed}$"):
        _select(checkpoint)
    with pytest.raises(InputError, match=rf"no weights at 'netX'; choose one with vtopt strip --key: {listed}$"):
        _select(checkpoint, key="netX")
    chosen = _select(checkpoint, key="netD")
    assert (list(chosen.weights), chosen.source) == (["weight"], "netD")
    assert chosen.dropped == (f"netG ({size / 1e3:.1f} kB)", "epoch")


def test_an_average_of_other_weights_is_not_preferred() -> None:
    with pytest.raises(InputError, match="several sets"):
        _select({"netG": _make_weights(), "ema": {"weight": torch.ones(3)}})


def test_a_key_may_name_the_folder_of_the_weights() -> None:
    generator = {"params": _make_weights(1.0), "params_ema": _make_weights(2.0)}
    checkpoint = {"G": generator, "D": {"weight": torch.ones(3)}}
    assert _select(checkpoint, key="G").source == "G.params_ema"
    assert _select(checkpoint, key="G.params").source == "G.params"


def test_selected_tensors_stand_alone() -> None:
    table = torch.arange(12.0).reshape(3, 4)
    weights: dict[str, Tensor] = OrderedDict(
        embed=table, tied=table, view=table[1:], turned=table.t(), trained=nn.Parameter(table)
    )
    chosen = _select({"state_dict": weights}).weights
    assert len({tensor.untyped_storage().data_ptr() for tensor in chosen.values()}) == len(weights)
    for name, tensor in chosen.items():
        assert torch.equal(tensor, weights[name])
        assert tensor.is_contiguous()
        assert type(tensor) is Tensor
        assert not tensor.requires_grad


@pytest.mark.parametrize(
    "tensor",
    [
        pytest.param(torch.ones(2, 2).to_sparse(), id="sparse"),
        pytest.param(torch.ones(2, 2, device="meta"), id="without values"),
    ],
)
def test_tensors_that_hold_no_plain_values_are_refused(tensor: Tensor) -> None:
    with pytest.raises(InputError, match=r"net\.pth: odd is sparse, quantized or without values"):
        _select({"plain": torch.ones(2), "odd": tensor})


def test_the_network_a_checkpoint_names_is_described() -> None:
    network = build_network("sdafn_plus_tiny", SMALL)
    weights = network.module.state_dict()
    chosen = _select({"network": "sdafn_plus_tiny", "config": dict(network.config), "state_dict": weights})
    assert chosen.metadata == describe_network("sdafn_plus_tiny", network)
    assert chosen.dropped == ()


@pytest.mark.parametrize(
    ("config", "reason"),
    [({"layers": 3}, "no setting layers"), ({"mfe_filters": []}, "mfe_filters takes at least one")],
)
def test_a_network_that_cannot_be_built_is_refused(config: dict[str, Any], reason: str) -> None:
    checkpoint = {"network": "sdafn_plus_tiny", "config": config, "state_dict": _make_weights()}
    with pytest.raises(NetworkError, match=rf"net\.pth: its network cannot be built .*{reason}"):
        _select(checkpoint)


def test_a_checkpoint_cannot_choose_a_module_to_import(tmp_path: Path) -> None:
    made = tmp_path / "made-by-the-config"
    config = {"command": f"touch '{made}'"}
    chosen = _select({"network": "os:system", "config": config, "state_dict": _make_weights()})
    assert not made.exists()
    assert chosen.metadata == {}
    assert chosen.dropped == ("network", "config")
    assert "names its network 'os:system'" in chosen.notices[0]


def test_the_users_own_network_is_described_once_the_user_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_network_of_a_test.py").write_text(
        "from torch import nn\n"
        "from vtopt.optimize.networks import InputSpec, Network\n"
        "def build(width=1):\n"
        "    return Network(nn.Linear(width, 1), (InputSpec('person'),), config={'width': width})\n"
    )
    monkeypatch.chdir(tmp_path)
    name = "own_network_of_a_test:build"
    checkpoint = {"network": name, "config": {"width": 3}, "state_dict": nn.Linear(3, 1).state_dict()}
    assert _select(checkpoint).metadata == {}
    assert _select(checkpoint, network=name).metadata["vtopt.config"] == '{"width": 3}'

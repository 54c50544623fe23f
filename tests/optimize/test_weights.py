"""Weights in safetensors: the same bytes, a header in order, and networks that fit them."""

from __future__ import annotations

import json
import math
import resource
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vtopt.optimize.errors import InputError, NetworkError, OutputError
from vtopt.optimize.fitting import SHOWN_NAMES, find_networks
from vtopt.optimize.networks import NETWORKS, Network, build_network
from vtopt.optimize.weights import (
    describe_network,
    fit_weights,
    load_network,
    load_weights,
    require_finite,
    save_weights,
)

NAME = "sdafn_plus_tiny"
SMALL = {
    "pyramid_widths": (4, 6),
    "pyramid_dim": 8,
    "heads": 2,
    "mfe_filters": (4, 4),
    "shallow_hidden": 4,
    "shallow_dim": 4,
}


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return build_network(NAME, SMALL)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.safetensors"


def _read_header(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def test_saved_weights_load_with_their_header(network: Network, path: Path) -> None:
    weights, header = network.module.state_dict(), describe_network(NAME, network)
    save_weights(weights, path, header)
    read, metadata = load_weights(path)
    assert metadata == header
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in weights.items())


def test_the_same_weights_give_the_same_bytes_in_any_order(network: Network, path: Path) -> None:
    weights = network.module.state_dict()
    header = {f"vtopt.{letter}": letter for letter in "hgfedcba"}
    written = set()
    for turned in (False, True, False, True):
        ordered = (lambda items: dict(reversed(items))) if turned else dict
        save_weights(ordered(list(weights.items())), path, ordered(list(header.items())))
        written.add(path.read_bytes())
    assert len(written) == 1
    assert list(_read_header(path)["__metadata__"]) == sorted(header)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({}, id="empty"),
        pytest.param({"vtopt.b": "é ☃ 👕", "vtopt.a": '"quoted" \\ / \n\t\x00\x1f\x7f'}, id="odd characters"),
    ],
)
def test_putting_the_header_in_order_leaves_the_tensors_alone(header: dict[str, str], path: Path) -> None:
    weights = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor([1, 2])}
    save_weights(weights, path, header)
    read, metadata = load_weights(path)
    assert metadata == header
    assert all(torch.equal(read[name], tensor) for name, tensor in weights.items())


def test_a_full_disk_is_told(path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        with pytest.raises(OutputError, match=r"net\.safetensors: cannot be written"):
            save_weights({"weight": torch.zeros(10_000)}, path, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_network_loads_from_what_the_file_says(network: Network, path: Path) -> None:
    save_weights(network.module.state_dict(), path, describe_network(NAME, network))
    loaded = load_network(path)
    assert loaded.config == network.config
    assert not loaded.module.training
    pictures = [torch.zeros(1, 3, 32, 24)] * 2
    with torch.no_grad():
        assert torch.equal(loaded.module(*pictures), network.module(*pictures))


def test_half_precision_weights_load_as_float32(network: Network, path: Path) -> None:
    halves = {n: t.half() if t.is_floating_point() else t for n, t in network.module.state_dict().items()}
    save_weights(halves, path, describe_network(NAME, network))
    loaded = load_network(path).module
    assert all(parameter.dtype == torch.float32 for parameter in loaded.parameters())
    assert torch.equal(next(loaded.parameters()), next(iter(halves.values())).float())


def test_a_checkpoint_loads_as_a_network(small_checkpoint: Path) -> None:
    assert load_network(small_checkpoint).name == NAME


@pytest.mark.parametrize("name", ["model.onnx", "model.xml"])
def test_a_model_in_place_of_weights_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"<?xml version='1.0'?>")
    with pytest.raises(InputError, match=f"{name}: is an exported model; give the .safetensors"):
        load_network(tmp_path / name)


def test_spectral_norms_are_folded(path: Path) -> None:
    normed = build_network("completion_texture", {"first": 8, "most": 16})
    assert any(name.endswith("weight_orig") for name in normed.module.state_dict())
    save_weights(normed.module.state_dict(), path, describe_network("completion_texture", normed))
    folded = load_network(path)
    assert not any(name.endswith("weight_orig") for name in folded.module.state_dict())
    save_weights(folded.module.state_dict(), path, describe_network("completion_texture", folded))
    again = load_network(path)
    inputs = [torch.rand(1, spec.channels, 64, 64) for spec in normed.inputs]
    with torch.no_grad():
        first, second, third = (network.module(*inputs) for network in (normed, folded, again))
    assert torch.equal(first, second)
    assert torch.equal(first, third)


def test_a_file_that_names_no_network_asks_for_one(network: Network, path: Path) -> None:
    save_weights(network.module.state_dict(), path, {})
    with pytest.raises(NetworkError, match=r"does not say which network .*--network NAME"):
        load_network(path)


FACTORY = "own_trap:build"


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module in the working folder that leaves a file when it is imported; return that file."""
    (tmp_path / "own_trap.py").write_text(
        "from pathlib import Path\n"
        "from vtopt.optimize.networks.sdafn import build_sdafn_plus as build\n"
        "Path('imported').touch()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "own_trap", raising=False)
    return tmp_path / "imported"


@pytest.mark.parametrize("kind", ["weights", "checkpoint"])
def test_a_file_cannot_have_a_module_imported(kind: str, network: Network, path: Path, trap: Path) -> None:
    state = network.module.state_dict()
    if kind == "weights":
        save_weights(state, path, describe_network(FACTORY, network))
    else:
        path = path.with_suffix(".pth")
        torch.save({"network": FACTORY, "config": dict(network.config), "state_dict": state}, path)
    with pytest.raises(NetworkError, match="pass --network"):
        load_network(path)
    assert not trap.exists()
    assert load_network(path, FACTORY).config == network.config
    assert trap.exists()


def test_naming_another_network_imports_only_that(network: Network, path: Path, trap: Path) -> None:
    save_weights(network.module.state_dict(), path, describe_network(FACTORY, network))
    with pytest.raises(NetworkError, match="the weights do not fit"):
        load_network(path, NAME)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ('{"heads": -1}', NetworkError),
        ('{"heads": "six"}', NetworkError),
        ('{"unknown": 1}', NetworkError),
        ("[1]", InputError),
        ("{cut", InputError),
        ("", InputError),
    ],
)
def test_a_damaged_configuration_is_refused(config: str, error: type, network: Network, path: Path) -> None:
    save_weights(network.module.state_dict(), path, describe_network(NAME, network) | {"vtopt.config": config})
    with pytest.raises(error):
        load_network(path)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(value: float, network: Network, path: Path) -> None:
    weights = network.module.state_dict()
    name = next(iter(weights))
    weights[name].view(-1)[0] = value
    save_weights(weights, path, describe_network(NAME, network))
    with pytest.raises(InputError, match=rf"NaN or infinite values in {name};"):
        load_network(path)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_every_floating_type_is_searched_for_nan(dtype: torch.dtype) -> None:
    good, bad = torch.ones(2).to(dtype), torch.tensor([1.0, math.nan]).to(dtype)
    require_finite({"good": good, "count": torch.tensor(1), "none": torch.ones(0)}, Path("net"))
    with pytest.raises(InputError, match="values in bad;"):
        require_finite({"good": good, "bad": bad}, Path("net"))


def _without(weights: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    return dict(list(weights.items())[count:])


def test_weights_that_do_not_fit_are_summed_up(network: Network) -> None:
    state = network.module.state_dict()
    weights = {name: tensor for name, tensor in state.items() if not name.startswith("dafnet")}
    weights |= {"extra": torch.ones(1), "another": torch.ones(1)}
    first = next(iter(weights))
    weights[first] = torch.ones(9)
    with pytest.raises(NetworkError) as caught:
        fit_weights(network, weights, "net.pth as sdafn")
    message = str(caught.value)
    absent = [name for name in state if name.startswith("dafnet")]
    shown = ", ".join(absent[:SHOWN_NAMES])
    assert message.startswith(f"net.pth as sdafn: the weights do not fit; missing: {shown} and ")
    assert f"and {len(absent) - SHOWN_NAMES} more; unexpected: extra, another; " in message
    assert f"of another shape: {first} [9] (the network has {list(state[first].shape)})" in message
    assert message.endswith("Choose another --network")


@cache
def _read_shapes(name: str) -> dict[str, Tensor]:
    """The weights of a registered network without their values, of a network that was built with values."""
    return {key: tensor.to("meta") for key, tensor in build_network(name).module.state_dict().items()}


QUICK = ("sdafn_plus_tiny", "sdafn_tiny", "completion_texture")
"""Registered networks that are built in less than a second."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in NETWORKS]
)
def test_the_weights_of_a_registered_network_fit_it_and_only_those_that_sample_otherwise(name: str) -> None:
    shapes = _read_shapes(name)
    twin = name.removesuffix("_aligned")
    assert find_networks(shapes) == [known for known in (twin, f"{twin}_aligned") if known in NETWORKS]


def test_weights_of_another_registered_network_are_told_which() -> None:
    weights = _read_shapes("pfafn_gen")
    network = build_network("sdafn_plus_tiny")
    with pytest.raises(NetworkError, match=r"They fit pfafn_gen: choose that --network$"):
        fit_weights(network, weights, "gen.pth")


def test_weights_with_their_published_names_are_told_which(network: Network) -> None:
    weights = {name.replace("norm_", "ace_"): tensor for name, tensor in _read_shapes("hrviton_gen").items()}
    with pytest.raises(NetworkError, match=r"They fit hrviton_gen: choose that --network$"):
        fit_weights(network, weights, "gen.pth")


def test_weights_that_do_not_fit_leave_the_network_alone(network: Network) -> None:
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    with pytest.raises(NetworkError):
        fit_weights(network, {name: tensor + 1 for name, tensor in _without(before, 1).items()}, "net")
    after = network.module.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_batch_counters_may_be_missing(network: Network) -> None:
    weights = {n: t + 1 for n, t in network.module.state_dict().items() if not n.endswith("num_batches_tracked")}
    fit_weights(network, weights, "net")
    assert all(torch.equal(network.module.state_dict()[name], tensor) for name, tensor in weights.items())


def test_save_noop_on_the_callers_tensors(path: Path) -> None:
    turned = torch.arange(6.0).reshape(2, 3).t()
    save_weights({"turned": turned}, path, {})
    assert not turned.is_contiguous()
    assert torch.equal(load_file(path)["turned"], turned)

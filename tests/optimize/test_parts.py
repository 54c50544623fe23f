"""Networks of several parts: each gets the file that fits it, or a sentence says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import small_parts
import torch
from torch import Tensor

from vtopt.optimize.errors import NetworkError
from vtopt.optimize.networks import Network, build_network
from vtopt.optimize.parts import PartFile, join_parts


def _build(which: str) -> Network:
    torch.manual_seed(0)
    return getattr(small_parts, f"build_{which}")()


def _take_parts(network: Network) -> dict[str, PartFile]:
    """Part -> a file with the network's own weights of it."""
    children = network.module.named_children()
    return {name: PartFile(Path(f"{name}.pth"), module.state_dict(), {}) for name, module in children}


@pytest.mark.parametrize("turned", [False, True], ids=["in order", "turned"])
@pytest.mark.parametrize("which", ["pfafn", "hrviton"])
def test_each_part_gets_the_file_that_fits_it(which: str, turned: bool) -> None:
    network = _build(which)
    files = _take_parts(network)
    weights, given = join_parts(network, list(files.values())[:: -1 if turned else 1])
    whole = network.module.state_dict()
    assert given == files
    assert weights.keys() == whole.keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in whole.items())


def _publish(name: str) -> str:
    return name.replace("norm_", "ace_").replace("ace_0.conv", "ace_0.Spade.conv")


def test_published_names_stay_as_they_are() -> None:
    network = _build("hrviton")
    files = _take_parts(network)
    renamed = {_publish(name): tensor for name, tensor in files["generator"].weights.items()}
    assert renamed.keys() != files["generator"].weights.keys()
    weights, given = join_parts(network, [files["conditions"], files["generator"]._replace(weights=renamed)])
    assert given["generator"].weights is renamed
    assert {f"generator.{name}" for name in renamed} < weights.keys()


def test_counters_of_batches_may_be_missing() -> None:
    network = _build("pfafn")
    files = [
        file._replace(weights={k: v for k, v in file.weights.items() if not k.endswith("num_batches_tracked")})
        for file in _take_parts(network).values()
    ]
    assert set(join_parts(network, files)[1]) == {"warp", "generator"}


def _rename(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"net.{name}": tensor for name, tensor in weights.items()}


def test_a_file_that_fits_no_part_is_named() -> None:
    network = _build("pfafn")
    warp, generator = _take_parts(network).values()
    wrong = generator._replace(weights=_rename(dict(generator.weights)))
    message = r"^generator\.pth: the weights fit no part of pfafn_aligned, which has warp, generator; give the file"
    with pytest.raises(NetworkError, match=message):
        join_parts(network, [warp, wrong])


def test_a_file_that_fits_another_network_says_which() -> None:
    other = {name: tensor.to("meta") for name, tensor in build_network("sdafn_tiny").module.state_dict().items()}
    with pytest.raises(NetworkError, match=r"^net\.pth: .*; they fit sdafn_tiny$"):
        join_parts(_build("pfafn"), [PartFile(Path("net.pth"), other, {})])


def test_two_files_for_one_part_are_named() -> None:
    network = _build("pfafn")
    files = _take_parts(network)
    with pytest.raises(NetworkError, match=r"^other\.pth and warp\.pth: both are weights of warp of pfafn_aligned; "):
        join_parts(network, [*files.values(), files["warp"]._replace(path=Path("other.pth"))])


def test_a_part_without_a_file_is_named() -> None:
    network = _build("pfafn")
    with pytest.raises(NetworkError, match=r"^pfafn_aligned: no file holds generator; name one with --with FILE$"):
        join_parts(network, [_take_parts(network)["warp"]])


@pytest.mark.parametrize("aligned", [True, False])
def test_a_part_made_with_another_setting_is_refused(aligned: bool) -> None:
    network = _build("pfafn")
    files = _take_parts(network)
    said = {"vtopt.network": "pfafn_warp", "vtopt.config": json.dumps({"align_corners": aligned, "flow_filters": [4]})}
    given = [files["warp"]._replace(said=said), files["generator"]]
    if aligned:
        assert set(join_parts(network, given)[1]) == {"warp", "generator"}
        return
    with pytest.raises(
        NetworkError,
        match=r"^warp\.pth: was made for pfafn_warp with align_corners False, pfafn_aligned has True; "
        "pass --set align_corners=false, or",
    ):
        join_parts(network, given)


def test_a_pruned_part_is_said_to_be_that() -> None:
    warp, generator = _take_parts(network := _build("pfafn")).values()
    narrow = {name: tensor.reshape(-1)[:1] for name, tensor in generator.weights.items()}
    pruned = generator._replace(weights=narrow, said={"vtopt.config": json.dumps({"pruned": {"a": 1}})})
    with pytest.raises(NetworkError, match="it is pruned already: join the parts first, then do that"):
        join_parts(network, [warp, pruned])

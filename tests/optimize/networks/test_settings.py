"""Settings of networks are what they say, or refused in a sentence."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vtopt.optimize.errors import NetworkError
from vtopt.optimize.networks import NETWORKS, build_network

REFUSED: list[Any] = [
    pytest.param("pfafn", "align_corners", "False", 'true or false, and not "False"', id="another language's bool"),
    pytest.param("pfafn", "align_corners", 0, "true or false, and not 0", id="a number for a bool"),
    pytest.param("hrviton", "occlusion", "no", "true or false", id="text for a bool"),
    pytest.param("hrviton", "size", 512, "a height and a width above 0, such as 256x192, and not 512", id="one side"),
    pytest.param("hrviton_gen", "size", "512", "a height and a width", id="one side as text"),
    pytest.param("hrviton", "condition_size", [64, 0], "a height and a width above 0", id="a side of 0"),
    pytest.param("hrviton", "condition_size", [64, 32, 3], "a height and a width", id="three sides"),
    pytest.param("hrviton", "noise_seed", -1, "a whole number from 0 on, or null", id="a seed below 0"),
    pytest.param("hrviton_tocg", "width", 8.0, "a whole number above 0, and not 8.0", id="no whole number"),
    pytest.param("sdafn_plus_tiny", "heads", True, "a whole number above 0, and not true", id="a bool for a number"),
    pytest.param("sdafn_plus_tiny", "mfe_filters", [], "at least one whole number above 0", id="no filters"),
    pytest.param("pfafn_warp", "flow_filters", [], "at least one whole number above 0", id="no flow filters"),
    pytest.param("pfafn_gen", "generator_widths", [64], "at least two whole numbers above 0", id="one width"),
    pytest.param("pfafn", "generator_widths", [64], "at least two whole numbers above 0", id="one width of a part"),
    pytest.param("completion", "sampling", "median", "'mean', 'seeded', 'explicit' or 'garment'", id="no such choice"),
    pytest.param("completion_shape", "levels", None, "a whole number above 0, and not null", id="nothing"),
]


@pytest.mark.parametrize(("name", "setting", "value", "takes"), REFUSED)
def test_a_setting_says_what_it_takes(name: str, setting: str, value: Any, takes: str) -> None:
    with pytest.raises(NetworkError) as caught:
        build_network(name, {setting: value})
    assert f"network '{name}' cannot be built: {setting} takes {takes}" in str(caught.value)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_unknown_setting_is_told_what_there_is(name: str) -> None:
    with torch.device("meta"):
        known = ", ".join(build_network(name).config)
    with pytest.raises(NetworkError, match=f"there is no setting colour; they are {known}$"):
        build_network(name, {"colour": "red"})


@pytest.mark.parametrize("size", ["256x192", [256, 192], (256, 192)])
def test_a_size_is_written_as_everywhere(size: Any) -> None:
    small = {"conditions_width": 2, "generator_width": 2, "condition_size": "64x32"}
    network = build_network("hrviton", {**small, "size": size})
    assert network.size == network.config["size"] == (256, 192)
    assert network.config["condition_size"] == (64, 32)

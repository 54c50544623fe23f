"""Published names become the network's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vtopt.optimize.errors import NetworkError
from vtopt.optimize.networks import InputSpec, Network
from vtopt.optimize.networks.names import rename_entries
from vtopt.optimize.weights import fit_weights


def test_patterns_are_replaced_one_after_the_other() -> None:
    renamed = rename_entries({"a.old.x": 1, "b.x": 2}, {r"\bold\b": "new", r"\.x$": ".y"})
    assert renamed == {"a.new.y": 1, "b.y": 2}


def test_without_aliases_names_stay() -> None:
    assert rename_entries({"a.b": 1}, {}) == {"a.b": 1}


def test_two_names_that_become_one_are_refused() -> None:
    said = r"^net\.pth: a\.new and a\.old are both a\.new to the network; delete one of the two from the checkpoint"
    with pytest.raises(NetworkError, match=said):
        rename_entries({"a.new": 1, "a.old": 2}, {"old": "new"}, "net.pth")


def test_the_file_of_two_such_names_is_named() -> None:
    network = Network(nn.Linear(1, 1), (InputSpec("person"),), aliases={"scale": "weight"})
    with pytest.raises(NetworkError, match=r"^net\.pth as own: weight and scale are both weight"):
        fit_weights(network, {"weight": torch.ones(1, 1), "scale": torch.ones(1, 1)}, "net.pth as own")

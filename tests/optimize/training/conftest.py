"""A network of a user's own: two convolutions, fed by the edge too, that train in milliseconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from vtopt.optimize.networks import Network, build_network

OWN = """
import torch
from torch import nn
from vtopt.optimize.networks import InputSpec, Network

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(7, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 3, 3, padding=1)
        self.unused = nn.Linear(2, 2)

    def forward(self, person, clothes, edge):
        return self.last(torch.relu(self.first(torch.cat([person, clothes, edge], 1))))

def build():
    inputs = (InputSpec("person"), InputSpec("clothes"), InputSpec("edge", 1))
    return Network(Own(), inputs, size=(64, 48), multiple_of=4)
"""


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, in which `own_net:build` is a network."""
    (tmp_path / "own_net.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.modules.pop("own_net", None)


@pytest.fixture
def student(own_folder: Path) -> Network:
    torch.manual_seed(0)
    return build_network("own_net:build")


@pytest.fixture
def teacher(own_folder: Path) -> Network:
    torch.manual_seed(1)
    return build_network("own_net:build")

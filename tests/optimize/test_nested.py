"""Tensors are found and changed wherever code has put them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vtopt.optimize.nested import list_tensors, map_tensors

FEATURES = torch.randn(2, 8, 5, 4, generator=torch.Generator().manual_seed(0))


@dataclass(slots=True)
class _Slotted:
    picture: Tensor
    others: list[Tensor]


def test_nested_tensors_are_found_and_changed_in_their_places() -> None:
    value: Any = {"a": [FEATURES, 3], "b": (FEATURES, {"c": FEATURES}), "d": FEATURES.max(1), "e": slice(2)}
    assert len(list_tensors(value)) == 5
    changed = map_tensors(value, lambda tensor: tensor.double())
    assert {tensor.dtype for tensor in list_tensors(changed)} == {torch.float64}
    assert len(list_tensors(_Slotted(FEATURES, [FEATURES]))) == 2
    assert list_tensors(_Slotted) == []
    assert changed["a"][1] == 3 and type(changed["d"]) is type(value["d"])

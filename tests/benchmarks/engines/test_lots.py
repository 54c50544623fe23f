"""How many engines are held open side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vtopt.benchmarks.engines import lots
from vtopt.benchmarks.engines.engine import Engine
from vtopt.benchmarks.engines.lots import plan_lots

KEYS = [(name, "onnxruntime") for name in "abcd"]


def _make_engines() -> dict[Any, Engine]:
    kept = []

    def run(feeds: Any) -> Any:
        kept.append(np.ones(30_000_000, np.float32))
        return {}

    engine = Engine("onnxruntime", {}, (), {}, run)
    return {key: replace(engine) for key in KEYS}


@pytest.mark.parametrize(
    ("share", "expected"), [(0.8, [KEYS]), (0.0, [[KEYS[0], key] for key in KEYS[1:]])], ids=["all fit", "none fits"]
)
def test_the_first_engine_is_in_every_lot(share: float, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lots, "MEMORY_SHARE", share)
    assert plan_lots(_make_engines(), {key: {} for key in KEYS}) == expected


def test_what_processes_of_their_own_take_counts_too() -> None:
    engines, feeds = _make_engines(), {key: {} for key in KEYS}
    assert plan_lots(engines, feeds) == [KEYS]
    assert plan_lots(engines, feeds, overhead=2**50) == [[KEYS[0], key] for key in KEYS[1:]]


def test_a_lone_engine_is_a_lot() -> None:
    assert plan_lots({KEYS[0]: _make_engines()[KEYS[0]]}, {KEYS[0]: {}}, overhead=2**50) == [KEYS[:1]]

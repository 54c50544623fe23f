"""Operations: the largest and the sum of the others."""

from __future__ import annotations

import re

from vtopt.benchmarks.page.content import Profile
from vtopt.benchmarks.page.operations import show_operations, take_top


def test_the_largest_come_first_and_the_others_are_one() -> None:
    assert take_top({"a": 1.0, "b": 3.0, "c": 2.0, "d": 0.5}, 2) == [("b", 3.0), ("c", 2.0), ("2 other", 1.5)]


def test_where_all_fit_there_are_no_others() -> None:
    assert take_top({"a": 1.0, "b": 3.0}, 2) == [("b", 3.0), ("a", 1.0)]


def test_bars_of_all_models_have_one_scale() -> None:
    profiles = (Profile("a", "onnxruntime", 1, {"Conv": 8.0}), Profile("b", "openvino", 1, {"Conv": 2.0}))
    assert re.findall(r'rect width="([\d.]+)%"', show_operations(profiles)) == ["100.0", "25.0"]


def test_cells_keep_their_unrounded_times() -> None:
    shown = show_operations((Profile("a", "onnxruntime", 1, {"Conv": 2 / 3}),))
    assert f'data-value="{2 / 3!r}"' in shown
    assert ">0.67<" in shown

"""One correlation layer in every form: all of them make the same, and each is exported by what it is named for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from vtopt.benchmarks.studies.single_correlation import (
    DEFAULT_CASES,
    SHIPPED,
    SLICES,
    Case,
    draw_feeds,
    list_forms,
    parse_case,
    write_forms,
)
from vtopt.optimize.errors import UsageError
from vtopt.optimize.networks import build_network
from vtopt.optimize.networks.correlation import Correlation

CASE = Case(4, 9, 10)


@pytest.mark.parametrize("form", list_forms())
@pytest.mark.parametrize(
    ("shape", "radius"),
    [
        pytest.param((1, 5, 8, 6), 3, id="the coarsest level"),
        pytest.param((2, 4, 17, 9), 3, id="sides that no tile divides, of two pictures"),
        pytest.param((1, 3, 2, 1), 3, id="smaller than the shifts"),
        pytest.param((1, 3, 12, 16), 1, id="shifts of one pixel"),
    ],
)
def test_every_form_equals_the_plain_one(form: str, shape: tuple[int, ...], radius: int) -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(shape, generator=generator) for _ in range(2))
    forms = list_forms()
    expected = forms[SLICES](first, second, radius)
    assert expected.shape == (shape[0], (2 * radius + 1) ** 2, *shape[2:])
    torch.testing.assert_close(forms[form](first, second, radius), expected, atol=1e-6, rtol=0)


def test_the_shipped_form_is_that_of_the_layer() -> None:
    first, second = (torch.from_numpy(array) for array in draw_feeds(CASE).values())
    made = {name: form(first, second, 3) for name, form in list_forms().items()}
    equal = [name for name, volume in made.items() if torch.equal(volume, Correlation(3)(first, second))]
    assert equal[-1] == SHIPPED
    assert SLICES not in equal


def test_forms_are_exported_as_what_they_are(tmp_path: Path) -> None:
    variants = write_forms(CASE, tmp_path)
    assert [(variant.runtime, variant.form) for variant in variants] == [
        (runtime, form) for runtime in ("onnxruntime", "openvino") for form in list_forms()
    ]
    ops = {}
    for variant in variants:
        model = onnx.load(variant.path)
        onnx.checker.check_model(model, full_check=True)
        assert {entry.name for entry in model.graph.input} == set(draw_feeds(CASE))
        ops[variant.form] = Counter(node.op_type for node in model.graph.node)
    means = {form: counted["ReduceMean"] for form, counted in ops.items()}
    products = {form: counted["MatMul"] for form, counted in ops.items()}
    assert means == {"slices": 7 * 7, "im2col": 1, "banded": 0, "tiles": 0}
    assert products == {"slices": 0, "im2col": 0, "banded": 7, "tiles": 1}


def test_only_the_forms_asked_for_are_written(tmp_path: Path) -> None:
    write_forms(CASE, tmp_path, (SLICES,))
    assert [path.name for path in tmp_path.iterdir()] == ["slices.onnx"]


def test_feeds_are_the_same_each_time_and_two() -> None:
    feeds, again = draw_feeds(CASE), draw_feeds(CASE)
    assert all(np.array_equal(array, again[name]) for name, array in feeds.items())
    assert {array.shape for array in feeds.values()} == {(1, 4, 9, 10)}
    assert not np.array_equal(feeds["first"], feeds["second"])


def test_default_cases_are_the_levels_of_the_published_network() -> None:
    network = build_network("pfafn_warp", {"align_corners": True})
    levels, dim = len(network.config["pyramid_widths"]), network.config["pyramid_dim"]
    height, width = network.size
    sides = [Case(dim, height // 2**level, width // 2**level) for level in range(levels, 0, -1)]
    assert list(map(str, sides)) == list(DEFAULT_CASES)
    assert [parse_case(text) for text in DEFAULT_CASES] == sides


@pytest.mark.parametrize("text", ["256", "256x32", "0x8x8", "4x8xa", "4x8x-8", "4x8x8x8", ""])
def test_what_is_no_case_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no correlation; write CHANNELSxHEIGHTxWIDTH, for example 256x32x24"):
        parse_case(text)

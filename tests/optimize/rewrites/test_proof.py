"""The proof of a place: what is equal passes, and everything else has a difference that says so."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import ModelProto

from vtopt.optimize.rewrites.proof import measure_sites
from vtopt.optimize.rewrites.sites import Site

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N,3,16,12] person, float[N,2,5,7] flow, float[N,3,5,7] weights) => (float[N,3,5,7] tryon)
  <float[3,3,1,1] w = {1, 0, 0, 0, 1, 0, 0, 0, 1}, float[2] shift = {0, 0}> {
  [before] features = Conv (person, w)
  [scores] attention = Softmax <axis = 1> (weights)
  [lay] grid = Transpose <perm = [0, 2, 3, 1]> (flow)
  [move] moved = Add (grid, shift)
  [warp] warped = GridSample <padding_mode = "border"> (features, moved)
  [weigh] weighed = Mul (warped, attention)
  [after] tryon = Tanh (weighed)
}"""
SITE = Site(("warp",), "weighed", features=("features",), grids=("grid",), attention=("attention",))


MUL = "Mul (warped, attention)"


def _parse(*changes: tuple[str, str]) -> ModelProto:
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model)
    return model


def _measure(after: ModelProto, site: Site = SITE) -> float:
    return measure_sites(_parse(), after, [site])["warp"]


def test_equal_places_have_no_difference() -> None:
    assert _measure(_parse()) == 0


def test_what_lies_outside_of_the_place_does_not_count() -> None:
    assert _measure(_parse(("tryon = Tanh", "tryon = Abs"), ("{1, 0, 0, 0, 1", "{9, 0, 0, 0, 9"))) == 0


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([("shift = {0, 0}", "shift = {0.167, 0}")], id="a shift by one pixel"),
        pytest.param([("shift = {0, 0}", "shift = {0, 0.002}")], id="a shift by a sixtieth of a pixel"),
        pytest.param([('padding_mode = "border"', 'padding_mode = "zeros"')], id="another padding"),
        pytest.param([('padding_mode = "border"', 'padding_mode = "reflection"')], id="a padding that starts alike"),
        pytest.param([('"border"', '"border", align_corners = 1')], id="another convention"),
        pytest.param([("Mul (warped", "Add (warped")], id="a sum"),
        pytest.param([("Mul (warped, attention)", "Identity (warped)")], id="attention left out"),
    ],
)
def test_a_wrong_place_has_a_difference(changes: list[tuple[str, str]]) -> None:
    assert 1e-3 < _measure(_parse(*changes)) < math.inf


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([(MUL, "ReduceSum (warped)")], id="another shape"),
        pytest.param([(MUL, "MatMul (warped, flow)")], id="what does not run"),
        pytest.param([(MUL, "Mul (logs, attention)"), ("[weigh]", "logs = Log (warped)\n  [weigh]")], id="NaN"),
    ],
)
def test_what_cannot_be_compared_says_why(changes: list[tuple[str, str]]) -> None:
    measured = _measure(_parse(*changes))
    assert isinstance(measured, str) or math.isnan(measured)


def test_a_place_that_is_gone_says_so() -> None:
    assert "does not run by itself" in _measure(_parse(), Site(("warp",), "nowhere", features=("features",)))


def test_attention_that_is_drawn_sums_to_one() -> None:
    """A bias may go behind the sum only where it does; the proof must not reject that."""
    before = _parse(("weighed = Mul (warped, attention)", "weighed = ReduceSum <keepdims = 1> (attention, one)"),
                    ("float[2] shift", "int64[1] one = {1}, float[2] shift"))  # fmt: skip
    after = _parse(("weighed = Mul (warped, attention)", "weighed = Clip (sums, edge, edge)"),
                   ("[weigh]", "[sum] sums = ReduceSum <keepdims = 1> (attention, one)\n [weigh]"),
                   ("float[2] shift", "int64[1] one = {1}, float edge = {1.0}, float[2] shift"))  # fmt: skip
    assert measure_sites(before, after, [SITE])["warp"] < 1e-6


def test_a_grid_is_drawn_far_outside_too() -> None:
    """Paddings that agree near the features are told apart: a triangle wave, and what repeats the border."""
    before = _parse(('padding_mode = "border"', 'padding_mode = "reflection"'))
    after = _parse(
        ('padding_mode = "border"', 'padding_mode = "reflection"'),
        ("moved = Add (grid, shift)", "near = Add (grid, shift)\n  [clip] moved = Clip (near, low, high)"),
        ("float[2] shift", "float low = {-1.5}, float high = {1.5}, float[2] shift"),
    )
    assert measure_sites(before, after, [SITE])["warp"] > 0.01


def test_no_sites_have_no_differences() -> None:
    assert measure_sites(_parse(), _parse(), []) == {}


def test_the_same_places_have_the_same_difference() -> None:
    after = _parse(("shift = {0, 0}", "shift = {0.167, 0}"))
    one, two = (_measure(after) for _ in range(2))
    assert one == two
    assert np.isfinite(one)


def test_a_place_whose_shapes_are_not_known_says_so() -> None:
    assert (
        _measure(_parse(), Site(("warp",), "weighed", features=("nothing of this name",)))
        == "the shape of nothing of this name is not known"
    )

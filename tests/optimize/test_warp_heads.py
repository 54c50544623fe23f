"""Warps with K heads are known by what they read and make, whoever wrote and exported them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import ModelProto

from vtopt.optimize.rewrites.heads import merge_heads
from vtopt.optimize.rewrites.proof import measure_sites
from vtopt.optimize.warp import Warp, find_warps, name_nodes

Arrays = dict[str, np.ndarray]

CHANNELS, FEATURES, OUTPUT = 4, (8, 9), (5, 7)
"""As the exports of conftest.py have them."""

KNOWN = ("repeat_interleave", "view", "stacked grids")
"""Formulations that are found, by both exporters, once simplified."""
OTHERS = ("expand", "tile", "stack and sum", "einsum")
"""Formulations that are found or left alone, by exporter."""

BATCHES = (1, 2, "dynamic")


def _draw(heads: int, batch: int) -> Arrays:
    rng = np.random.default_rng(heads)
    return {
        "features": rng.normal(size=(batch, CHANNELS, *FEATURES)).astype(np.float32),
        "offsets": rng.uniform(-1.5, 1.5, (batch, 2 * heads, *OUTPUT)).astype(np.float32),
        "attention": rng.uniform(0, 1, (batch, heads, *OUTPUT)).astype(np.float32),
    }


def _find(model: ModelProto) -> list[Warp]:
    name_nodes(model)
    onnx.checker.check_model(model)
    return find_warps(model)


def _measure(
    model: ModelProto,
    warp: Warp,
    feeds: Arrays,
    run_model: Callable[..., Arrays],
    warp_formula: Callable[..., np.ndarray],
) -> float:
    """Return how far the output is from the formula of the values named by the analysis, as share of the largest."""
    values = {**feeds, **run_model(model, feeds, (warp.features, warp.places, warp.attention, warp.output))}
    made = warp_formula(values[warp.features], values[warp.places], values[warp.attention], planar=warp.planar)
    assert made.shape == values[warp.output].shape
    return float(np.abs(made - values[warp.output]).max() / np.abs(made).max())


def _expect_right(
    model: ModelProto,
    warp: Warp,
    heads: int,
    batch: int | str,
    run_model: Callable[..., Arrays],
    warp_formula: Callable[..., np.ndarray],
) -> None:
    assert (warp.heads, warp.padding_mode, warp.mode) == (heads, "border", "bilinear")
    images = 2 if batch == "dynamic" else batch
    assert warp.features_shape == (images, CHANNELS, *FEATURES)
    assert warp.output_shape == (images, CHANNELS, *OUTPUT)
    for size in (1, 3) if batch == "dynamic" else (batch,):
        assert isinstance(size, int)
        assert _measure(model, warp, _draw(heads, size), run_model, warp_formula) < 1e-5


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("heads", [2, 3, 6])
@pytest.mark.parametrize("name", KNOWN)
def test_a_simplified_export_has_one_warp_with_all_heads(
    name: str,
    heads: int,
    batch: int | str,
    export_warps: Callable[..., ModelProto],
    run_model: Callable[..., Arrays],
    warp_formula: Callable[..., np.ndarray],
) -> None:
    model = export_warps(name, heads=heads, batch=batch)
    (warp,) = _find(model)
    assert warp.output == "made_0"
    _expect_right(model, warp, heads, batch, run_model, warp_formula)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", ["repeat_interleave", "stacked grids"])
def test_an_export_that_was_not_simplified_has_one_warp_with_all_heads(
    name: str,
    batch: int,
    export_warps: Callable[..., ModelProto],
    run_model: Callable[..., Arrays],
    warp_formula: Callable[..., np.ndarray],
) -> None:
    model = export_warps(name, batch=batch, simplified=False)
    (warp,) = _find(model)
    assert warp.output == "made_0"
    _expect_right(model, warp, 3, batch, run_model, warp_formula)


@pytest.mark.parametrize("simplified", [False, True], ids=["exported", "simplified"])
@pytest.mark.parametrize("batch", BATCHES)
def test_the_dynamo_exporter_s_warps_have_all_heads(
    batch: int | str,
    simplified: bool,
    export_warps: Callable[..., ModelProto],
    run_model: Callable[..., Arrays],
    warp_formula: Callable[..., np.ndarray],
) -> None:
    # torch.export makes a constant of a batch that tells how often to split
    names = [name for name in KNOWN + OTHERS if (name, batch) != ("tile", "dynamic")]
    model = export_warps(*names, batch=batch, exporter="dynamo", simplified=simplified)
    warps = _find(model)
    assert len(warps) == len(names)
    found = {names[int(warp.output.removeprefix("made_"))]: warp for warp in warps if warp.heads > 1}
    assert set(found) >= {*KNOWN, "expand"}
    for name, warp in found.items():
        if name != "tile" or batch == 1:  # heads before pictures: a test of its own
            _expect_right(model, warp, 3, batch, run_model, warp_formula)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("simplified", [False, True], ids=["exported", "simplified"])
@pytest.mark.parametrize("name", ["repeat_interleave", "expand", "tile", "stack and sum", "view", "einsum"])
def test_a_formulation_is_found_right_or_not_at_all(
    name: str,
    simplified: bool,
    batch: int | str,
    export_warps: Callable[..., ModelProto],
    run_model: Callable[..., Arrays],
    warp_formula: Callable[..., np.ndarray],
) -> None:
    model = export_warps(name, batch=batch, simplified=simplified)
    (warp,) = _find(model)
    if warp.heads > 1 and (name != "tile" or batch == 1):
        _expect_right(model, warp, 3, batch, run_model, warp_formula)
    rewriting = merge_heads(model, "onnxruntime", ())
    proved = all(value <= 1e-4 for value in measure_sites(model, rewriting.model, rewriting.sites).values())
    assert proved == (name != "tile" or batch == 1 or warp.heads == 1)


def test_pictures_that_lie_between_heads_are_told_by_the_proof(export_warps: Callable[..., ModelProto]) -> None:
    """features.repeat(K, 1, 1, 1) lays out a b a b; shapes are those of repeat_interleave, numbers are not."""
    model = export_warps("tile", batch=2)
    (warp,) = _find(model)
    assert warp.heads == 3
    rewriting = merge_heads(model, "onnxruntime", ())
    (difference,) = measure_sites(model, rewriting.model, rewriting.sites).values()
    assert difference > 0.1


@pytest.mark.parametrize("simplified", [False, True], ids=["exported", "simplified"])
@pytest.mark.parametrize("name", ["repeat_interleave", "view", "stacked grids"])
def test_one_head_is_a_warp_without_attention(
    name: str,
    simplified: bool,
    export_warps: Callable[..., ModelProto],
    run_model: Callable[..., Arrays],
    warp_formula: Callable[..., np.ndarray],
) -> None:
    model = export_warps(name, heads=1, simplified=simplified)
    (warp,) = _find(model)
    assert (warp.heads, warp.attention) == (1, "")
    feeds = _draw(1, 1)
    values = {**feeds, **run_model(model, feeds, (warp.features, warp.places, warp.output))}
    np.testing.assert_allclose(
        values[warp.output],
        warp_formula(values[warp.features], values[warp.places], planar=warp.planar),
        atol=1e-5,
    )


def test_heads_channels_and_sides_may_all_be_equal(
    run_model: Callable[..., Arrays], warp_formula: Callable[..., np.ndarray]
) -> None:
    text = TEXT.replace("float[2,4,8,9]", "float[3,3,3,3]").replace("float[6,2,5,7]", "float[9,2,3,3]")
    text = text.replace("float[2,3,5,7]", "float[3,3,3,3]").replace("float[2,4,5,7]", "float[3,3,3,3]")
    for old, new in {"{2, 3, 4, 8, 9}": "{3, 3, 3, 3, 3}", "{6, 4, 8, 9}": "{9, 3, 3, 3}"}.items():
        text = text.replace(old, new)
    text = text.replace("{2, 3, 4, 5, 7}", "{3, 3, 3, 3, 3}").replace("{2, 12, 5, 7}", "{3, 9, 3, 3}")
    model = onnx.parser.parse_model(text.replace("{4, 4, 4}", "{3, 3, 3}"))
    (warp,) = _find(model)
    assert (warp.heads, warp.features, warp.attention, warp.output) == (3, "features", "attention", "made")
    rng = np.random.default_rng(0)
    feeds = {
        "features": rng.normal(size=(3, 3, 3, 3)).astype(np.float32),
        "planes": rng.uniform(-1.5, 1.5, (9, 2, 3, 3)).astype(np.float32),
        "attention": rng.uniform(0, 1, (3, 3, 3, 3)).astype(np.float32),
    }
    assert _measure(model, warp, feeds, run_model, warp_formula) < 1e-5


TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[2,4,8,9] features, float[6,2,5,7] planes, float[2,3,5,7] attention) => (float[2,4,5,7] made)
  <int64[1] one = {1}, int64[1] two = {2}, int64[5] five = {2, 3, 4, 8, 9}, int64[4] copied = {6, 4, 8, 9},
   int64[5] spread = {2, 3, 4, 5, 7}, int64[4] joined = {2, 12, 5, 7}, int64[3] parts = {4, 4, 4}> {
  opened = Unsqueeze (features, one)
  expanded = Expand (opened, five)
  copies = Reshape (expanded, copied)
  grid = Transpose <perm = [0, 2, 3, 1]> (planes)
  [warp] sampled = GridSample <padding_mode = "border"> (copies, grid)
  rows = Reshape (sampled, joined)
  weight = Unsqueeze (attention, two)
  wide = Expand (weight, spread)
  weights = Reshape (wide, joined)
  weighted = Mul (rows, weights)
  first, second, third = Split <axis = 1> (weighted, parts)
  both = Add (first, second)
  made = Add (both, third)
}"""


def _change(*changes: tuple[str, str]) -> str:
    text = TEXT
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def test_the_text_that_look_alikes_are_made_of_is_a_warp() -> None:
    (warp,) = _find(onnx.parser.parse_model(TEXT))
    assert (warp.heads, warp.features, warp.attention, warp.output) == (3, "features", "attention", "made")
    assert (warp.places, warp.planar) == ("planes", True)


MADE = "=> (float[2,4,5,7] made"
SUM = """  first, second, third = Split <axis = 1> (weighted, parts)
  both = Add (first, second)
  made = Add (both, third)"""
LOOK_ALIKES = {
    "a part that is read elsewhere": _change(
        (MADE, MADE + ", float[2,4,5,7] more"), ("  both =", "  more = Relu (first)\n  both =")
    ),
    "a part that is copied elsewhere": _change(
        (MADE, MADE + ", float[2,4,5,7] more"),
        ("made = Add (both, third)", "made = Add (both, third)\n  more = Identity (third)"),
    ),
    "a part that is an output": _change((MADE, MADE + ", float[2,4,5,7] first")),
    "samples that are an output": _change((MADE, MADE + ", float[6,4,5,7] sampled")),
    "samples that are read elsewhere": _change(
        (MADE, MADE + ", float[6,4,5,7] more"), ("  rows =", "  more = Relu (sampled)\n  rows =")
    ),
    "a product that is read elsewhere": _change(
        (MADE, MADE + ", float[2,12,5,7] more"), ("  first,", "  more = Relu (weighted)\n  first,")
    ),
    "a product that is an output": _change((MADE, MADE + ", float[2,12,5,7] weighted")),
    "a head that is subtracted": _change(("made = Add (both, third)", "made = Sub (both, third)")),
    "heads of which the largest is taken": _change(("made = Add (both, third)", "made = Max (both, third)")),
    "attention for some heads only": _change(
        ("  weighted = Mul (rows, weights)\n", ""),
        (
            SUM,
            """  first, second, third = Split <axis = 1> (rows, parts)
  a, b, c = Split <axis = 1> (weights, parts)
  bright = Mul (first, a)
  both = Add (bright, second)
  made = Add (both, third)""",
        ),
    ),
    "samples that weigh themselves": _change(("Mul (rows, weights)", "Mul (rows, rows)")),
    "a mean in place of a sum": _change(
        (SUM, "  apart = Reshape (weighted, spread)\n  made = ReduceMean <axes = [1], keepdims = 0> (apart)")
    ),
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in LOOK_ALIKES.items()])
def test_what_only_looks_like_heads_is_one_warp_without(text: str) -> None:
    (warp,) = _find(onnx.parser.parse_model(text))
    assert (warp.heads, warp.attention, warp.output) == (1, "", "sampled")


SHAPED_ALIKE = {
    "a head that is added twice": _change(("Add (first, second)", "Add (first, first)")),
    "a head that is added to itself": _change(
        ("made = Add (both, third)", "double = Add (third, third)\n  made = Add (both, double)")
    ),
    "attention in another order": _change(
        (
            """  weight = Unsqueeze (attention, two)
  wide = Expand (weight, spread)
  weights = Reshape (wide, joined)""",
            "  weights = Tile (attention, times)",
        ),
        ("int64[3] parts", "int64[4] times = {1, 4, 1, 1}, int64[3] parts"),
    ),
    "something that is added on the way": _change(
        ("both = Add (first, second)", "more = Add (first, half)\n  both = Add (more, second)"),
        ("int64[3] parts", "float half = {0.5}, int64[3] parts"),
    ),
    "heads that are left out": _change(
        (
            SUM,
            """  some = Slice (weighted, start, stop, one)
  first, second = Split <axis = 1> (some, halves)
  made = Add (first, second)""",
        ),
        ("int64[3] parts = {4, 4, 4}", "int64[1] start = {0}, int64[1] stop = {8}, int64[2] halves = {4, 4}"),
    ),
    "pictures that are mixed": _change(
        (
            "copies = Reshape (expanded, copied)",
            "turned = Transpose <perm = [1, 0, 2, 3, 4]> (expanded)\n  copies = Reshape (turned, copied)",
        )
    ),
}


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in SHAPED_ALIKE.items()])
def test_what_has_the_shapes_of_heads_and_other_numbers_is_not_proved(text: str, runtime: str) -> None:
    model = onnx.parser.parse_model(text)
    name_nodes(model)
    rewriting = merge_heads(model, runtime, ())  # type: ignore[arg-type]
    differences = measure_sites(model, rewriting.model, rewriting.sites)
    assert all(difference > 0.01 for difference in differences.values())
    assert merge_heads(model, runtime, set(differences)).sites == ()  # type: ignore[arg-type]


def test_asking_for_a_shape_is_not_reading() -> None:
    text = _change((MADE, MADE + ", int64[4] size"), ("  first,", "  size = Shape (weighted)\n  first,"))
    (warp,) = _find(onnx.parser.parse_model(text))
    assert (warp.heads, warp.output) == (3, "made")


def test_features_of_unknown_size_have_no_heads() -> None:
    text = TEXT.replace("float[2,4,8,9]", "float[2,4,H,W]").replace("float[2,4,5,7] made", "float[2,4,5,X] made")
    text = text.replace("float[6,2,5,7]", "float[6,2,5,X]").replace("float[2,3,5,7]", "float[2,3,5,X]")
    (warp,) = _find(onnx.parser.parse_model(text))
    assert warp.heads == 1


def test_heads_that_are_added_in_a_branch_are_not_taken() -> None:
    """The samples are made outside and the sum inside: no value of the graph itself is the warp's output."""
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
    g (bool flag, float[2,3,6,5] x, float[2,16,6,2] grid, float[2,2,8,6] attention) => (float[2,3,8,6] made)
      <int64[5] parts = {2, 3, 2, 8, 6}, int64[1] one = {1}, int64[1] two = {2}> {
      [warp] sampled = GridSample <padding_mode = "border"> (x, grid)
      [outer] made = If (flag) <
        then_branch = a () => (float[2,3,8,6] p) {
          [apart] apart = Reshape (sampled, parts)
          [lift] weights = Unsqueeze (attention, one)
          [weigh] weighted = Mul (apart, weights)
          [sum] p = ReduceSum <keepdims = 0> (weighted, two) },
        else_branch = e () => (float[2,3,8,6] q) { [random] q = RandomNormal <shape = [2, 3, 8, 6]> () }>
    }""")
    (warp,) = find_warps(model)
    assert (warp.heads, warp.output) == (1, "sampled")
    assert merge_heads(model, "onnxruntime", ()).sites == ()

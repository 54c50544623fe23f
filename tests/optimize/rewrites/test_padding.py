"""Padding and align_corners rewritten: the formula of torch for any size and any grid, or left alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto

from vtopt.optimize.rewrites.padding import clamp_padding
from vtopt.optimize.rewrites.proof import measure_sites

Arrays = dict[str, np.ndarray]
Run = Callable[..., Arrays]
Formula = Callable[..., np.ndarray]

EPSILON = float(np.finfo(np.float32).eps)


def _write(
    features: tuple[object, ...] = (2, 3, 8, 6),
    output: tuple[object, ...] = (5, 7),
    *,
    attributes: str = 'padding_mode = "border"',
    opset: int = 17,
    heads: int = 1,
    planar: bool = False,
) -> ModelProto:
    """Return a model of one warp: of points or planes, with heads of grids stacked along the height."""
    batch, channels = features[:2]
    height, width = output
    shape = ",".join(map(str, features))
    made = f"{batch},{channels},{height},{width}"
    warp = f"GridSample <{attributes}>"
    places = f"float[{batch},{height},{width},2] places"
    steps = "[lay] grid = Transpose <perm = [0, 2, 3, 1]> (places)\n" if planar else ""
    if planar or heads > 1:
        count = f"{batch}" if heads == 1 else f"{int(str(batch)) * heads}"
        places = f"float[{count},2,{height},{width}] places"
    if heads == 1:
        text = f"{steps}[warp] made = {warp} (features, {'grid' if planar else 'places'})"
        text = f"g (float[{shape}] features, {places}) => (float[{made}] made) {{ {text} }}"
    else:
        assert isinstance(height, int) and isinstance(width, int)
        text = f"""g (float[{shape}] features, {places}, float[{batch},{heads},{height},{width}] attention)
          => (float[{made}] made)
          <int64[4] tall = {{-1, {heads * height}, {width}, 2}}, int64[1] two = {{2}}, int64[1] one = {{1}},
           int64[5] apart = {{-1, {channels}, {heads}, {height}, {width}}}> {{
          [lay] points = Transpose <perm = [0, 2, 3, 1]> (places)
          [stack] grid = Reshape (points, tall)
          [warp] sampled = {warp} (features, grid)
          [open] parts = Reshape (sampled, apart)
          [weight] weights = Unsqueeze (attention, one)
          [weigh] weighted = Mul (parts, weights)
          [sum] made = ReduceSum <keepdims = 0> (weighted, two)
        }}"""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    onnx.checker.check_model(model, full_check=True)
    return model


def _draw(
    features: tuple[int, ...], output: tuple[int, int], *, heads: int, planar: bool, reach: float, seed: int
) -> Arrays:
    """Draw places within `reach`, of which a third lies exactly on pixels, edges, and centres of outer pixels."""
    rng = np.random.default_rng(seed)
    batch, _, rows, columns = features
    places = rng.uniform(-reach, reach, (batch * heads, *output, 2))
    for axis, size in enumerate((columns, rows)):
        special = np.array([-3, -1, 1, 3, 1 - 1 / size, 1 / size - 1, 0, -1 + 2 * (size // 2) / max(size - 1, 1)])
        chosen = rng.choice(special, places.shape[:-1])
        places[..., axis] = np.where(rng.random(chosen.shape) < 1 / 3, chosen, places[..., axis])
    if planar or heads > 1:
        places = np.moveaxis(places, -1, 1)
    return {
        "features": rng.normal(size=features).astype(np.float32),
        "places": np.ascontiguousarray(places, np.float32),
        "attention": rng.uniform(0, 1, (batch, heads, *output)).astype(np.float32),
    }


def _expect_formula(
    model: ModelProto,
    feeds: Arrays,
    warp_formula: Formula,
    run_model: Run,
    *,
    heads: int,
    planar: bool,
    **sampling: object,
) -> None:
    """Compare with the formula in float64, as exact as float32 coordinates allow.

    A place of size g is known to half a unit in its last place, and so after folding are places near it; that
    times half the features' size is pixels, and pixels times the steepest slope are values.
    """
    made = run_model(model, feeds)["made"]
    attention = feeds["attention"] if heads > 1 else None
    expected = warp_formula(feeds["features"], feeds["places"], attention, planar=planar or heads > 1, **sampling)
    assert made.shape == expected.shape
    reach = float(np.abs(feeds["places"]).max()) if sampling["padding_mode"] == "reflection" else 1.0
    pixels = 8 * EPSILON * (1 + reach) * max(feeds["features"].shape[2:])
    slope = 2 * heads * float(np.abs(feeds["features"]).max())
    np.testing.assert_allclose(made, expected, rtol=0, atol=slope * (pixels + 4 * EPSILON))


def _find_warp(model: ModelProto) -> NodeProto:
    (node,) = [node for node in model.graph.node if node.op_type == "GridSample"]
    return node


def _read_attributes(model: ModelProto) -> dict[str, object]:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in _find_warp(model).attribute}


def _list_nodes(model: ModelProto) -> list[tuple[object, ...]]:
    return [
        (node.name, node.op_type, list(node.input), list(node.output), sorted(map(str, node.attribute)))
        for node in model.graph.node
    ]


CASES = [
    pytest.param(padding, aligned, id=f"{padding}, align_corners {aligned}")
    for padding in ("border", "reflection", "zeros")
    for aligned in (0, 1)
    if (padding, aligned) != ("zeros", 0)
]


@settings(derandomize=True, deadline=None, max_examples=150, database=None)
@given(
    features=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    output=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    heads=st.integers(1, 3),
    planar=st.booleans(),
    padding=st.sampled_from(["border", "reflection", "zeros"]),
    aligned=st.booleans(),
    reach=st.sampled_from([1.0, 1.5, 5.0, 50.0]),
    seed=st.integers(0, 2**16),
)
def test_any_warp_is_what_torch_samples(
    features: tuple[int, int, int, int],
    output: tuple[int, int],
    heads: int,
    planar: bool,
    padding: str,
    aligned: bool,
    reach: float,
    seed: int,
    run_model: Run,
    warp_formula: Formula,
) -> None:
    attributes = f'padding_mode = "{padding}", align_corners = {int(aligned)}'
    model = _write(features, output, attributes=attributes, heads=heads, planar=planar)
    rewriting = clamp_padding(model, "onnxruntime", ())
    assert len(rewriting.sites) == ((padding, aligned) != ("zeros", False))
    assert _read_attributes(rewriting.model).get("align_corners", 0) == 0
    assert _read_attributes(rewriting.model).get("padding_mode", b"zeros") == b"zeros"
    feeds = _draw(features, output, heads=heads, planar=planar, reach=reach, seed=seed)
    sampling = {"padding_mode": padding, "align_corners": aligned}
    _expect_formula(rewriting.model, feeds, warp_formula, run_model, heads=heads, planar=planar, **sampling)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (6, 1), (2, 2), (97, 3)], ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize(("padding", "aligned"), CASES)
@pytest.mark.parametrize("heads", [1, 3])
def test_features_may_be_one_pixel_high_or_wide(
    padding: str, aligned: int, size: tuple[int, int], heads: int, run_model: Run, warp_formula: Formula
) -> None:
    features = (2, 3, *size)
    model = _write(features, attributes=f'padding_mode = "{padding}", align_corners = {aligned}', heads=heads)
    rewriting = clamp_padding(model, "onnxruntime", ())
    assert [site.name for site in rewriting.sites] == ["warp"]
    (difference,) = measure_sites(model, rewriting.model, rewriting.sites).values()
    assert difference < 1e-4
    feeds = _draw(features, (5, 7), heads=heads, planar=False, reach=2.5, seed=0)
    sampling = {"padding_mode": padding, "align_corners": aligned}
    _expect_formula(rewriting.model, feeds, warp_formula, run_model, heads=heads, planar=False, **sampling)


@pytest.mark.parametrize("planar", [False, True], ids=["points", "planes"])
@pytest.mark.parametrize(("padding", "aligned"), CASES)
def test_batch_height_and_width_may_vary(
    padding: str, aligned: int, planar: bool, run_model: Run, warp_formula: Formula
) -> None:
    attributes = f'padding_mode = "{padding}", align_corners = {aligned}'
    model = _write(("N", 3, "H", "W"), ("P", "Q"), attributes=attributes, planar=planar)
    rewriting = clamp_padding(model, "onnxruntime", ())
    (difference,) = measure_sites(model, rewriting.model, rewriting.sites).values()
    assert difference < 1e-4
    assert _read_attributes(rewriting.model)["padding_mode"] == b"zeros"
    for features, output in (((1, 3, 8, 6), (5, 7)), ((3, 3, 4, 9), (2, 2)), ((2, 3, 1, 1), (1, 3))):
        feeds = _draw(features, output, heads=1, planar=planar, reach=2, seed=0)
        sampling = {"padding_mode": padding, "align_corners": aligned}
        _expect_formula(rewriting.model, feeds, warp_formula, run_model, heads=1, planar=planar, **sampling)


@pytest.mark.parametrize("heads", [1, 3])
def test_a_batch_that_varies_keeps_varying(heads: int, run_model: Run, warp_formula: Formula) -> None:
    model = _write((2, 3, 8, 6), heads=heads)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "M" if value.name == "places" and heads > 1 else "N"
    if heads > 1:  # N K grids of N pictures: read from N, so that both vary together
        model.graph.input[1].type.tensor_type.shape.dim[1].dim_value = 2 * heads
        model.graph.input[1].type.tensor_type.shape.dim[0].dim_param = "N"
        model.graph.input[1].name = "offsets"
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, 2, 5, 7]), "apart_planes"))
        node = onnx.helper.make_node("Reshape", ["offsets", "apart_planes"], ["places"], "planes")
        model.graph.node.insert(0, node)
        onnx.checker.check_model(model, full_check=True)
    rewriting = clamp_padding(model, "onnxruntime", ())
    assert [site.name for site in rewriting.sites] == ["warp"]
    for batch in (1, 3):
        feeds = _draw((batch, 3, 8, 6), (5, 7), heads=heads, planar=False, reach=2, seed=0)
        feeds["offsets"] = feeds["places"].reshape(batch, -1, 5, 7)
        sampling = {"padding_mode": "border", "align_corners": False}
        _expect_formula(rewriting.model, feeds, warp_formula, run_model, heads=heads, planar=False, **sampling)


@pytest.mark.parametrize(("opset", "mode"), [(16, "bilinear"), (17, "bilinear"), (18, "bilinear"), (20, "linear")])
@pytest.mark.parametrize(("padding", "aligned"), CASES)
def test_every_opset_that_has_the_operator_will_do(
    opset: int, mode: str, padding: str, aligned: int, run_model: Run, warp_formula: Formula
) -> None:
    attributes = f'mode = "{mode}", padding_mode = "{padding}", align_corners = {aligned}'
    rewriting = clamp_padding(_write(attributes=attributes, opset=opset), "onnxruntime", ())
    assert [entry.version for entry in rewriting.model.opset_import] == [opset]
    onnx.checker.check_model(rewriting.model, full_check=True)
    assert _read_attributes(rewriting.model)["mode"] == mode.encode()
    feeds = _draw((2, 3, 8, 6), (5, 7), heads=1, planar=False, reach=2, seed=0)
    sampling = {"padding_mode": padding, "align_corners": aligned}
    _expect_formula(rewriting.model, feeds, warp_formula, run_model, heads=1, planar=False, **sampling)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize(("opset", "mode"), [(17, "nearest"), (17, "bicubic"), (20, "nearest"), (20, "cubic")])
def test_what_samples_otherwise_is_left_alone(opset: int, mode: str, padding: str) -> None:
    model = _write(attributes=f'mode = "{mode}", padding_mode = "{padding}"', opset=opset)
    rewriting = clamp_padding(model, "onnxruntime", ())
    assert rewriting.sites == ()
    assert _read_attributes(rewriting.model) == _read_attributes(model)
    (left,) = rewriting.left
    assert left.startswith("warp: samples ")
    assert left.endswith("only bilinear has a fast kernel")


def test_what_is_fast_already_is_left_alone_without_a_word() -> None:
    model = _write(attributes='mode = "bilinear"')
    rewriting = clamp_padding(model, "onnxruntime", ())
    assert (rewriting.sites, rewriting.left) == ((), ())
    assert _list_nodes(rewriting.model) == _list_nodes(model)


def test_the_file_is_the_same_for_openvino() -> None:
    made = {runtime: clamp_padding(_write(), runtime, ()).model for runtime in ("onnxruntime", "openvino")}
    assert made["openvino"].SerializeToString() == made["onnxruntime"].SerializeToString()


def test_a_site_to_be_left_alone_is() -> None:
    model = _write()
    rewriting = clamp_padding(model, "onnxruntime", {"warp"})
    assert (rewriting.sites, rewriting.left) == ((), ())
    assert _list_nodes(rewriting.model) == _list_nodes(model)


def test_the_model_that_is_given_is_not_changed() -> None:
    model = _write()
    before = model.SerializeToString()
    clamp_padding(model, "onnxruntime", ())
    assert model.SerializeToString() == before


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize(("padding", "aligned"), CASES)
def test_a_second_time_there_is_nothing_to_do(padding: str, aligned: int, heads: int) -> None:
    model = _write(attributes=f'padding_mode = "{padding}", align_corners = {aligned}', heads=heads)
    once = clamp_padding(model, "onnxruntime", ())
    twice = clamp_padding(once.model, "onnxruntime", ())
    assert (len(once.sites), twice.sites, twice.left) == (1, (), ())
    assert _list_nodes(twice.model) == _list_nodes(once.model)


def test_a_grid_that_has_the_shape_of_planes_is_not_taken_for_them(run_model: Run, warp_formula: Formula) -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
    g (float[2,3,8,6] features, float[2,2,2,2] places) => (float[2,3,2,2] made) {
      [turn] turned = Transpose <perm = [0, 2, 1, 3]> (places)
      [warp] made = GridSample <padding_mode = "border"> (features, turned)
    }""")
    rewriting = clamp_padding(model, "onnxruntime", ())
    differences = measure_sites(model, rewriting.model, rewriting.sites)
    wrong = {name for name, difference in differences.items() if difference > 1e-4}
    left = clamp_padding(model, "onnxruntime", wrong)
    feeds = _draw((2, 3, 8, 6), (2, 2), heads=1, planar=False, reach=2, seed=0)
    expected = warp_formula(feeds["features"], feeds["places"].swapaxes(1, 2))
    np.testing.assert_allclose(run_model(left.model, feeds)["made"], expected, atol=1e-5)


NESTED = """<ir_version: 8, opset_import: ["" : 17]>
g (float[2,3,8,6] features, float[2,2,4,4] flow, float[2,2,5,7] places) => (float[2,3,5,7] made) {
  [lay] grid = Transpose <perm = [0, 2, 3, 1]> (places)
  [inner] composed = GridSample <padding_mode = "border"> (flow, grid)
  [lay_again] again = Transpose <perm = [0, 2, 3, 1]> (composed)
  [outer] made = GridSample <padding_mode = "border", align_corners = 1> (features, again)
}"""


def test_a_flow_that_a_flow_warps_is_clamped_too(run_model: Run, warp_formula: Formula) -> None:
    model = onnx.parser.parse_model(NESTED)
    rewriting = clamp_padding(model, "onnxruntime", ())
    assert [site.name for site in rewriting.sites] == ["inner", "outer"]
    differences = measure_sites(model, rewriting.model, rewriting.sites)
    assert max(differences.values()) < 1e-4
    feeds = _draw((2, 3, 8, 6), (5, 7), heads=1, planar=True, reach=2, seed=0)
    feeds["flow"] = np.random.default_rng(1).uniform(-1.5, 1.5, (2, 2, 4, 4)).astype(np.float32)
    composed = warp_formula(feeds["flow"], feeds["places"], planar=True)
    expected = warp_formula(feeds["features"], composed, planar=True, align_corners=True)
    np.testing.assert_allclose(run_model(rewriting.model, feeds)["made"], expected, atol=2e-5)


def test_a_grid_that_several_warps_read_serves_all(run_model: Run, warp_formula: Formula) -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
    g (float[2,3,8,6] features, float[2,1,4,9] mask, float[2,5,7,2] places)
      => (float[2,3,5,7] made, float[2,1,5,7] covered) {
      [one] made = GridSample <padding_mode = "border"> (features, places)
      [two] covered = GridSample <padding_mode = "reflection"> (mask, places)
    }""")
    rewriting = clamp_padding(model, "onnxruntime", ())
    assert [site.name for site in rewriting.sites] == ["one", "two"]
    feeds = _draw((2, 3, 8, 6), (5, 7), heads=1, planar=False, reach=2, seed=0)
    feeds["mask"] = np.random.default_rng(1).random((2, 1, 4, 9), np.float32)
    made = run_model(rewriting.model, feeds)
    np.testing.assert_allclose(made["made"], warp_formula(feeds["features"], feeds["places"]), atol=2e-5)
    expected = warp_formula(feeds["mask"], feeds["places"], padding_mode="reflection")
    np.testing.assert_allclose(made["covered"], expected, atol=2e-5)


@pytest.mark.parametrize("inside", ["If", "Loop"])
def test_a_warp_in_a_branch_or_loop_is_left_alone_with_the_reason(inside: str) -> None:
    model = onnx.parser.parse_model(BRANCHES[inside])
    onnx.checker.check_model(model)
    rewriting = clamp_padding(model, "onnxruntime", ())
    assert rewriting.sites == ()
    assert set(rewriting.left) == {
        f"{name}: lies inside outer; warps in If, Loop and Scan are left alone"
        for name in (("in_then", "in_else") if inside == "If" else ("in_body",))
    }


BRANCHES = {
    "If": """<ir_version: 8, opset_import: ["" : 17]>
    g (bool flag, float[2,3,8,6] features, float[2,5,7,2] places) => (float[2,3,5,7] made) {
      [outer] made = If (flag) <
        then_branch = a () => (float[2,3,5,7] p) {
          [in_then] p = GridSample <padding_mode = "border"> (features, places) },
        else_branch = b () => (float[2,3,5,7] q) {
          [in_else] q = GridSample <padding_mode = "reflection"> (features, places) }>
    }""",
    "Loop": """<ir_version: 8, opset_import: ["" : 17]>
    g (float[2,3,8,6] features, float[2,8,6,2] places) => (float[2,3,8,6] made)
      <int64 count = {3}, bool go = {1}> {
      [outer] made = Loop (count, go, features) <
        body = b (int64 i, bool on, float[2,3,8,6] carried) => (bool still, float[2,3,8,6] next) {
          still = Identity (on)
          [in_body] next = GridSample <padding_mode = "border"> (carried, places) }>
    }""",
}


def test_volumes_are_left_alone_with_the_reason() -> None:
    model = onnx.parser.parse_model("""<ir_version: 9, opset_import: ["" : 20]>
    g (float[1,3,4,8,6] volume, float[1,2,5,7,3] places) => (float[1,3,2,5,7] made) {
      [warp] made = GridSample <padding_mode = "border"> (volume, places)
    }""")
    onnx.checker.check_model(model, full_check=True)
    rewriting = clamp_padding(model, "onnxruntime", ())
    assert rewriting.sites == ()
    assert rewriting.left == ("warp: its features are not known to be pictures (N, C, H, W)",)


def test_a_name_in_a_branch_and_outside_is_told_apart() -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
    g (bool flag, float[2,3,8,6] features, float[2,8,6,2] places) => (float[2,3,8,6] made, float[2,3,8,6] other) {
      [warp] other = GridSample <padding_mode = "border"> (features, places)
      [outer] made = If (flag) <
        then_branch = a () => (float[2,3,8,6] p) { [warp] p = GridSample <padding_mode = "border"> (features, places) },
        else_branch = b () => (float[2,3,8,6] q) { [same] q = Identity (other) }>
    }""")
    rewriting = clamp_padding(model, "onnxruntime", ())
    assert [site.output for site in rewriting.sites] == ["other"]
    assert rewriting.left == ("warp: lies inside outer; warps in If, Loop and Scan are left alone",)
    onnx.checker.check_model(rewriting.model, full_check=True)

"""Every form of a warp with heads is the formula: K samplings of the same features, weighted and added."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from vtopt.optimize.rewrites.deform_conv import fits_deform, has_kernel, raise_opset
from vtopt.optimize.rewrites.editing import Editor
from vtopt.optimize.rewrites.forms import FORMS
from vtopt.optimize.warp import find_warps, name_nodes

Arrays = dict[str, np.ndarray]
Run = Callable[..., Arrays]
Make = Callable[..., ModelProto]
Draw = Callable[..., Arrays]
Formula = Callable[..., np.ndarray]

LAYOUTS = ("planes copied", "points copied", "planes stacked", "points stacked")
SAMPLINGS = [
    pytest.param({"padding_mode": padding, "align_corners": aligned}, id=f"{padding}, align_corners {aligned}")
    for padding in ("zeros", "border", "reflection")
    for aligned in (0, 1)
]


def _rewrite(model: ModelProto, form: str) -> ModelProto:
    """Write the model's one warp in this form, whatever the runtime prefers."""
    name_nodes(model)
    if form == "deformable":
        model = raise_opset(model)
    (warp,) = find_warps(model)
    assert warp.heads > 1
    editor = Editor(model)
    editor.prefix = warp.name
    assert warp.features_shape is not None
    made = FORMS[form](editor, warp, editor.find(warp.features), warp.features_shape[1])
    editor.replace(editor.find(warp.output), made)
    rewritten = editor.finish()
    onnx.checker.check_model(rewritten, full_check=True)
    return rewritten


def _count_ops(model: ModelProto) -> dict[str, int]:
    ops = [node.op_type for node in model.graph.node]
    return {op: ops.count(op) for op in ops}


def _write_attributes(sampling: dict[str, object]) -> str:
    return f'padding_mode = "{sampling["padding_mode"]}", align_corners = {sampling["align_corners"]}'


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_the_formula(
    form: str,
    layout: str,
    sampling: dict[str, object],
    write_heads: Make,
    draw_heads: Draw,
    heads_formula: Formula,
    run_model: Run,
) -> None:
    model = write_heads(layout=layout, attributes=_write_attributes(sampling))
    if form == "deformable" and sampling["padding_mode"] == "reflection":
        (warp,) = find_warps(model)
        assert not fits_deform(warp)
        return
    rewritten = _rewrite(model, form)
    feeds = draw_heads(layout=layout)
    expected = heads_formula(feeds, layout, **sampling)
    np.testing.assert_allclose(run_model(rewritten, feeds)["made"], expected, rtol=0, atol=2e-5)
    ops = _count_ops(rewritten)
    wanted = {"stacked": {"GridSample": 1}, "separate": {"GridSample": 3}, "deformable": {"DeformConv": 1}}[form]
    assert {op: count for op, count in ops.items() if op in {"GridSample", "DeformConv"}} == wanted
    assert "Expand" not in ops


@settings(derandomize=True, deadline=None, max_examples=100, database=None)
@given(
    features=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    output=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    heads=st.integers(2, 4),
    layout=st.sampled_from(LAYOUTS),
    padding=st.sampled_from(["zeros", "border", "reflection"]),
    aligned=st.integers(0, 1),
    form=st.sampled_from(list(FORMS)),
    reach=st.sampled_from([1.0, 2.0, 50.0]),
    seed=st.integers(0, 2**16),
)
def test_a_form_is_the_formula_for_any_size(
    features: tuple[int, int, int, int],
    output: tuple[int, int],
    heads: int,
    layout: str,
    padding: str,
    aligned: int,
    form: str,
    reach: float,
    seed: int,
    write_heads: Make,
    draw_heads: Draw,
    heads_formula: Formula,
    run_model: Run,
) -> None:
    sampling = {"padding_mode": padding, "align_corners": aligned}
    model = write_heads(features, output, heads=heads, layout=layout, attributes=_write_attributes(sampling))
    (warp,) = find_warps(model)
    assume(form != "deformable" or fits_deform(warp))
    feeds = draw_heads(features, output, heads=heads, layout=layout, reach=reach, seed=seed)
    made = run_model(_rewrite(model, form), feeds)["made"]
    expected = heads_formula(feeds, layout, **sampling)
    # float32 knows a coordinate to its own size times epsilon, that is half the size in pixels
    far = 1 + (reach if padding != "border" else 1)
    pixels = 8 * float(np.finfo(np.float32).eps) * far * max(features[2:] + output)
    slope = 2 * heads * float(np.abs(feeds["features"]).max())
    np.testing.assert_allclose(made, expected, rtol=0, atol=slope * pixels)


@pytest.mark.parametrize("sampling", SAMPLINGS[:4])
@pytest.mark.parametrize(
    ("features", "output"),
    [
        pytest.param((6, 5), (6, 5), id="of one size"),
        pytest.param((6, 5), (12, 10), id="to twice the size"),
        pytest.param((6, 5), (6, 3), id="a little narrower, within the taps"),
        pytest.param((1, 1), (3, 4), id="from one pixel"),
    ],
)
def test_a_deformable_convolution_makes_what_is_not_smaller(
    features: tuple[int, int],
    output: tuple[int, int],
    sampling: dict[str, object],
    write_heads: Make,
    draw_heads: Draw,
    heads_formula: Formula,
    run_model: Run,
) -> None:
    sizes = ((2, 3, *features), output)
    model = write_heads(*sizes, attributes=_write_attributes(sampling))
    (warp,) = find_warps(model)
    assert fits_deform(warp)
    feeds = draw_heads(*sizes)
    made = run_model(_rewrite(model, "deformable"), feeds)["made"]
    np.testing.assert_allclose(made, heads_formula(feeds, **sampling), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("features", "output"),
    [
        pytest.param((6, 5), (5, 5), id="lower"),
        pytest.param((6, 5), (6, 2), id="narrower than the taps make up for"),
        pytest.param((6, 5), (3, 2), id="half the size"),
    ],
)
def test_a_deformable_convolution_does_not_fit_what_is_smaller(
    features: tuple[int, int], output: tuple[int, int], write_heads: Make
) -> None:
    (warp,) = find_warps(write_heads((2, 3, *features), output))
    assert not fits_deform(warp)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", FORMS)
def test_a_batch_that_varies_keeps_varying(
    form: str, layout: str, write_heads: Make, draw_heads: Draw, heads_formula: Formula, run_model: Run
) -> None:
    rewritten = _rewrite(write_heads(layout=layout, dynamic=True), form)
    for batch in (1, 2, 3):
        feeds = draw_heads((batch, 3, 6, 5), layout=layout)
        expected = heads_formula(feeds, layout)
        np.testing.assert_allclose(run_model(rewritten, feeds)["made"], expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("mode", ["nearest", "bicubic"])
@pytest.mark.parametrize("form", ["stacked", "separate"])
def test_a_form_of_grid_samples_keeps_the_mode(
    form: str, mode: str, write_heads: Make, draw_heads: Draw, run_model: Run
) -> None:
    model = write_heads(attributes=f'mode = "{mode}", padding_mode = "border"')
    (warp,) = find_warps(model)
    assert not fits_deform(warp)
    feeds = draw_heads()
    made = run_model(_rewrite(model, form), feeds)["made"]
    np.testing.assert_allclose(made, run_model(model, feeds)["made"], rtol=0, atol=2e-5)


def test_this_installation_has_the_kernel() -> None:
    """Where this fails, `deformable` is never chosen, and tests of it are of no use."""
    assert has_kernel()

"""Warps with heads are written in the form that the runtime is fastest at, where they can be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import ModelProto

from vtopt.optimize.rewrites import deform_conv, heads
from vtopt.optimize.rewrites.heads import choose_form, merge_heads
from vtopt.optimize.rewrites.proof import measure_sites
from vtopt.optimize.rewrites.sites import Rewriting
from vtopt.optimize.warp import find_warps, name_nodes

Arrays = dict[str, np.ndarray]
Run = Callable[..., Arrays]
Make = Callable[..., ModelProto]
Draw = Callable[..., Arrays]
Formula = Callable[..., np.ndarray]

SMALLER = {"features": (2, 3, 6, 5), "output": (3, 4)}
"""A deformable convolution cannot make an output this much smaller than the features."""


def _count(rewriting: Rewriting) -> dict[str, int]:
    ops = [node.op_type for node in rewriting.model.graph.node]
    return {op: ops.count(op) for op in ("GridSample", "DeformConv", "Expand", "Tile") if op in ops}


def _read_opset(model: ModelProto) -> int:
    (entry,) = model.opset_import
    return entry.version


def _expect_proved(model: ModelProto, rewriting: Rewriting) -> None:
    onnx.checker.check_model(rewriting.model, full_check=True)
    differences = measure_sites(model, rewriting.model, rewriting.sites)
    assert max(differences.values()) < 1e-4


@pytest.mark.parametrize("opset", [16, 17, 18, 19])
def test_onnxruntime_gets_a_deformable_convolution(
    opset: int, write_heads: Make, draw_heads: Draw, heads_formula: Formula, run_model: Run
) -> None:
    model = write_heads(opset=opset)
    rewriting = merge_heads(model, "onnxruntime", ())
    assert _count(rewriting) == {"DeformConv": 1}
    assert _read_opset(rewriting.model) == 19
    assert [site.name for site in rewriting.sites] == ["warp"]
    assert rewriting.left == ()
    _expect_proved(model, rewriting)
    feeds = draw_heads()
    np.testing.assert_allclose(run_model(rewriting.model, feeds)["made"], heads_formula(feeds), rtol=0, atol=2e-5)


def test_a_later_opset_stays(write_heads: Make) -> None:
    rewriting = merge_heads(write_heads(opset=20, attributes='padding_mode = "border"'), "onnxruntime", ())
    assert (_count(rewriting), _read_opset(rewriting.model)) == ({"DeformConv": 1}, 20)


def test_without_the_kernel_grids_are_stacked_and_the_opset_stays(
    write_heads: Make, draw_heads: Draw, heads_formula: Formula, run_model: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "has_kernel", lambda: False)
    model = write_heads()
    rewriting = merge_heads(model, "onnxruntime", ())
    assert (_count(rewriting), _read_opset(rewriting.model)) == ({"GridSample": 1}, 17)
    _expect_proved(model, rewriting)
    feeds = draw_heads()
    np.testing.assert_allclose(run_model(rewriting.model, feeds)["made"], heads_formula(feeds), rtol=0, atol=2e-5)


def test_openvino_gets_a_grid_sample_for_each_head_and_no_deformable_convolution(
    write_heads: Make, draw_heads: Draw, heads_formula: Formula, run_model: Run
) -> None:
    model = write_heads()
    rewriting = merge_heads(model, "openvino", ())
    assert (_count(rewriting), _read_opset(rewriting.model)) == ({"GridSample": 3}, 17)
    _expect_proved(model, rewriting)
    feeds = draw_heads()
    np.testing.assert_allclose(run_model(rewriting.model, feeds)["made"], heads_formula(feeds), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(SMALLER, id="smaller than the features"),
        pytest.param({"attributes": 'padding_mode = "reflection"'}, id="reflected"),
        pytest.param({"attributes": 'mode = "nearest"'}, id="nearest"),
        pytest.param({"attributes": 'mode = "bicubic", padding_mode = "border"'}, id="bicubic"),
    ],
)
def test_what_is_no_deformable_convolution_is_stacked_and_the_opset_stays(
    settings: dict[str, object], write_heads: Make, draw_heads: Draw, run_model: Run
) -> None:
    model = write_heads(**settings)
    rewriting = merge_heads(model, "onnxruntime", ())
    assert (_count(rewriting), _read_opset(rewriting.model)) == ({"GridSample": 1}, 17)
    if "nearest" not in str(settings):  # drawn places jump where rounding differs; they do not here
        _expect_proved(model, rewriting)
    feeds = draw_heads(**({} if "attributes" in settings else settings))
    made, expected = (run_model(each, feeds)["made"] for each in (rewriting.model, model))
    np.testing.assert_allclose(made, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("layout", ["planes stacked", "points stacked"])
def test_what_is_stacked_already_stays_where_nothing_is_faster(layout: str, write_heads: Make) -> None:
    rewriting = merge_heads(write_heads(**SMALLER, layout=layout), "onnxruntime", ())
    assert (rewriting.sites, rewriting.left) == ((), ())
    assert [node.name for node in rewriting.model.graph.node if node.op_type == "GridSample"] == ["warp"]


@pytest.mark.parametrize("layout", ["planes copied", "points copied", "planes stacked", "points stacked"])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_second_time_there_is_nothing_to_do(runtime: str, layout: str, write_heads: Make) -> None:
    for settings in ({}, SMALLER):
        once = merge_heads(write_heads(**settings, layout=layout), runtime, ())  # type: ignore[arg-type]
        name_nodes(once.model)
        twice = merge_heads(once.model, runtime, ())  # type: ignore[arg-type]
        assert (twice.sites, twice.left) == ((), ())
        assert [node.name for node in twice.model.graph.node] == [node.name for node in once.model.graph.node]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_batch_that_varies_keeps_varying(
    runtime: str, write_heads: Make, draw_heads: Draw, heads_formula: Formula, run_model: Run
) -> None:
    for settings in ({}, SMALLER):
        rewriting = merge_heads(write_heads(**settings, dynamic=True), runtime, ())  # type: ignore[arg-type]
        assert len(rewriting.sites) == 1
        for batch in (1, 3):
            feeds = draw_heads((batch, 3, 6, 5), settings.get("output", (8, 7)))
            made = run_model(rewriting.model, feeds)["made"]
            np.testing.assert_allclose(made, heads_formula(feeds), rtol=0, atol=2e-5)


def test_a_grid_that_was_clamped_by_hand_is_border(write_heads: Make, draw_heads: Draw, run_model: Run) -> None:
    model = write_heads(attributes='padding_mode = "zeros"')
    grid = next(node for node in model.graph.node if node.output[0] == "grid")
    grid.output[0] = "free"
    limits = np.array([1 - 1 / 5, 1 - 1 / 6], np.float32)
    for name, values in (("low", -limits), ("high", limits)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    index = list(model.graph.node).index(grid) + 1
    model.graph.node.insert(index, onnx.helper.make_node("Max", ["free", "low"], ["lower"], "max"))
    model.graph.node.insert(index + 1, onnx.helper.make_node("Min", ["lower", "high"], ["grid"], "min"))
    (warp,) = find_warps(model)
    assert (warp.padding_mode, warp.clamped, warp.places, warp.heads) == ("border", True, "places", 3)
    feeds = draw_heads()
    for runtime in ("onnxruntime", "openvino"):
        rewriting = merge_heads(model, runtime, ())  # type: ignore[arg-type]
        _expect_proved(model, rewriting)
        made, expected = (run_model(each, feeds)["made"] for each in (rewriting.model, model))
        np.testing.assert_allclose(made, expected, rtol=0, atol=2e-5)


def test_a_grid_that_was_clamped_elsewhere_pads_with_zeros(write_heads: Make) -> None:
    model = write_heads(attributes='padding_mode = "zeros"')
    grid = next(node for node in model.graph.node if node.output[0] == "grid")
    grid.output[0] = "free"
    for name, value in (("low", -0.5), ("high", 0.5)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(value), name))
    index = list(model.graph.node).index(grid) + 1
    model.graph.node.insert(index, onnx.helper.make_node("Clip", ["free", "low", "high"], ["grid"], "clip"))
    (warp,) = find_warps(model)
    assert (warp.padding_mode, warp.clamped, warp.places) == ("zeros", False, "grid")
    for runtime in ("onnxruntime", "openvino"):
        _expect_proved(model, merge_heads(model, runtime, ()))  # type: ignore[arg-type]


def test_a_site_to_be_left_alone_is(write_heads: Make) -> None:
    rewriting = merge_heads(write_heads(), "onnxruntime", {"warp"})
    assert (rewriting.sites, rewriting.left, _read_opset(rewriting.model)) == ((), (), 17)
    assert _count(rewriting) == {"GridSample": 1, "Expand": 2}


def test_the_model_that_is_given_is_not_changed(write_heads: Make) -> None:
    model = write_heads()
    before = model.SerializeToString()
    merge_heads(model, "onnxruntime", ())
    assert model.SerializeToString() == before


def test_where_the_opset_cannot_be_raised_it_is_stacked_and_said(
    write_heads: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "raise_opset", lambda model: model)
    model = write_heads()
    rewriting = merge_heads(model, "onnxruntime", ())
    assert (_count(rewriting), _read_opset(rewriting.model)) == ({"GridSample": 1}, 17)
    assert rewriting.left == ("warp: the opset cannot be raised to 19, so it is stacked",)
    _expect_proved(model, rewriting)


def test_a_converter_that_fails_leaves_the_model(write_heads: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> ModelProto:
        raise RuntimeError("no adapter")

    monkeypatch.setattr(onnx.version_converter, "convert_version", fail)
    model = write_heads()
    assert deform_conv.raise_opset(model) is model


def test_raising_the_opset_keeps_names_and_other_domains(write_heads: Make) -> None:
    model = write_heads(opset=16)
    model.opset_import.append(onnx.helper.make_opsetid("com.acme", 3))
    raised = deform_conv.raise_opset(model)
    assert {entry.domain: entry.version for entry in raised.opset_import} == {"": 19, "com.acme": 3}
    assert "warp" in [node.name for node in raised.graph.node]
    assert model.opset_import[0].version == 16


def test_one_head_has_nothing_to_merge() -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
    g (float[2,3,8,6] features, float[2,5,7,2] grid) => (float[2,3,5,7] made) {
      [warp] made = GridSample <padding_mode = "border"> (features, grid)
    }""")
    rewriting = merge_heads(model, "onnxruntime", ())
    assert (rewriting.sites, rewriting.left) == ((), ())


def test_several_warps_are_each_a_site_of_their_own(write_heads: Make, draw_heads: Draw, run_model: Run) -> None:
    """Two warps of the same features and attention, the second's places a little off."""
    model = write_heads()
    second = ModelProto()
    second.CopyFrom(model)
    for node in second.graph.node:
        node.name = node.name and f"{node.name}_b"
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name not in {"features", "attention"} and name not in {t.name for t in model.graph.initializer}:
                    names[index] = f"{name}_b"
    model.graph.node.extend([onnx.helper.make_node("Tanh", ["offsets"], ["offsets_b"], "tanh"), *second.graph.node])
    output = model.graph.output.add()
    output.CopyFrom(model.graph.output[0])
    output.name = "made_b"
    onnx.checker.check_model(model, full_check=True)
    rewriting = merge_heads(model, "onnxruntime", ())
    assert [site.name for site in rewriting.sites] == ["warp", "warp_b"]
    _expect_proved(model, rewriting)
    assert [site.name for site in merge_heads(model, "onnxruntime", {"warp"}).sites] == ["warp_b"]
    feeds = draw_heads()
    made, expected = run_model(rewriting.model, feeds), run_model(model, feeds)
    for name in ("made", "made_b"):
        np.testing.assert_allclose(made[name], expected[name], rtol=0, atol=2e-5)


def test_forms_are_chosen_by_runtime(write_heads: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    (warp,) = find_warps(write_heads())
    (small,) = find_warps(write_heads(**SMALLER))
    assert [choose_form(each, "onnxruntime") for each in (warp, small)] == ["deformable", "stacked"]
    assert [choose_form(each, "openvino") for each in (warp, small)] == ["separate", "separate"]
    monkeypatch.setattr(heads, "has_kernel", lambda: False)
    assert choose_form(warp, "onnxruntime") == "stacked"


def test_what_an_exporter_writes_is_merged(
    export_warps: Callable[..., ModelProto], run_model: Run, warp_formula: Formula
) -> None:
    model = export_warps("repeat_interleave", heads=6, batch="dynamic")
    name_nodes(model)
    rewriting = merge_heads(model, "onnxruntime", ())
    _expect_proved(model, rewriting)
    rng = np.random.default_rng(0)
    feeds = {
        "features": rng.normal(size=(3, 4, 8, 9)),
        "offsets": rng.uniform(-1.5, 1.5, (3, 12, 5, 7)),
        "attention": rng.uniform(size=(3, 6, 5, 7)),
    }
    feeds = {name: values.astype(np.float32) for name, values in feeds.items()}
    planes = feeds["offsets"].reshape(-1, 2, 5, 7)
    expected = warp_formula(feeds["features"], planes, 2 * feeds["attention"], planar=True)
    np.testing.assert_allclose(run_model(rewriting.model, feeds)["made_0"], expected, rtol=0, atol=5e-5)

"""1x1 convolutions move behind a warp where the two commute, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import ModelProto, numpy_helper

from vtopt.optimize.rewrites.pointwise import sink_convolutions
from vtopt.optimize.rewrites.proof import measure_sites
from vtopt.optimize.rewrites.sites import Rewriting

Arrays = dict[str, np.ndarray]
Run = Callable[..., Arrays]

WARP = """
  [lay_{0}] points_{0} = Transpose <perm = [0, 2, 3, 1]> (planes_{0})
  [stack_{0}] grid_{0} = Reshape (points_{0}, tall)
  [warp_{0}] sampled_{0} = GridSample <padding_mode = "border"> (features_{0}, grid_{0})
  [open_{0}] apart_{0} = Reshape (sampled_{0}, parts)
  [lift_{0}] weights_{0} = Unsqueeze (attention_{0}, one)
  [weigh_{0}] weighted_{0} = Mul (apart_{0}, weights_{0})
  [sum_{0}] warped_{0} = ReduceSum <keepdims = 0> (weighted_{0}, two)"""

TEXT = f"""<ir_version: 8, opset_import: ["" : 17]>
g (float[2,3,6,5] person, float[2,3,6,5] clothes, float[4,2,8,6] planes_a, float[4,2,8,6] planes_b,
   float[2,4,4,3] scores) => (float[2,3,8,6] made)
  <int64[4] tall = {{2, 16, 6, 2}}, int64[5] parts = {{2, 6, 2, 8, 6}}, int64[1] one = {{1}}, int64[1] two = {{2}},
   int64[2] halves = {{2, 2}}, float[4] scales = {{1, 1, 2, 2}}> {{
  [conv_a] features_a = Conv (person, w, b)
  [conv_b] features_b = Conv (clothes, w, b)
  [softmax] attention = Softmax <axis = 1> (scores)
  [halve] half_a, half_b = Split <axis = 1> (attention, halves)
  [resize_a] attention_a = Resize <mode = "linear"> (half_a, , scales)
  [resize_b] attention_b = Resize <mode = "linear"> (half_b, , scales)
{WARP.format("a")}
{WARP.format("b")}
  [add] total = Add (warped_a, warped_b)
  [after] made = Conv (total, v, c)
}}"""
"""SDAFN's structure: two warps of features of one 1x1 convolution, whose attention is one softmax, and a 1x1 after."""

ONE = f"""<ir_version: 8, opset_import: ["" : 17]>
g (float[2,3,6,5] person, float[4,2,8,6] planes_a, float[2,2,8,6] scores) => (float[2,6,8,6] made)
  <int64[4] tall = {{2, 16, 6, 2}}, int64[5] parts = {{2, 6, 2, 8, 6}}, int64[1] one = {{1}}, int64[1] two = {{2}}> {{
  [conv_a] features_a = Conv (person, w, b)
  [softmax] attention_a = Softmax <axis = 1> (scores)
{WARP.format("a")}
  [after] made = Relu (warped_a)
}}"""

SINGLE = """<ir_version: 8, opset_import: ["" : 17]>
g (float[2,3,6,5] person, float[2,8,6,2] places) => (float[2,3,8,6] made) {
  [conv] features = Conv (person, w, b)
  [warp] warped = GridSample <padding_mode = "border"> (features, places)
  [after] made = Conv (warped, v, c)
}"""
"""Appearance flow: one head, no attention."""

SHAPES = {"w": (6, 3, 1, 1), "b": (6,), "v": (3, 6, 1, 1), "c": (3,), "w2": (6, 3, 1, 1), "b2": (6,)}


def _parse(text: str, *changes: tuple[str, str], **constants: np.ndarray) -> ModelProto:
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    known = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()} | constants
    nodes = [*model.graph.node, *(inner for n in model.graph.node for a in n.attribute for inner in a.g.node)]
    read = {name for node in nodes for name in node.input}
    for name, values in known.items():
        if name in read:
            model.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.checker.check_model(model, full_check=True)
    return model


def _feed(model: ModelProto) -> Arrays:
    rng = np.random.default_rng(1)
    shapes = {v.name: [d.dim_value or 3 for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    return {
        name: (rng.uniform(-1.5, 1.5, shape) if name.startswith("pla") else rng.normal(size=shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


def _list_convolutions(model: ModelProto) -> list[tuple[int, ...]]:
    """Return the weight shapes of the convolutions, in the order of the graph."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    return [shapes[node.input[1]] for node in model.graph.node if node.op_type == "Conv"]


def _expect_same(model: ModelProto, rewriting: Rewriting, run_model: Run) -> None:
    onnx.checker.check_model(rewriting.model, full_check=True)
    assert max(measure_sites(model, rewriting.model, rewriting.sites).values()) < 1e-5
    feeds = _feed(model)
    expected, made = run_model(model, feeds), run_model(rewriting.model, feeds)
    for name, values in expected.items():
        np.testing.assert_allclose(made[name], values, rtol=0, atol=1e-5 * np.abs(values).max())


def _expect_left(model: ModelProto, reason: str | None) -> None:
    """Expect that nothing moves; `reason` None where the warp is not even looked at."""
    rewriting = sink_convolutions(model, "onnxruntime", ())
    assert rewriting.sites == ()
    assert _list_convolutions(rewriting.model) == _list_convolutions(model)
    if reason is None:
        assert rewriting.left == ()
    else:
        assert rewriting.left
        assert all(line.endswith(reason) for line in rewriting.left)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_structure_of_sdafn_becomes_one_convolution(runtime: str, run_model: Run) -> None:
    model = _parse(TEXT)
    assert _list_convolutions(model) == [(6, 3, 1, 1), (6, 3, 1, 1), (3, 6, 1, 1)]
    rewriting = sink_convolutions(model, runtime, ())  # type: ignore[arg-type]
    assert _list_convolutions(rewriting.model) == [(3, 3, 1, 1)]
    (site,) = rewriting.sites
    assert (site.name, site.output, site.features) == ("warp_a+warp_b", "made", ("person", "clothes"))
    assert site.attention == ("attention",)
    _expect_same(model, rewriting, run_model)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_warp_whose_attention_is_a_softmax_takes_the_convolution_behind_it(runtime: str, run_model: Run) -> None:
    model = _parse(ONE)
    rewriting = sink_convolutions(model, runtime, ())  # type: ignore[arg-type]
    assert [node.op_type for node in rewriting.model.graph.node][-2:] == ["Conv", "Relu"]
    assert [site.output for site in rewriting.sites] == ["warped_a"]
    _expect_same(model, rewriting, run_model)


def test_a_warp_of_one_head_needs_no_attention(run_model: Run) -> None:
    model = _parse(SINGLE)
    rewriting = sink_convolutions(model, "onnxruntime", ())
    assert _list_convolutions(rewriting.model) == [(3, 3, 1, 1)]
    assert [site.name for site in rewriting.sites] == ["warp"]
    _expect_same(model, rewriting, run_model)


@pytest.mark.parametrize("padding", ["border", "reflection"])
@pytest.mark.parametrize("aligned", [0, 1])
def test_paddings_that_keep_weights_whole_will_do(padding: str, aligned: int, run_model: Run) -> None:
    attributes = f'padding_mode = "{padding}", align_corners = {aligned}'
    model = _parse(SINGLE, ('padding_mode = "border"', attributes))
    rewriting = sink_convolutions(model, "onnxruntime", ())
    assert len(rewriting.sites) == 1
    _expect_same(model, rewriting, run_model)


@pytest.mark.parametrize("mode", ["nearest", "bicubic"])
def test_other_modes_are_moved_right_or_left_alone(mode: str, run_model: Run) -> None:
    model = _parse(SINGLE, ('padding_mode = "border"', f'mode = "{mode}", padding_mode = "border"'))
    rewriting = sink_convolutions(model, "onnxruntime", ())
    if rewriting.sites:
        _expect_same(model, rewriting, run_model)


def test_a_batch_that_varies_keeps_varying(run_model: Run) -> None:
    model = _parse(SINGLE)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    rewriting = sink_convolutions(model, "onnxruntime", ())
    assert len(rewriting.sites) == 1
    _expect_same(model, rewriting, run_model)


NOT_WHOLE = "its attention is not known to sum to one"
ATTENTION = {
    "sigmoid": [("Softmax <axis = 1> (scores)", "Sigmoid (scores)")],
    "a softmax over the width": [("Softmax <axis = 1>", "Softmax <axis = 3>")],
    "a softmax over the last axis, unsaid": [("Softmax <axis = 1>", "Softmax")],
    "halves that are resized differently": [
        ('attention_b = Resize <mode = "linear">', 'attention_b = Resize <mode = "nearest">')
    ],
    "halves that are resized to other coordinates": [
        (
            'attention_b = Resize <mode = "linear">',
            'attention_b = Resize <mode = "linear", coordinate_transformation_mode = "align_corners">',
        )
    ],
    "one half used twice": [("(half_b, , scales)", "(half_a, , scales)")],
    "a half that is multiplied on the way": [
        ("attention_b = Resize", "wide_b = Resize"),
        ("  [lay_b]", "  [more] attention_b = Mul (wide_b, half)\n  [lay_b]"),
        ("int64[2] halves", "float half = {0.5}, int64[2] halves"),
    ],
    "cubic interpolation": [('Resize <mode = "linear">', 'Resize <mode = "cubic">')],
}


@pytest.mark.parametrize("changes", [pytest.param(changes, id=name) for name, changes in ATTENTION.items()])
def test_a_bias_stays_where_attention_is_not_known_to_sum_to_one(changes: list[tuple[str, str]]) -> None:
    _expect_left(_parse(TEXT, *changes), NOT_WHOLE)


@pytest.mark.parametrize("changes", [pytest.param(changes, id=name) for name, changes in ATTENTION.items()])
@pytest.mark.parametrize("zeros", [False, True], ids=["no bias", "a bias of zeros"])
def test_without_a_bias_attention_may_sum_to_anything(
    zeros: bool, changes: list[tuple[str, str]], run_model: Run
) -> None:
    bias = {"b": np.zeros(6, np.float32)} if zeros else {}
    model = _parse(TEXT, *changes, *([] if zeros else [(", w, b)", ", w)")]), **bias)
    rewriting = sink_convolutions(model, "onnxruntime", ())
    assert _list_convolutions(rewriting.model) == [(3, 3, 1, 1)]
    _expect_same(model, rewriting, run_model)


def test_attention_that_is_resized_before_it_is_split_is_whole(run_model: Run) -> None:
    resize = 'Resize <mode = "linear">'
    split = "Split <axis = 1>"
    changes = [
        (f"half_a, half_b = {split} (attention, halves)", f"large = {resize} (attention, , scales)"),
        (f"attention_a = {resize} (half_a, , scales)", f"attention_a, attention_b = {split} (large, halves)"),
        (f"  [resize_b] attention_b = {resize} (half_b, , scales)\n", ""),
    ]
    model = _parse(TEXT, *changes)
    rewriting = sink_convolutions(model, "onnxruntime", ())
    assert _list_convolutions(rewriting.model) == [(3, 3, 1, 1)]
    _expect_same(model, rewriting, run_model)


def test_padding_with_zeros_is_left_alone() -> None:
    reason = "pads with zeros, so the weights of a sample do not always sum to one"
    _expect_left(_parse(SINGLE, ('padding_mode = "border"', 'padding_mode = "zeros"')), reason)
    one_of_two = [('sampled_b = GridSample <padding_mode = "border">', "sampled_b = GridSample <align_corners = 0>")]
    _expect_left(_parse(TEXT, *one_of_two), reason)


def test_different_convolutions_are_left_alone() -> None:
    reason = "the warps that are added have features of different convolutions"
    _expect_left(_parse(TEXT, ("Conv (clothes, w, b)", "Conv (clothes, w2, b)")), reason)
    _expect_left(_parse(TEXT, ("Conv (clothes, w, b)", "Conv (clothes, w, b2)")), reason)
    _expect_left(_parse(TEXT, ("Conv (clothes, w, b)", "Conv (clothes, w)")), reason)


def test_equal_convolutions_need_not_share_their_weights(run_model: Run) -> None:
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=SHAPES["w"]).astype(np.float32), "b": rng.normal(size=6).astype(np.float32)}
    copies = {f"{name}2": values.copy() for name, values in weights.items()}
    model = _parse(TEXT, ("Conv (clothes, w, b)", "Conv (clothes, w2, b2)"), **weights, **copies)
    rewriting = sink_convolutions(model, "onnxruntime", ())
    assert len(rewriting.sites) == 1
    _expect_same(model, rewriting, run_model)


MORE = ("made)", "made, float[2,6,6,5] more)")


@pytest.mark.parametrize(
    ("text", "changes", "reason"),
    [
        pytest.param(
            SINGLE,
            [MORE, ("  [warp]", "  [more] more = Relu (features)\n  [warp]")],
            "something else reads its features too",
            id="another node",
        ),
        pytest.param(
            SINGLE,
            [("made)", "made, float[2,6,6,5] features)")],
            "something else reads its features too",
            id="an output",
        ),
        pytest.param(
            TEXT,
            [MORE, ("  [softmax]", "  [more] more = Relu (features_b)\n  [softmax]")],
            "something else reads its features too",
            id="the second's",
        ),
    ],
)
def test_features_that_are_read_elsewhere_stay_convolved(
    text: str, changes: list[tuple[str, str]], reason: str
) -> None:
    _expect_left(_parse(text, *changes), reason)


@pytest.mark.parametrize(
    ("conv", "weight"),
    [
        pytest.param("Conv <pads = [1, 1, 1, 1]> (person, w, b)", (6, 3, 3, 3), id="3x3"),
        pytest.param("Conv <strides = [2, 2]> (person, w, b)", (6, 3, 1, 1), id="strided"),
        pytest.param("Conv <strides = [1, 2]> (person, w, b)", (6, 3, 1, 1), id="strided along the width"),
        pytest.param("Conv <pads = [0, 0, 1, 1]> (person, w, b)", (6, 3, 1, 1), id="padded"),
        pytest.param('Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (person, w, b)', (6, 3, 1, 1), id="auto_pad"),
        pytest.param("Conv <group = 3> (person, w, b)", (6, 1, 1, 1), id="grouped"),
    ],
)  # fmt: skip
def test_other_convolutions_are_left_alone(conv: str, weight: tuple[int, ...]) -> None:
    w = np.random.default_rng(0).normal(size=weight).astype(np.float32)
    _expect_left(_parse(SINGLE, ("Conv (person, w, b)", conv), w=w), None)


def _resize_first(outputs: int) -> Arrays:
    """Return constants whose first convolution has 3 inputs and so many outputs."""
    rng = np.random.default_rng(0)
    shapes = {"w": (outputs, 3, 1, 1), "b": (outputs,), "v": (3, outputs, 1, 1)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_a_convolution_that_narrows_is_left_alone() -> None:
    _expect_left(_parse(SINGLE, **_resize_first(2)), None)


def test_a_convolution_that_keeps_the_width_moves_only_where_one_is_saved(run_model: Run) -> None:
    merging = _parse(SINGLE, **_resize_first(3))
    rewriting = sink_convolutions(merging, "onnxruntime", ())
    assert _list_convolutions(rewriting.model) == [(3, 3, 1, 1)]
    _expect_same(merging, rewriting, run_model)
    _expect_left(_parse(SINGLE, ("Conv (warped, v, c)", "Relu (warped)"), **_resize_first(3)), None)


def test_weights_that_are_computed_are_left_alone() -> None:
    person = "float[2,3,6,5] person"
    changes = [(person, f"{person}, float[6,3,1,1] w0"), ("  [conv]", "  w = Tanh (w0)\n  [conv]")]
    model = onnx.parser.parse_model(_change(SINGLE, *changes))
    rng = np.random.default_rng(0)
    for name in ("b", "v", "c"):
        model.graph.initializer.append(numpy_helper.from_array(rng.normal(size=SHAPES[name]).astype(np.float32), name))
    onnx.checker.check_model(model, full_check=True)
    rewriting = sink_convolutions(model, "onnxruntime", ())
    assert (rewriting.sites, rewriting.left) == ((), ())


def _change(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize(
    ("after", "weight"),
    [
        pytest.param("Conv <pads = [1, 1, 1, 1]> (warped, v, c)", (3, 6, 3, 3), id="a 3x3 convolution"),
        pytest.param("Conv <group = 3> (warped, v, c)", (3, 2, 1, 1), id="a grouped convolution"),
        pytest.param("Mul (few, few)", (3, 6, 1, 1), id="something else"),
    ],
)
def test_what_follows_stays_as_it_is_where_it_cannot_merge(after: str, weight: tuple[int, ...], run_model: Run) -> None:
    changes = [("Conv (warped, v, c)", after)]
    if "few" in after:
        changes.append(("  [after]", "  [cut] few, rest = Split <axis = 1> (warped)\n  [after]"))
    v = np.random.default_rng(0).normal(size=weight).astype(np.float32)
    model = _parse(SINGLE, *changes, v=v)
    rewriting = sink_convolutions(model, "onnxruntime", ())
    assert [site.output for site in rewriting.sites] == ["warped"]
    _expect_same(model, rewriting, run_model)


def test_a_warped_output_that_is_read_twice_is_not_merged_away(run_model: Run) -> None:
    changes = [("made)", "made, float[2,6,8,6] more)"), ("  [after]", "  [more] more = Relu (warped)\n  [after]")]
    model = _parse(SINGLE, *changes)
    rewriting = sink_convolutions(model, "onnxruntime", ())
    assert [site.output for site in rewriting.sites] == ["warped"]
    _expect_same(model, rewriting, run_model)


def test_a_warped_output_that_is_the_model_s_is_kept(run_model: Run) -> None:
    model = _parse(SINGLE, ("made)", "made, float[2,6,8,6] warped)"))
    rewriting = sink_convolutions(model, "onnxruntime", ())
    assert [value.name for value in rewriting.model.graph.output] == ["made", "warped"]
    _expect_same(model, rewriting, run_model)


def test_a_warp_that_is_the_model_s_output_before_it_is_added(run_model: Run) -> None:
    """The first warp's own output is asked for: the two may not be added before they are convolved."""
    model = _parse(TEXT, ("=> (float[2,3,8,6] made)", "=> (float[2,3,8,6] made, float[2,6,8,6] warped_a)"))
    rewriting = sink_convolutions(model, "onnxruntime", ())
    if rewriting.sites:
        _expect_same(model, rewriting, run_model)


def test_warps_that_are_added_to_something_else_have_only_their_own_attention() -> None:
    """Half a softmax does not sum to one, so the bias stays; nor may what is added be moved through."""
    add = "[add] total = Add (warped_a, "
    changes = [(f"{add}warped_b)", f"[keep] other = Relu (warped_b)\n  {add}other)")]
    _expect_left(_parse(TEXT, *changes), NOT_WHOLE)


def test_a_second_time_there_is_nothing_to_do() -> None:
    for text in (TEXT, ONE, SINGLE):
        once = sink_convolutions(_parse(text), "onnxruntime", ())
        twice = sink_convolutions(once.model, "onnxruntime", ())
        assert (len(once.sites), twice.sites, twice.left) == (1, (), ())


def test_a_site_to_be_left_alone_is() -> None:
    rewriting = sink_convolutions(_parse(TEXT), "onnxruntime", {"warp_a+warp_b"})
    assert (rewriting.sites, rewriting.left) == ((), ())
    assert _list_convolutions(rewriting.model) == _list_convolutions(_parse(TEXT))


def test_the_model_that_is_given_is_not_changed() -> None:
    model = _parse(TEXT)
    before = model.SerializeToString()
    sink_convolutions(model, "onnxruntime", ())
    assert model.SerializeToString() == before


def test_a_warp_without_convolutions_is_none_of_its_business() -> None:
    _expect_left(_parse(SINGLE, ("Conv (person, w, b)", "Concat <axis = 1> (person, person)")), None)


def test_a_convolution_in_a_branch_is_not_merged(run_model: Run) -> None:
    after = """[outer] made = If (flag) <
    then_branch = t () => (float[2,3,8,6] p) { [after] p = Conv (warped, v, c) },
    else_branch = e () => (float[2,3,8,6] q) { [other] q = Slice (places_c, zero, three, one) }>"""
    constants = "<int64[1] zero = {0}, int64[1] three = {3}, int64[1] one = {1}>"
    model = _parse(
        SINGLE,
        ("[after] made = Conv (warped, v, c)", after),
        ("places) =>", "places, float[2,6,8,6] places_c, bool flag) =>"),
        ("=> (float[2,3,8,6] made)", f"=> (float[2,3,8,6] made) {constants}"),
    )
    rewriting = sink_convolutions(model, "onnxruntime", ())
    assert [site.output for site in rewriting.sites] == ["warped"]
    onnx.checker.check_model(rewriting.model, full_check=True)
    feeds = _feed(model)
    for flag in (False, True):
        feeds["flag"] = np.array(flag)
        made, expected = (run_model(each, feeds)["made"] for each in (rewriting.model, model))
        np.testing.assert_allclose(made, expected, rtol=0, atol=1e-5 * np.abs(expected).max())

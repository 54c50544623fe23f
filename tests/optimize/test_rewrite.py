"""The step: warps become faster ones, pictures stay, and what cannot be proved stays as it was, with the reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import ModelProto, numpy_helper
from typer.testing import CliRunner

from vtopt.optimize import rewrite
from vtopt.optimize.artifacts import hash_artifact
from vtopt.optimize.cli import app
from vtopt.optimize.errors import InputError, OutputError, UsageError
from vtopt.optimize.openvino_ir import convert_openvino
from vtopt.optimize.provenance import read_history
from vtopt.optimize.quantize import quantize_onnx
from vtopt.optimize.rewrite import MAX_RELATIVE_DIFFERENCE, rewrite_onnx
from vtopt.optimize.rewrites import Rewriting, Runtime, heads, load_rewrite, padding
from vtopt.optimize.rewrites.forms import FORMS
from vtopt.optimize.verify import compare_artifacts

Arrays = dict[str, np.ndarray]

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N,3,32,24] person, float[N,3,32,24] clothes) => (float[N,3,32,24] tryon)
  <int64[1] one = {1}, int64[1] two = {2}, int64[5] spread = {1, 2, 8, 32, 24}, int64[4] copied = {-1, 8, 32, 24},
   int64[4] joined = {-1, 16, 32, 24}, int64[4] planes = {-1, 2, 32, 24}, int64[2] halves = {8, 8}, float half = {0}> {
  [feature] features = Conv <pads = [1, 1, 1, 1]> (clothes, w_feature)
  [head] flow = Conv <pads = [1, 1, 1, 1]> (person, w_head)
  [identity] offsets = Add (flow, corners)
  [scores] scores = Conv <pads = [1, 1, 1, 1]> (person, w_scores)
  [softmax] attention = Softmax <axis = 1> (scores)
  [open] opened = Unsqueeze (features, one)
  [expand] expanded = Expand (opened, spread)
  [copy] copies = Reshape (expanded, copied)
  [planes] places = Reshape (offsets, planes)
  [turn] grid = Transpose <perm = [0, 2, 3, 1]> (places)
  [warp] sampled = GridSample <padding_mode = "border"> (copies, grid)
  [rows] rows = Reshape (sampled, joined)
  [lift] weight = Unsqueeze (attention, two)
  [spread] wide = Expand (weight, spread)
  [weights] weights = Reshape (wide, joined)
  [weigh] weighted = Mul (rows, weights)
  [split] first, second = Split <axis = 1> (weighted, halves)
  [sum] warped = Add (first, second)
  [paint] painted = Conv (warped, w_paint)
  [cut] points, rest = Split <axis = 0> (grid)
  [again] direct = GridSample <padding_mode = "reflection"> (clothes, points)
  [both] tryon = Add (painted, direct)
}"""
"""A warp of two heads as the public code writes it, and one of one head."""

WARPLESS = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N,3,32,24] person, float[N,3,32,24] clothes) => (float[N,3,32,24] tryon) { tryon = Add (person, clothes) }"""


def _make(text: str = TEXT, *changes: tuple[str, str], batch: int | str = 1) -> ModelProto:
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    model = onnx.parser.parse_model(text.replace("[N,", f"[{batch},"))
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(-1, 1, 24), np.linspace(-1, 1, 32))
    constants = {
        "w_feature": rng.normal(size=(8, 3, 3, 3)) / 5,
        "w_head": rng.normal(size=(4, 3, 3, 3)) / 5,
        "w_scores": rng.normal(size=(2, 3, 3, 3)),
        "w_paint": rng.normal(size=(3, 8, 1, 1)) / 3,
        "corners": np.stack([x, y, x, y])[None],
    }
    read = {name for node in model.graph.node for name in node.input}
    read |= {name for node in model.graph.node for a in node.attribute for inner in a.g.node for name in inner.input}
    for name, values in constants.items():
        if name in read:
            model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    onnx.checker.check_model(model, full_check=True)
    return model


def _save(model: ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return _save(_make(), folder / "net.onnx")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out" / "fast.onnx"


def _count(path: Path, *ops: str) -> list[int]:
    found = [node.op_type for node in onnx.load(path).graph.node]
    return [found.count(op) for op in ops]


def _list_attributes(path: Path) -> list[dict[str, Any]]:
    return [
        {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        for node in onnx.load(path).graph.node
        if node.op_type == "GridSample"
    ]


def _measure(source: Path, output: Path) -> float:
    """Return the largest difference of pictures on three pairs, without trusting what the step says of itself."""
    return compare_artifacts(source, output, pair_count=3).max_relative


def test_rewrite(source: Path, output: Path) -> None:
    assert rewrite_onnx(source, output, pair_count=1) == output
    assert sorted(output.parent.iterdir()) == [output]
    assert _count(output, "DeformConv", "GridSample", "Expand") == [1, 1, 0]
    assert all(each.get("padding_mode", b"zeros") == b"zeros" for each in _list_attributes(output))
    assert _measure(source, output) <= 1e-5
    (record,) = read_history(output)
    assert (record.step, record.parent, record.parent_sha256) == ("rewrite", "net.onnx", hash_artifact(source))
    assert record.settings["runtime"] == "onnxruntime"
    figures = record.figures
    assert (figures["places_pointwise"], figures["places_heads"], figures["places_padding"]) == (0, 1, 1)
    assert figures["nodes_before"] == len(onnx.load(source).graph.node)
    assert figures["nodes"] == len(onnx.load(output).graph.node)
    assert figures["max_relative"] <= MAX_RELATIVE_DIFFERENCE
    assert list(record.notices) == [rewrite.DEFORM_NOTICE]


def test_rewrite_for_openvino(source: Path, output: Path) -> None:
    rewrite_onnx(source, output, runtime="openvino", pair_count=1)
    assert _count(output, "DeformConv", "GridSample", "Expand") == [0, 3, 0]
    assert [entry.version for entry in onnx.load(output).opset_import] == [17]
    assert _measure(source, output) <= 1e-5
    (record,) = read_history(output)
    assert (record.settings["runtime"], list(record.notices)) == ("openvino", [])
    xml = convert_openvino(output, output.with_suffix(".xml"), pair_count=1)
    assert _measure(source, xml) <= 1e-4


def test_what_openvino_cannot_convert_is_told_with_the_remedy(source: Path, output: Path) -> None:
    rewrite_onnx(source, output, pair_count=1)
    try:
        convert_openvino(output, output.with_suffix(".xml"), pair_count=1)
    except InputError as error:
        assert "--runtime openvino" in str(error)
        assert not output.with_suffix(".xml").exists()
    else:
        assert _measure(source, output.with_suffix(".xml")) <= 1e-4


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_second_time_nothing_changes_and_that_is_said(runtime: Runtime, source: Path, output: Path) -> None:
    rewrite_onnx(source, output, runtime=runtime, pair_count=1)
    again = rewrite_onnx(output, output.with_name("again.onnx"), runtime=runtime, pair_count=1)
    assert onnx.load(again).graph == onnx.load(output).graph
    record = read_history(again)[-1]
    (said,) = record.notices
    assert re.fullmatch(r"nothing was rewritten of \d+ warps", said)
    assert {name: count for name, count in record.figures.items() if name.startswith("places_") and count} == {}
    assert record.figures["nodes"] == record.figures["nodes_before"]


def test_the_same_model_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    one, two = (rewrite_onnx(source, tmp_path / name, pair_count=1) for name in ("one.onnx", "two.onnx"))
    assert one.read_bytes() == two.read_bytes()


def test_one_rewrite_alone(source: Path, output: Path) -> None:
    rewrite_onnx(source, output, only=["padding"], pair_count=1)
    assert _count(output, "DeformConv", "GridSample") == [0, 2]
    (record,) = read_history(output)
    assert record.settings["only"] == "padding"
    assert [name for name in record.figures if name.startswith("places_")] == ["places_padding"]
    assert record.figures["places_padding"] == 2
    assert _measure(source, output) <= 1e-5


def test_the_input_stays_as_it_is(source: Path, output: Path) -> None:
    before = source.read_bytes()
    rewrite_onnx(source, output, pair_count=1)
    assert source.read_bytes() == before


def test_a_model_without_warps_stays_as_it_is(tmp_path: Path, output: Path) -> None:
    source = _save(_make(WARPLESS), tmp_path / "net.onnx")
    rewrite_onnx(source, output, pair_count=1)
    (record,) = read_history(output)
    assert [node.op_type for node in onnx.load(output).graph.node] == ["Add"]
    assert (record.figures["nodes_before"], record.figures["nodes"]) == (1, 1)
    assert list(record.notices) == ["no warps were found"]


# What is refused


def test_an_unknown_rewrite_is_a_usage_error(source: Path, output: Path) -> None:
    with pytest.raises(UsageError, match="there is no haeds; choose of pointwise, heads, padding"):
        rewrite_onnx(source, output, only=["heads", "haeds"])
    result = CliRunner().invoke(app, ["rewrite", str(source), str(output), "--only", "haeds"])
    assert isinstance(result.exception, UsageError)
    assert (result.exception.exit_code, output.exists()) == (2, False)


def test_the_command_line_takes_only_more_than_once(source: Path, output: Path) -> None:
    arguments = ["--only", "padding", "--only", "heads", "--runtime", "openvino", "--pair-count", "1"]
    result = CliRunner().invoke(app, ["rewrite", str(source), str(output), *arguments])
    assert result.exit_code == 0, result.output
    (record,) = read_history(output)
    assert [name for name in record.figures if name.startswith("places_")] == ["places_heads", "places_padding"]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-400])


def _scribble(path: Path) -> None:
    path.write_bytes(b"what is this?" * 9)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        pytest.param(Path.unlink, "no such file", id="missing"),
        pytest.param(_cut, "not a (readable|valid) ONNX model", id="cut short"),
        pytest.param(_scribble, "not a (readable|valid) ONNX model", id="no ONNX"),
        pytest.param(_empty, "is empty", id="empty"),
    ],
)
def test_a_source_that_is_no_model_is_refused(
    fault: Callable[[Path], None], message: str, source: Path, output: Path
) -> None:
    fault(source)
    with pytest.raises(InputError, match=message):
        rewrite_onnx(source, output)
    assert not output.parent.exists() or not list(output.parent.iterdir())


def test_a_checkpoint_is_refused(small_checkpoint: Path, output: Path) -> None:
    with pytest.raises(InputError, match="is no ONNX model; make one with vtopt export"):
        rewrite_onnx(small_checkpoint, output)


def test_an_existing_output_is_untouched(source: Path, output: Path) -> None:
    output.parent.mkdir()
    output.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already"):
        rewrite_onnx(source, output)
    assert output.read_bytes() == b"precious"
    rewrite_onnx(source, output, force=True, pair_count=1)
    assert len(read_history(output)) == 1


def test_an_output_of_another_suffix_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"the suffix must be \.onnx"):
        rewrite_onnx(source, tmp_path / "out.xml")


def test_a_recipe_s_setting_of_another_type_is_no_crash() -> None:
    for wrong in (5, "padding", None):
        rewrite.check_settings(only=wrong)  # type: ignore[arg-type]


def test_a_warp_that_something_else_takes_the_size_of_does_not_stay_beside_the_new_one(
    tmp_path: Path, output: Path
) -> None:
    change = ("[weigh] weighted", "[size] size = Shape (rows)\n  [weigh] weighted")
    text = TEXT.replace("=> (float[N,3,32,24] tryon)", "=> (float[N,3,32,24] tryon, int64[4] size)")
    source = _save(_make(text, change), tmp_path / "net.onnx")
    rewrite_onnx(source, output, pair_count=1)
    counted = _count(output, "DeformConv", "GridSample")
    assert counted in ([0, 2], [1, 1])
    assert _measure(source, output) <= 1e-5


# What a model may hold


def test_weights_in_a_file_of_their_own_are_taken_in(tmp_path: Path, output: Path) -> None:
    source = tmp_path / "net.onnx"
    onnx.save(_make(), source, save_as_external_data=True, location="net.bin", size_threshold=0)
    assert (tmp_path / "net.bin").exists()
    rewrite_onnx(source, output, pair_count=1)
    assert sorted(output.parent.iterdir()) == [output]
    assert _count(output, "DeformConv") == [1]
    assert _measure(source, output) <= 1e-5


def test_an_operator_of_another_domain_is_kept(tmp_path: Path, output: Path) -> None:
    tryon = "tryon = Add (painted, direct)"
    gelu = f"{tryon.replace('tryon', 'sum')}\n  [gelu] tryon = com.microsoft.Gelu (sum)"
    model = _make(TEXT, (tryon, gelu), ('["" : 17]', '["" : 17, "com.microsoft" : 1]'))
    source = _save(model, tmp_path / "net.onnx")
    rewrite_onnx(source, output, pair_count=1)
    assert _count(output, "DeformConv", "Gelu") == [1, 1]
    assert {entry.domain for entry in onnx.load(output).opset_import} == {"", "com.microsoft"}
    assert _measure(source, output) <= 1e-5


def test_onnxruntime_s_own_grid_sample_is_left_alone(tmp_path: Path, output: Path) -> None:
    """It has the operator's name and another domain, and settings of its own."""
    change = ('GridSample <padding_mode = "reflection">', 'com.microsoft.GridSample <padding_mode = "reflection">')
    model = _make(TEXT, change, ('["" : 17]', '["" : 17, "com.microsoft" : 1]'))
    source = _save(model, tmp_path / "net.onnx")
    rewrite_onnx(source, output, pair_count=1)
    (own,) = [node for node in onnx.load(output).graph.node if node.domain == "com.microsoft"]
    assert own.name == "again"
    assert read_history(output)[-1].figures["places_padding"] == 0
    assert _measure(source, output) <= 1e-5


def test_warps_in_a_function_of_the_model_are_found(tmp_path: Path, output: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
    g (float[1,3,32,24] person, float[1,3,32,24] clothes) => (float[1,3,32,24] tryon) {
      [head] flow = Conv <pads = [1, 1, 1, 1]> (person, w_head)
      [part] two, rest = Split <axis = 1> (flow)
      [turn] grid = Transpose <perm = [0, 2, 3, 1]> (two)
      [call] tryon = own.warp (clothes, grid)
    }
    <domain: "own", opset_import: ["" : 17]>
    warp (x, where) => (y) { y = GridSample <padding_mode = "border"> (x, where) }"""
    source = _save(_make(text), tmp_path / "net.onnx")
    rewrite_onnx(source, output, pair_count=1)
    assert read_history(output)[-1].figures["places_padding"] == 1
    assert _count(output, "GridSample", "warp") == [1, 0]
    assert _measure(source, output) <= 1e-5


INSIDE = """
  [mean] mean = ReduceMean <keepdims = 0> (person)
  [ask] flag = Greater (mean, half)
  [outer] direct = If (flag) <
    then_branch = a () => (float[1,3,32,24] p) {
      [in_then] p = GridSample <padding_mode = "reflection"> (clothes, points) },
    else_branch = b () => (float[1,3,32,24] q) {
      [in_else] q = GridSample <padding_mode = "border"> (clothes, points) }>"""
LOOPED = """
  [outer] direct = Loop (count, go, clothes) <
    body = b (int64 i, bool on, float[1,3,32,24] carried) => (bool still, float[1,3,32,24] next) {
      [on] still = Identity (on)
      [in_body] next = GridSample <padding_mode = "border"> (carried, points) }>"""


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("inside", "warps"), [pytest.param(INSIDE, "in_then, in_else", id="If"), pytest.param(LOOPED, "in_body", id="Loop")]
)
def test_warps_in_branches_and_loops_stay_with_the_reason(
    inside: str, warps: str, runtime: Runtime, tmp_path: Path, output: Path
) -> None:
    model = _make(TEXT, ('\n  [again] direct = GridSample <padding_mode = "reflection"> (clothes, points)', inside),
                  ("float half = {0}", "float half = {0}, int64 count = {3}, bool go = {1}"))  # fmt: skip
    source = _save(model, tmp_path / "net.onnx")
    rewrite_onnx(source, output, runtime=runtime, pair_count=1)
    (record,) = read_history(output)
    assert (record.figures["places_heads"], record.figures["places_padding"]) == (1, 0)
    said = f"padding: {warps}: lies inside outer; warps in If, Loop and Scan are left alone"
    assert said in record.notices
    assert _measure(source, output) <= 1e-5


DYNAMIC = TEXT.replace(
    "[cut] points, rest = Split <axis = 0> (grid)",
    "[cut] few, rest = Split <axis = 1> (offsets)\n  [lay] points = Transpose <perm = [0, 2, 3, 1]> (few)",
)
"""The second warp takes half of the channels, where TEXT takes half of the batch."""


def test_a_batch_that_varies_keeps_varying(tmp_path: Path, output: Path, run_model: Callable[..., Arrays]) -> None:
    source = _save(_make(DYNAMIC, batch="N"), tmp_path / "net.onnx")
    for runtime in ("onnxruntime", "openvino"):
        rewrite_onnx(source, output, runtime=runtime, pair_count=1, force=True)  # type: ignore[arg-type]
        figures = read_history(output)[-1].figures
        assert (figures["places_heads"], figures["places_padding"]) == (1, 1)
        rng = np.random.default_rng(0)
        for batch in (1, 3):
            feeds = {name: rng.uniform(-1, 1, (batch, 3, 32, 24)).astype(np.float32) for name in ("person", "clothes")}
            made, expected = (run_model(onnx.load(path), feeds)["tryon"] for path in (output, source))
            np.testing.assert_allclose(made, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_flow_warped_by_a_flow(tmp_path: Path, output: Path) -> None:
    """Appearance flow: one head, flows refined by warping the coarser one."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[1,3,32,24] person, float[1,3,32,24] clothes) => (float[1,3,32,24] tryon)
      <float[4] scales = {1, 1, 0.5, 0.5}, float[4] back = {1, 1, 2, 2}> {
      [head] flow = Conv <pads = [1, 1, 1, 1]> (person, w_head)
      [split] coarse, fine = Split <axis = 1> (flow)
      [small] little = Resize <mode = "linear"> (coarse, , scales)
      [turn] fine_grid = Transpose <perm = [0, 2, 3, 1]> (fine)
      [compose] composed = GridSample <padding_mode = "border", align_corners = 1> (little, fine_grid)
      [refine] refined = Add (composed, fine)
      [lay] grid = Transpose <perm = [0, 2, 3, 1]> (refined)
      [warp] tryon = GridSample <padding_mode = "border", align_corners = 1> (clothes, grid)
    }"""
    source = _save(_make(text), tmp_path / "net.onnx")
    rewrite_onnx(source, output, pair_count=1)
    (record,) = read_history(output)
    assert (record.figures["places_padding"], record.figures["places_heads"]) == (2, 0)
    assert list(record.notices) == []
    assert _measure(source, output) <= 1e-4


# Faults of a rewrite itself


def _shift(form: Callable[..., Any]) -> Callable[..., Any]:
    """Return the form with features moved by one pixel."""

    def shifted(editor: Any, warp: Any, features: Any, channels: int) -> Any:
        width = warp.features_shape[3]
        first, rest = editor.add_outputs("Split", 2, features, np.array([1, width - 1]), axis=3)
        return form(editor, warp, editor.add("Concat", rest, first, axis=3), channels)

    return shifted


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_place_that_is_rewritten_wrong_is_left_alone(
    runtime: Runtime, source: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "FORMS", {name: _shift(form) for name, form in FORMS.items()})
    rewrite_onnx(source, output, runtime=runtime, pair_count=1)
    (record,) = read_history(output)
    assert (record.figures["places_heads"], record.figures["places_padding"]) == (0, 2)
    (said,) = record.notices
    assert re.fullmatch(r"heads: warp: would differ by [\d.]+ of the largest value", said)
    assert _count(output, "GridSample", "DeformConv", "Expand") == [2, 0, 2]
    assert _measure(source, output) <= 1e-5


def _spoil_elsewhere(model: ModelProto, *_: Any) -> Rewriting:
    """Rewrite right, and change a weight that no place holds."""
    rewriting = _clamp(model, *_)
    (paint,) = [tensor for tensor in rewriting.model.graph.initializer if tensor.name == "w_paint"]
    paint.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(paint) * np.float32(1.01), "w_paint"))
    return rewriting


def _break_elsewhere(model: ModelProto, *_: Any) -> Rewriting:
    rewriting = _clamp(model, *_)
    next(node for node in rewriting.model.graph.node if node.name == "both").op_type = "Aad"
    return rewriting


_clamp = padding.clamp_padding


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param(_spoil_elsewhere, r"pictures would differ by 0\.\d+ of their largest value", id="other pictures"),
        pytest.param(_break_elsewhere, r".*Aad.*", id="invalid"),
    ],
)
def test_what_only_the_whole_shows_is_taken_back_and_the_others_stay(
    fault: Callable[..., Rewriting], reason: str, source: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(padding, "clamp_padding", fault)
    rewrite_onnx(source, output, pair_count=1)
    (record,) = read_history(output)
    assert (record.figures["places_heads"], record.figures["places_padding"]) == (1, 0)
    (said,) = [notice for notice in record.notices if notice.startswith("padding: ")]
    assert re.fullmatch(f"padding: not applied: {reason}", said)
    assert _count(output, "DeformConv") == [1]
    assert record.figures["max_relative"] <= MAX_RELATIVE_DIFFERENCE
    assert _measure(source, output) <= 1e-5


def test_a_rewrite_that_fails_writes_nothing(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Rewriting:
        raise RuntimeError("a fault")

    monkeypatch.setattr(padding, "clamp_padding", fail)
    with pytest.raises(RuntimeError, match="a fault"):
        rewrite_onnx(source, output, pair_count=1)
    assert not output.exists()
    assert not output.parent.exists() or not list(output.parent.iterdir())


def test_names_of_rewrites_lead_to_functions() -> None:
    assert load_rewrite("padding") is padding.clamp_padding
    assert load_rewrite("heads") is heads.merge_heads
    with pytest.raises(KeyError):
        load_rewrite("haeds")


# What is left alone


def test_a_grid_of_unknown_shape_is_left_alone(tmp_path: Path, output: Path) -> None:
    """Shape inference ends at operators of other domains."""
    text = """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
    g (float[1,3,32,24] person, float[1,3,32,24] clothes) => (float[1,3,32,24] tryon) {
      [head] flow = Conv <pads = [1, 1, 1, 1]> (person, w_head)
      [part] corner, rest = Split <axis = 1> (flow)
      [gelu] bent = com.microsoft.Gelu (corner)
      [turn] grid = Transpose <perm = [0, 2, 3, 1]> (bent)
      [warp] tryon = GridSample <padding_mode = "border"> (clothes, grid)
    }"""
    source = _save(_make(text), tmp_path / "net.onnx")
    rewrite_onnx(source, output, pair_count=1)
    (record,) = read_history(output)
    assert record.figures["places_padding"] == 0
    assert list(record.notices) == ["padding: warp: the shape of its grid is not known"]
    assert _measure(source, output) == 0


@pytest.mark.parametrize("settings", [{"fp16": True}, {"int8": True, "calibration_count": 2}], ids=["fp16", "int8"])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_what_is_quantised_already_keeps_its_pictures(
    runtime: Runtime, settings: dict[str, Any], source: Path, output: Path
) -> None:
    quantized = quantize_onnx(source, source.with_name("small.onnx"), **settings, pair_count=1)
    rewrite_onnx(quantized, output, runtime=runtime, pair_count=1)
    assert [record.step for record in read_history(output)] == ["quantize", "rewrite"]
    assert _measure(quantized, output) <= 1e-3

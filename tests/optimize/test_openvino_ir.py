"""OpenVINO IR: the same pictures from two files, which know where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import openvino
import pytest
from onnx import numpy_helper

from vtopt.optimize import openvino_ir
from vtopt.optimize.artifacts import hash_artifact
from vtopt.optimize.errors import InputError, OutputError
from vtopt.optimize.openvino_ir import convert_openvino
from vtopt.optimize.provenance import read_history
from vtopt.optimize.quantize import quantize_onnx

WIDE = 64
WEIGHTS = WIDE * 3 * 9 + 3 * WIDE
TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,32,24] person, float[1,3,32,24] clothes) => (float[1,3,32,24] tryon) {
  features = Conv <pads = [1, 1, 1, 1]> (clothes, w)
  active = Relu (features)
  painted = Conv (active, v)
  tryon = Add (painted, person)
}"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(TEXT)
    for name, shape in {"w": (WIDE, 3, 3, 3), "v": (3, WIDE, 1, 1)}.items():
        values = rng.normal(size=shape).astype(np.float32) / 10
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    path = tmp_path / "in" / "net.onnx"
    path.parent.mkdir()
    onnx.save(model, path)
    return path


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out" / "net.xml"


def test_convert(source: Path, output: Path) -> None:
    assert convert_openvino(source, output, pair_count=1) == output
    assert sorted(output.parent.iterdir()) == [output.with_suffix(".bin"), output]
    (record,) = read_history(output)
    assert (record.step, record.parent, record.parent_sha256) == ("convert", "net.onnx", hash_artifact(source))
    assert record.figures["max_relative"] <= 1e-5


@pytest.mark.parametrize("settings", [{"fp16": True}, {"int8": True}])
def test_what_is_quantised_converts(source: Path, output: Path, settings: dict[str, bool]) -> None:
    quantized = quantize_onnx(source, source.with_name("small.onnx"), **settings, pair_count=1)
    convert_openvino(quantized, output, pair_count=1)
    assert [record.step for record in read_history(output)] == ["quantize", "convert"]
    # Two runtimes of 8 bits round apart by a step here and there.
    assert (read_history(output)[-1].figures["psnr_worst_db"] or 99) >= 30
    assert output.with_suffix(".bin").stat().st_size < 4 * WEIGHTS


def test_weights_are_float16_only_where_asked(source: Path, output: Path) -> None:
    whole = convert_openvino(source, output.with_name("whole.xml"), pair_count=1).with_suffix(".bin")
    half = convert_openvino(source, output, fp16=True, pair_count=1).with_suffix(".bin")
    assert whole.stat().st_size >= 4 * WEIGHTS
    assert half.stat().st_size < whole.stat().st_size * 0.6


WARP = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,32,24] person, float[1,3,32,24] clothes) => (float[1,3,32,24] tryon) {
  features = Conv <pads = [1, 1, 1, 1]> (clothes, w)
  warped = GridSample <padding_mode = "border"> (features, coordinates)
  painted = Conv (warped, v)
  tryon = Add (painted, person)
}"""


def test_float16_does_not_round_coordinates(source: Path, output: Path) -> None:
    model, warp = onnx.load(source), onnx.parser.parse_model(WARP)
    rows, columns = np.meshgrid(np.linspace(-1, 1, 32), np.linspace(-1, 1, 24), indexing="ij")
    grid = np.stack([columns, rows], -1)[None].astype(np.float32)
    warp.graph.initializer.extend([*model.graph.initializer, numpy_helper.from_array(grid, "coordinates")])
    onnx.save(warp, source)
    convert_openvino(source, output, fp16=True, pair_count=1)
    constants = [op.data for op in openvino.Core().read_model(output).get_ops() if op.get_type_name() == "Constant"]
    assert any(array.shape == grid.shape and np.array_equal(array, grid) for array in constants)
    assert output.with_suffix(".bin").stat().st_size < 4 * WEIGHTS * 0.6 + grid.nbytes


def test_float16_of_int8_says_that_it_changes_nothing(source: Path, output: Path) -> None:
    quantized = quantize_onnx(source, source.with_name("small.onnx"), int8=True, pair_count=1)
    convert_openvino(quantized, output, fp16=True, pair_count=1)
    assert [*read_history(output)[-1].notices] == [openvino_ir.INT8_NOTICE]
    plain = convert_openvino(quantized, output.with_name("plain.xml"), pair_count=1)
    assert plain.with_suffix(".bin").stat().st_size == output.with_suffix(".bin").stat().st_size
    assert not read_history(plain)[-1].notices


def test_the_same_model_gives_the_same_bytes(source: Path, output: Path) -> None:
    one = convert_openvino(source, output, pair_count=1)
    two = convert_openvino(source, output.parent / "again" / "net.xml", pair_count=1)
    for suffix in (".xml", ".bin"):
        assert one.with_suffix(suffix).read_bytes() == two.with_suffix(suffix).read_bytes()


def test_an_existing_output_is_refused_and_force_replaces_both_files(source: Path, output: Path) -> None:
    output.parent.mkdir()
    for suffix in (".xml", ".bin"):
        output.with_suffix(suffix).write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already"):
        convert_openvino(source, output)
    assert output.with_suffix(".bin").read_bytes() == b"precious"
    convert_openvino(source, output, pair_count=1, force=True)
    assert b"precious" not in {output.with_suffix(suffix).read_bytes() for suffix in (".xml", ".bin")}
    assert len(read_history(output)) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "no such file", id="missing"),
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"\x08\x08\x3a\xff", "not a (readable|valid) ONNX model", id="damaged"),
    ],
)
def test_onnx_that_cannot_be_read_is_named(tmp_path: Path, output: Path, content: bytes | None, message: str) -> None:
    source = tmp_path / "net.onnx"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(InputError, match=rf"net\.onnx: {message}"):
        convert_openvino(source, output)
    assert not output.parent.exists()


def test_an_operator_that_openvino_does_not_have_is_named(tmp_path: Path, output: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
    g (float[1,3,32,24] person) => (float[1,3,32,24] tryon) { tryon = own.Strange (person) }"""
    source = tmp_path / "net.onnx"
    onnx.save(onnx.parser.parse_model(text), source)
    with pytest.raises(InputError, match=r"net\.onnx: OpenVINO cannot convert it: .*; run the ONNX model"):
        convert_openvino(source, output)
    assert list(output.parent.iterdir()) == []


def test_an_interruption_leaves_nothing(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(openvino_ir, "compare_artifacts", interrupt)
    with pytest.raises(KeyboardInterrupt):
        convert_openvino(source, output)
    assert list(output.parent.iterdir()) == []


def test_a_network_converts(small_onnx: Path, output: Path) -> None:
    convert_openvino(small_onnx, output, pair_count=1)
    export, record = read_history(output)
    assert (export.step, record.step) == ("export", "convert")
    assert record.figures["max_relative"] <= 1e-4

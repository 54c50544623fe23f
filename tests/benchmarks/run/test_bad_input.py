"""Bad input at the command line: one sentence on stderr, exit code 1, and nothing is written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import onnx
import onnx.parser
import pytest
from bench_results import make_results
from PIL import Image

from vtopt.benchmarks.engines import sets
from vtopt.benchmarks.engines.engine import open_engine
from vtopt.benchmarks.run.results import write_results
from vtopt.optimize.cli import main
from vtopt.optimize.errors import MissingExtraError


def _save(path: Path, side: int = 32, name: str = "person") -> str:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    graph (float[1,3,{side},24] {name}) => (float[1,3,{side},24] tryon) {{ tryon = Tanh ({name}) }}"""
    onnx.save(onnx.parser.parse_model(text), path)
    return str(path)


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["vtopt", "bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        told = capsys.readouterr()
        assert (end.value.code, told.out, told.err.count("\n")) == (1, "", 1)
        return told.err

    return run


@pytest.mark.parametrize("command", [("report",), ("compare", "same.json")], ids=["report", "compare"])
def test_a_results_file_of_another_version(command: tuple[str, ...], refuse, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_results(make_results({"a": 10.0}), tmp_path / "same.json")
    content = json.loads((tmp_path / "same.json").read_text())
    (tmp_path / "old.json").write_text(json.dumps(content | {"format": "vtopt bench 1"}))
    said = refuse(*command, "old.json")
    assert said.startswith(
        "error: old.json: is of the format 'vtopt bench 1', this vtopt reads 'vtopt bench 2'; measure"
    )


def test_models_of_different_sizes_are_both_named(refuse, tmp_path: Path) -> None:
    models = _save(tmp_path / "small.onnx"), _save(tmp_path / "large.onnx", 64)
    said = refuse("run", *models, "--runtime", "onnxruntime", "-o", tmp_path / "r.json")
    assert "the models take pictures of different sizes (small 32x24, large 64x24); export" in said
    assert not (tmp_path / "r.json").exists()


def test_models_of_different_inputs_are_both_named(refuse, tmp_path: Path) -> None:
    models = _save(tmp_path / "one.onnx", name="x"), _save(tmp_path / "other.onnx", name="y")
    said = refuse("run", *models, "--runtime", "onnxruntime", "-o", tmp_path / "r.json")
    assert "one takes x 1x3x32x24, other takes y 1x3x32x24, and no picture of a pair is known for all of these" in said


def test_an_empty_folder_of_pairs(refuse, tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    model = _save(tmp_path / "a.onnx")
    said = refuse("run", model, "--pairs", tmp_path / "pairs", "--runtime", "onnxruntime", "-o", tmp_path / "r.json")
    assert said.startswith(f"error: {tmp_path / 'pairs' / 'test_img'}: there is no such folder; give a folder in VITON")
    for name in ("test_img", "test_clothes"):
        (tmp_path / "pairs" / name).mkdir()
    (tmp_path / "pairs" / "test_pairs.txt").touch()
    said = refuse("run", model, "--pairs", tmp_path / "pairs", "--runtime", "onnxruntime", "-o", tmp_path / "r.json")
    assert said.startswith(f"error: {tmp_path / 'pairs'}: it lists no pairs; write a line PERSON CLOTHES per pair")


def test_weights_of_another_sha256(refuse, tmp_path: Path) -> None:
    weights = tmp_path / "fid.pth"
    weights.write_bytes(b"\x80\x02 something else")
    Image.new("RGB", (24, 32)).save(tmp_path / "picture.png")
    asked = ("--weights", weights, "--runtime", "onnxruntime", "-o", tmp_path / "r.json")
    told = refuse("run", _save(tmp_path / "a.onnx"), *asked), refuse("fid", tmp_path, tmp_path, "--weights", weights)
    for said in told:
        assert "is that of no published Inception weights (pt_inception-2015-12-05-6726825d.pth or" in said
    assert not (tmp_path / "r.json").exists()


def test_a_runtime_that_is_not_installed(refuse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_without_openvino(path: Path, *, runtime: str, **settings: object):
        if runtime == "openvino":
            raise MissingExtraError("openvino cannot be imported (none); run: pip install openvino")
        return open_engine(path, runtime=runtime, threads=1)

    monkeypatch.setattr(sets, "open_engine", open_without_openvino)
    asked = ("--runtime", "onnxruntime", "--runtime", "openvino", "-o", tmp_path / "r.json")
    said = refuse("run", _save(tmp_path / "a.onnx"), *asked)
    assert said == "error: openvino cannot be imported (none); run: pip install openvino\n"


def test_a_first_model_that_does_not_load_and_a_file_that_is_missing(refuse, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x07not a model" * 9)
    model = _save(tmp_path / "a.onnx")
    asked = ("--runtime", "onnxruntime", "-o", tmp_path / "r.json")
    assert "broken.onnx: onnxruntime cannot load it" in refuse("run", tmp_path / "broken.onnx", model, *asked)
    assert "none.onnx: no such file" in refuse("run", model, tmp_path / "none.onnx", *asked)

"""Olive by its command line; in its place a script that does what the test asks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from vtopt.benchmarks.peers.olive import find_olive_version, list_olive_commands
from vtopt.optimize.errors import MissingExtraError, VtoptError
from vtopt.optimize.onnx_files import save_onnx
from vtopt.optimize.provenance import read_pictures

SAMPLES = [{"person": np.full((1, 3, 2, 2), number, np.float32)} for number in (1, 2)]

COPIES = """
import json, os, pathlib, shutil, sys
said = {"arguments": sys.argv[1:], "telemetry": os.environ.get("OLIVE_DISABLE_TELEMETRY")}
pathlib.Path(LOG).write_text(json.dumps(said))
if "--config" in sys.argv:
    workflow = json.loads(pathlib.Path("workflow.json").read_text())
    files = sorted(map(str, pathlib.Path("samples").rglob("*.bin")))
    pathlib.Path(LOG).write_text(json.dumps(workflow | {"files": files}))
    model = workflow["input_model"]["model_path"]
else:
    model = sys.argv[sys.argv.index("--model_name_or_path") + 1]
pathlib.Path("made").mkdir()
shutil.copy(model, "made/model.onnx")
"""


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> a (float[1,3,2,2] person) => (float[1,3,2,2] y) {y = Relu(person)}'
    )
    save_onnx(model, tmp_path / "plain.onnx", {"vtopt.pictures": json.dumps({"person": "agnostic"})})
    return tmp_path / "plain.onnx"


def _write_olive(folder: Path, body: str) -> str:
    path = folder / "olive"
    path.write_text(f"#!{sys.executable}\n{body.replace('LOG', repr(str(folder / 'log.json')))}\n")
    path.chmod(0o755)
    return str(path)


def test_a_command_names_the_model_and_sends_no_telemetry(tmp_path: Path, plain: Path) -> None:
    _, fp16, *_ = list_olive_commands(_write_olive(tmp_path, COPIES), 60)
    fp16.run(plain, SAMPLES, tmp_path / "made.onnx")
    said = json.loads((tmp_path / "log.json").read_text())
    model = ["--model_name_or_path", str(plain)]
    assert said["arguments"] == [
        "optimize", "--precision", "fp16", *model, "--output_path", "made", "--disable_telemetry",
    ]  # fmt: skip
    assert said["telemetry"] == "1"


def test_what_olive_makes_keeps_what_its_inputs_show(tmp_path: Path, plain: Path) -> None:
    list_olive_commands(_write_olive(tmp_path, COPIES), 60)[0].run(plain, SAMPLES, tmp_path / "made.onnx")
    assert read_pictures(tmp_path / "made.onnx") == read_pictures(plain) != {}


def test_a_workflow_calibrates_on_the_samples_with_olives_own_settings(tmp_path: Path, plain: Path) -> None:
    command = list_olive_commands(_write_olive(tmp_path, COPIES), 60)[-1]
    command.run(plain, SAMPLES, tmp_path / "made.onnx")
    workflow = json.loads((tmp_path / "log.json").read_text())
    assert workflow["passes"] == {"int8": {"type": "OnnxStaticQuantization", "data_config": "pairs"}}
    assert workflow["data_configs"][0]["load_dataset_config"]["input_shapes"] == [[1, 3, 2, 2]]
    assert workflow["files"] == ["samples/person/00000.bin", "samples/person/00001.bin"]


def test_a_failure_is_told_by_its_last_line(tmp_path: Path, plain: Path) -> None:
    olive = _write_olive(tmp_path, "print('much'); raise SystemExit('ValueError: no such pass')")
    with pytest.raises(VtoptError, match=r"^olive fails: ValueError: no such pass$"):
        list_olive_commands(olive, 60)[0].run(plain, SAMPLES, tmp_path / "made.onnx")


def test_it_is_ended_at_its_limit(tmp_path: Path, plain: Path) -> None:
    olive = _write_olive(tmp_path, "import time; time.sleep(3)")
    with pytest.raises(VtoptError, match=r"more than 0\.5 s"):
        list_olive_commands(olive, 0.5)[0].run(plain, SAMPLES, tmp_path / "made.onnx")


def test_a_model_that_was_not_written_is_told(tmp_path: Path, plain: Path) -> None:
    with pytest.raises(VtoptError, match="wrote no model"):
        list_olive_commands(_write_olive(tmp_path, ""), 60)[0].run(plain, SAMPLES, tmp_path / "made.onnx")


def test_without_olive_one_command_says_how_to_get_it(tmp_path: Path, plain: Path) -> None:
    commands = list_olive_commands(str(tmp_path / "none"), 60)
    assert len(commands) == 1
    with pytest.raises(MissingExtraError, match="pass --olive PATH_TO_OLIVE"):
        commands[0].run(plain, SAMPLES, tmp_path / "made.onnx")
    assert find_olive_version(str(tmp_path / "none")) == "absent"


def test_the_version_is_unknown_where_no_python_stands_beside(tmp_path: Path) -> None:
    assert find_olive_version(_write_olive(tmp_path, "")) == "unknown"

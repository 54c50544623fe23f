"""The bench commands: what would be ignored is a usage error, and each table says where its figures come from."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnx.parser
import pytest
from bench_results import make_results
from typer.testing import CliRunner

from vtopt.benchmarks.engines import sets
from vtopt.benchmarks.run.results import OperationTimes, write_results
from vtopt.optimize.cli import app, main
from vtopt.optimize.errors import BudgetError, UsageError

TIMES = {"fp32": 20.0, "int8": 10.0}
OPERATIONS = (OperationTimes("fp32", "onnxruntime", 1, {"Add": 1.0, "Conv": 3.0}),)
COUNTS = "case,runtime,threads,n,made,before (s),after (s),FPS,acceleration\n256x8x6,openvino,1,10,10,4.0,2.0,5.0,2.0\n"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return write_results(make_results(TIMES, op_times=OPERATIONS), tmp_path / "results.json")


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    path = tmp_path / "kernel.csv"
    path.write_text(COUNTS, encoding="utf-8")
    return path


def _report(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["bench", "report", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def _refuse(*arguments: object, command: str = "report") -> str:
    """Return what the usage error says."""
    result = CliRunner().invoke(app, ["bench", command, *map(str, arguments)])
    assert isinstance(result.exception, UsageError)
    return str(result.exception)


@pytest.mark.parametrize(
    "option", [("--pairs", "."), ("--pair-count", 8), ("--threads", 1), ("--runs", 20), ("--network", "sdafn")]
)
def test_options_of_measuring_are_refused_with_a_results_file(
    option: tuple[str, object], results: Path, counts: Path
) -> None:
    said = f"bench report: {option[0]} cannot change what {{}} has measured; leave it out, or name the models"
    assert _refuse(results, *option).startswith(said.format(results))
    assert _refuse(counts, "--table", "kernel", *option).startswith(said.format(counts))


def test_several_such_options_are_named_together(results: Path) -> None:
    assert "--pairs, --runs cannot change" in _refuse(results, "--runs", 3, "--pairs", ".")


def test_a_results_file_is_given_alone(results: Path, counts: Path) -> None:
    assert "give one results file alone" in _refuse(results, counts)


def test_operations_of_a_results_file_are_printed(results: Path) -> None:
    lines = _report(results, "--table", "operations").splitlines()
    assert lines[0].split("|")[1:-1] == [" model ", " runtime     ", " operation ", "   ms ", "  share "]
    assert lines[2].split() == ["|", "fp32", "|", "onnxruntime", "|", "Conv", "|", "3.00", "|", "0.7500", "|"]


def test_operations_of_models_measured_quickly_are_refused() -> None:
    for models in ((), ("a.onnx", "b.onnx")):
        said = _refuse(*models, "--table", "operations")
        assert said.startswith("--table operations: bench report does not time operations; measure them with: vtopt")


def test_a_kernel_is_printed(counts: Path) -> None:
    data = json.loads(_report(counts, "--table", "kernel", "--format", "json"))
    assert data["rows"] == [
        {"runtime": "openvino", "n": 10, "before (s)": 4.0, "after (s)": 2.0, "FPS": 5.0, "acceleration": 2.0}
    ]


@pytest.mark.parametrize("command", ["report", "run"])
def test_a_kernel_of_models_is_refused_with_the_command_that_measures_it(command: str, results: Path) -> None:
    for source in (results, "a.onnx"):
        said = _refuse(source, "--table", "kernel", command=command)
        assert "measure a kernel with: vtopt bench correlation --count 1000 -o kernel.csv, and print it with" in said


def test_another_table_of_a_csv_is_refused(counts: Path) -> None:
    assert "is a CSV, of which --table kernel prints that of bench correlation" in _refuse(counts)


def test_a_baseline_is_refused_where_nothing_is_a_ratio_to_it(results: Path, counts: Path) -> None:
    assert "times of operations are no ratios" in _refuse(results, "--table", "operations", "--baseline", "fp32")
    assert "a kernel is compared with itself" in _refuse(counts, "--table", "kernel", "--baseline", "fp32")


def test_json_and_csv_of_a_results_file_say_how_it_was_measured(results: Path) -> None:
    data = json.loads(_report(results, "--format", "json"))
    assert data.keys() == {"rows", "conditions", "notices"}
    assert data["rows"][0]["GFLOPs"] == 2 * data["rows"][0]["GMACs"]
    assert data["conditions"]["cpu"] == "Some CPU"
    header, first, *_ = _report(results, "--format", "csv").splitlines()
    assert "cpu" in header.split(",")
    assert "Some CPU" in first


def test_compare_fails_where_something_is_missing_in_the_new_file(results: Path, tmp_path: Path) -> None:
    new = write_results(make_results({"fp32": 20.0}), tmp_path / "new.json")
    result = CliRunner().invoke(app, ["bench", "compare", str(results), str(new)])
    assert isinstance(result.exception, BudgetError)
    assert str(result.exception) == f"{new}: worse than {results}: int8 is missing"
    assert "**missing in the new file: int8**" in result.stdout
    same = CliRunner().invoke(app, ["bench", "compare", str(new), str(results)])
    assert (same.exit_code, "only in the new file: int8" in same.stdout) == (0, True)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    graph (float[1,3,32,24] person, float[1,3,32,24] clothes) => (float[1,3,32,24] tryon) { tryon = Tanh (clothes) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "a.onnx")
    return tmp_path / "a.onnx"


def _fail(
    arguments: Sequence[object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int = 1
) -> str:
    """Run vtopt as the console script does; return the one line that it prints to stderr, exiting with `code`."""
    monkeypatch.setattr(sys, "argv", ["vtopt", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_runtime_that_is_not_installed_is_a_sentence_and_exits_1(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    asked = ["bench", "run", model, "--runtime", "openvino", "-o", tmp_path / "r.json"]
    said = _fail(asked, monkeypatch, capsys)
    assert said.startswith("error: openvino cannot be imported (")
    assert said.endswith("run: pip install openvino")
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize(
    ("runtime", "code", "said"),
    [
        pytest.param("onnxruntime-cuda", 1, "runtime 'onnxruntime-cuda' is not on this machine", id="no such GPU"),
        pytest.param("openvino-gpu", 1, "runtime 'openvino-gpu' is not on this machine", id="none of OpenVINO"),
        pytest.param("tensorrt", 2, "runtime 'tensorrt' is not known", id="no such runtime"),
    ],
)
def test_a_runtime_that_is_not_here_is_a_sentence(
    runtime: str,
    code: int,
    said: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sets, "list_gpu_runtimes", lambda: ())
    asked = ["bench", "run", model, "--runtime", runtime, "-o", tmp_path / "r.json"]
    line = _fail(asked, monkeypatch, capsys, code)
    assert said in line
    assert line.endswith("choose of torch, onnxruntime, openvino")


@pytest.mark.parametrize("version", ["vtopt bench 0", "vtopt bench 99", "vtopt bench x"])
@pytest.mark.parametrize("command", ["report", "compare"])
def test_results_of_another_version_are_a_sentence_that_says_what_to_do(
    version: str,
    command: str,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    results.write_text(json.dumps(json.loads(results.read_text()) | {"format": version}))
    files = [results] * (2 if command == "compare" else 1)
    said = _fail(["bench", command, *files], monkeypatch, capsys)
    assert said.startswith(f"error: {results}: is of the format '{version}', this vtopt reads 'vtopt bench ")
    assert said.endswith("; measure again with: vtopt bench run")

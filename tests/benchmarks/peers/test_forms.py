"""Every tool makes its form of a small network; one that fails has its reason, and ends no other."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from small_registered import build_small

from vtopt.benchmarks.peers import forms as module
from vtopt.benchmarks.peers import tools
from vtopt.benchmarks.peers.forms import PLAIN, Form, describe_failure, make_forms
from vtopt.benchmarks.peers.recipes import Reported
from vtopt.benchmarks.peers.task import ChosenPairs, PeersTask
from vtopt.benchmarks.studies import int8_tools
from vtopt.optimize.data.pairs import open_pairs
from vtopt.optimize.errors import InputError, MissingExtraError
from vtopt.optimize.networks import Network
from vtopt.optimize.provenance import read_pictures

SIZE = (64, 48)


def _miss_package(*arguments: object, **settings: object) -> None:
    raise MissingExtraError("nncf cannot be imported (gone); run: pip install nncf")


def _break(*arguments: object, **settings: object) -> None:
    raise RuntimeError("this tool has broken\nin many lines")


def _copy(network: Network, plain: Path, samples: object, path: Path) -> None:
    path.write_bytes(plain.read_bytes())


def _run_recipe(name: str, weights: Path, pairs: Path | None, output: Path) -> list[Reported]:
    """Report a float model that is the same in each recipe, and one that is not."""
    if name == "openvino-int8":
        raise InputError(f"{output}: the recipe has broken")
    output.mkdir()
    (output / "fp32.onnx").write_bytes(b"the same")
    (output / "small.onnx").write_bytes(name.encode())
    return [
        Reported("fp32", output / "fp32.onnx", 3.0, None, ""),
        Reported("small", output / "small.onnx", 5.0, output / "fp32.onnx", "it misses its budget"),
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Form]:
    folder = tmp_path_factory.mktemp("forms")
    task = PeersTask(build_small("sdafn_plus_tiny"), threads=1, olive=str(folder / "no-olive"))
    pairs = ChosenPairs([], open_pairs(None, SIZE, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "run_shipped", _run_recipe)
        patch.setattr(int8_tools, "quantize_by_nncf", _miss_package)
        patch.setattr(int8_tools, "quantize_ir_by_nncf", _miss_package)
        patch.setattr(tools, "quantize_public_code", _break)
        patch.setattr(int8_tools, "quantize_by_neural_compressor", _copy)
        return make_forms(task, folder / "weights", pairs, folder)


def _find(made: list[Form], tool: str, settings: str = "") -> list[Form]:
    found = [form for form in made if form.tool == tool and form.settings.startswith(settings)]
    assert found
    return found


def test_the_plain_form_is_first_and_on_both_runtimes(made: list[Form]) -> None:
    assert [(form.tool, form.runtime) for form in made[:2]] == [(PLAIN, "onnxruntime"), (PLAIN, "openvino")]


def test_rows_can_be_told_by_what_was_asked(made: list[Form]) -> None:
    keys = [(form.settings, form.runtime) for form in made]
    assert len(keys) == len(set(keys))


def test_tools_that_work_write_a_model_that_says_what_it_is_fed(made: list[Form]) -> None:
    pictures = read_pictures(_take_path(made[0]))
    for tool in ("torch.onnx + onnxslim", "onnxruntime", "OpenVINO"):
        for form in _find(made, tool):
            assert read_pictures(_take_path(form)) == pictures
            assert form.source == made[0].path


def _take_path(form: Form) -> Path:
    assert form.path is not None
    return form.path


def test_float_forms_are_exported_with_the_warps_of_the_public_code(made: list[Form]) -> None:
    ops = [node.op_type for node in onnx.load(_take_path(made[0])).graph.node]
    assert "GridSample" in ops
    assert onnx.load(_take_path(made[0])).opset_import[0].version == 18


def test_int8_by_onnxruntime_is_int8(made: list[Form]) -> None:
    model = onnx.load(_take_path(_find(made, "onnxruntime", "quantize_static")[0]))
    assert any(node.op_type == "QuantizeLinear" for node in model.graph.node)


def test_tools_that_fail_or_are_absent_have_a_reason(made: list[Form]) -> None:
    for form in _find(made, "NNCF"):
        assert (form.path, form.seconds) == (None, None)
        assert form.note == "nncf cannot be imported (gone); run: pip install nncf"
    broken = [form for form in _find(made, "neural-compressor") if form.path is None]
    assert [(form.runtime, form.note) for form in broken] == [
        ("onnxruntime", "this tool has broken"),
        ("openvino", "this tool has broken"),
    ]
    assert all("pass --olive PATH_TO_OLIVE" in form.note for form in _find(made, "Olive"))


def test_seconds_are_counted_from_the_weights_on(made: list[Form]) -> None:
    def count(tool: str, settings: str = "") -> float:
        return _find(made, tool, settings)[0].seconds or 0.0

    exported = count(PLAIN)
    assert count("onnxruntime") > exported
    assert count("OpenVINO") > exported
    assert 0 < count("neural-compressor", "StaticQuantConfig, with") < exported  # starts from torch


def test_recipes_give_what_they_report_and_their_float_model_once(made: list[Form]) -> None:
    own = _find(made, "vtopt")
    assert [form.settings for form in own] == [
        "cpu-fp16: fp32", "cpu-fp16: small", "cpu-int8: small", "openvino-int8",
    ]  # fmt: skip
    assert [form.note for form in own] == ["", "it misses its budget", "it misses its budget", "the recipe has broken"]
    assert own[0].source == made[0].path
    assert own[1].source == own[0].path
    assert own[1].seconds == 5.0


def test_a_reason_is_one_short_line_without_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    assert describe_failure(RuntimeError(f"{path}: not\nso"), path) == "not"
    assert describe_failure(ValueError(f"cannot read {path}"), path) == "cannot read a.onnx"
    assert len(describe_failure(ValueError("x" * 1000), path)) == 300

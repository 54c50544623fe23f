"""The report of a run: what it finds in the run's folder, and what it leaves there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from PIL import Image

from vtopt.benchmarks.quality.sheets import CAPTION_HEIGHT, GAP
from vtopt.benchmarks.reports import run_report
from vtopt.benchmarks.reports.quick_measure import measure_models
from vtopt.benchmarks.reports.report import Report
from vtopt.benchmarks.reports.run_report import list_last_run, write_run_report
from vtopt.optimize.errors import InputError, OutputError
from vtopt.optimize.provenance import add_record, set_onnx_metadata
from vtopt.optimize.run_state import RunState, StageState, recall_run, remember_run, write_run
from vtopt.optimize.runner import run_recipe

HEIGHT, WIDTH = 32, 24

PERSON = "tryon = Max (person, person)"
DARK = "tryon = Mul (person, half)"


def _save(path: Path, node: str, notices: Mapping[str, tuple[str, ...]] | None = None) -> None:
    """Save a model of one node, with what its steps had to say."""
    size = f"float[1,3,{HEIGHT},{WIDTH}]"
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        graph ({size} person, {size} clothes) => ({size} tryon) <float[1] half = {{0.5}}> {{ {node} }}"""
    )
    onnx.save(model, path)
    metadata: dict[str, str] = {}
    for step, said in (notices or {}).items():
        metadata = add_record(metadata, step, path, settings={}, figures={"psnr": 42.5}, notices=said)
    set_onnx_metadata(model, metadata)
    onnx.save(model, path)


def _write_state(
    folder: Path,
    files: Mapping[str, str],
    report: tuple[str, ...],
    pairs: Path | None = None,
    network: str | None = None,
) -> None:
    stages = {file: StageState(name, "key", "sha256", "") for name, file in files.items()}
    write_run(
        RunState("vtopt run 1", "own.yaml", report, "last.pth", network, str(pairs) if pairs else None, stages), folder
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a finished run: two models, of which the second darkens the picture."""
    folder = tmp_path / "run"
    folder.mkdir()
    _save(folder / "01-fp32.onnx", PERSON, {"export": ("TorchScript was used",)})
    said = {"export": ("TorchScript was used",), "quantize": ("calibrated on few pairs", "slow here")}
    _save(folder / "02-int8.onnx", DARK, said)
    _write_state(folder, {"fp32": "01-fp32.onnx", "int8": "02-int8.onnx"}, ("fp32", "int8"))
    return folder


@pytest.fixture(autouse=True)
def _measure_quickly(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Time one run of each model; return what the report was asked for."""
    asked: list[dict[str, object]] = []

    def measure(models: Mapping[str, Path], **arguments: object) -> Report:
        asked.append({"models": models, **arguments})
        return measure_models(models, **arguments, runs=1, warmup=0)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(run_report, "measure_models", measure)
    return asked


def test_list_last_run_names_what_to_do_when_there_was_none() -> None:
    assert recall_run() is None
    with pytest.raises(InputError, match=r"no models are named and no run is remembered; name models, or vtopt run"):
        list_last_run()


def test_list_last_run_returns_the_models_of_the_run_that_was_remembered(run: Path) -> None:
    remember_run(run)
    models, pairs, network = list_last_run()
    assert list(models.items()) == [("fp32", run / "01-fp32.onnx"), ("int8", run / "02-int8.onnx")]
    assert (pairs, network) == (None, None)


def test_list_last_run_returns_the_pairs_and_the_network_of_the_run(run: Path, tmp_path: Path) -> None:
    _write_state(run, {"fp32": "01-fp32.onnx"}, ("fp32",), pairs=tmp_path / "pairs", network="sdafn")
    remember_run(run)
    assert list_last_run() == ({"fp32": run / "01-fp32.onnx"}, tmp_path / "pairs", "sdafn")


def test_list_last_run_keeps_the_order_of_the_report(run: Path) -> None:
    _write_state(run, {"fp32": "01-fp32.onnx", "int8": "02-int8.onnx"}, ("int8", "fp32"))
    remember_run(run)
    assert list(list_last_run()[0]) == ["int8", "fp32"]


def test_list_last_run_leaves_out_what_is_not_finished_not_reported_or_not_measurable(run: Path) -> None:
    files = {"strip": "01-strip.safetensors", "fp32": "02-fp32.onnx", "ir": "03-ir.xml", "last": "04-last.pth"}
    _write_state(run, {**files, "other": "05-other.onnx"}, ("strip", "fp32", "ir", "last", "unfinished"))
    remember_run(run)
    assert list(list_last_run()[0]) == ["strip", "fp32", "ir"]


def test_list_last_run_forgets_a_folder_that_is_gone(run: Path) -> None:
    remember_run(run)
    run.rename(run.with_name("moved"))
    with pytest.raises(InputError, match="no run is remembered"):
        list_last_run()


def test_list_last_run_names_a_folder_whose_run_is_gone(run: Path) -> None:
    remember_run(run)
    (run / "run.json").unlink()
    with pytest.raises(InputError, match=f"{run}: holds no run; run a recipe into it first"):
        list_last_run()


def test_write_run_report_writes_the_text_it_returns(run: Path) -> None:
    text = write_run_report(run, count=1, threads=1)
    assert text == (run / "report.md").read_text(encoding="utf-8")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in table[2:]] == [
        "(person unchanged)", "fp32", "fp32", "int8", "int8"
    ]  # fmt: skip
    assert "Measured: reference fp32 on onnxruntime, pairs 1, " in text


def test_write_run_report_repeats_what_the_steps_said_each_once(run: Path) -> None:
    text = write_run_report(run, count=1, threads=1)
    assert text.endswith(
        "\nFrom the steps:\n\n"
        "- fp32: TorchScript was used\n"
        "- int8: TorchScript was used\n"
        "- int8: calibrated on few pairs\n"
        "- int8: slow here\n"
    )


def test_write_run_report_says_nothing_of_steps_that_said_nothing(run: Path) -> None:
    _save(run / "01-fp32.onnx", PERSON, {"export": ()})
    _write_state(run, {"fp32": "01-fp32.onnx"}, ("fp32",))
    assert "From the steps" not in write_run_report(run, count=1, threads=1)


def test_write_run_report_writes_strict_json_for_programs(run: Path) -> None:
    text = write_run_report(run, count=1, threads=1, fmt="json")
    assert text == (run / "report.json").read_text(encoding="utf-8")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    data = json.loads(text, parse_constant=refuse)
    assert list(data) == ["rows", "conditions", "notices", "op_times", "steps"]
    assert [(row["model"], row.get("runtime")) for row in data["rows"][1:]] == [
        (name, runtime) for name in ("fp32", "int8") for runtime in ("onnxruntime", "openvino")
    ]
    assert data["rows"][2]["PSNR dB"] == "inf"  # fp32 on OpenVINO copies the person too
    assert [record["step"] for record in data["steps"]["int8"]] == ["export", "quantize"]
    assert data["steps"]["int8"][1]["figures"] == {"psnr": 42.5}
    assert data["conditions"]["pairs"] == 1


def test_write_run_report_writes_a_page_with_the_figures_of_the_json(run: Path) -> None:
    data = json.loads(write_run_report(run, count=1, threads=1, fmt="json"))
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<title>own – vtopt report</title>" in page  # the recipe's name
    for row in data["rows"]:
        assert all(f'data-value="{value!r}"' in page for value in row.values() if isinstance(value, float))
    assert [(each["model"], each["runtime"]) for each in data["op_times"]] == [
        (name, runtime) for name in ("fp32", "int8") for runtime in ("onnxruntime", "openvino")
    ]
    for each in data["op_times"]:
        assert each["by_op"]
        assert all(f'data-value="{time!r}"' in page for time in each["by_op"].values())
    assert page.count("data:image/png;base64,") == 3  # one pair is both worst and median: two pictures, a difference


def test_write_run_report_draws_the_worst_pair_of_models_that_differ(run: Path) -> None:
    write_run_report(run, count=1, threads=1)
    assert sorted(path.name for path in run.glob("*.png")) == ["worst-int8.png"]
    with Image.open(run / "worst-int8.png") as sheet:
        assert sheet.size == (3 * WIDTH + 2 * GAP, HEIGHT + CAPTION_HEIGHT)


def test_write_run_report_draws_nothing_where_pictures_are_equal(run: Path) -> None:
    _save(run / "02-int8.onnx", PERSON)
    write_run_report(run, count=1, threads=1)
    assert not list(run.glob("*.png"))


def test_write_run_report_overwrites_an_earlier_report(run: Path) -> None:
    (run / "report.md").write_text("old")
    assert write_run_report(run, count=1, threads=1) == (run / "report.md").read_text(encoding="utf-8") != "old"


def test_write_run_report_says_where_it_cannot_be_written(run: Path) -> None:
    (run / "report.md").mkdir()
    with pytest.raises(OutputError, match=r"report\.md: cannot be written"):
        write_run_report(run, count=1, threads=1)
    assert not list(run.glob(".vtopt-*"))


def test_write_run_report_measures_with_the_pairs_and_the_network_of_the_run(
    run: Path, tmp_path: Path, _measure_quickly: list[dict[str, object]]
) -> None:
    pairs = tmp_path / "pairs"
    for place in ("test_img", "test_clothes"):
        (pairs / place).mkdir(parents=True)
        Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(pairs / place / "a.png")
    _write_state(run, {"fp32": "01-fp32.onnx"}, ("fp32",), pairs=pairs, network="sdafn")
    text = write_run_report(run, count=3, threads=1)
    assert _measure_quickly == [
        {"models": {"fp32": run / "01-fp32.onnx"}, "folder": pairs, "count": 3, "threads": 1, "network": "sdafn"}
    ]
    assert f"pairs 1, pairs from {pairs}, " in text
    assert "(person unchanged)" not in text  # the folder knows no truth


def test_write_run_report_names_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run; run a recipe into it first"):
        write_run_report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_write_run_report_names_a_run_that_has_nothing_to_measure(run: Path) -> None:
    _write_state(run, {}, ("fp32",))
    with pytest.raises(InputError, match="there are no models to measure"):
        write_run_report(run)


def test_a_recipe_is_run_remembered_and_reported(small_checkpoint: Path, tmp_path: Path) -> None:
    """The whole way on a small network: run, find it again, report it."""
    recipe, output = tmp_path / "own.yaml", tmp_path / "out"
    recipe.write_text(
        "steps:\n"
        "  - strip:\n"
        "  - export: {size: 64x48, exporter: torchscript, pair_count: 1}\n"
        "    name: fp32\n"
        "  - quantize: {fp16: true, pair_count: 1}\n"
        "    name: fp16\n"
        "report: [fp32, fp16]\n"
    )
    run_recipe(recipe, weights=small_checkpoint, network=None, pairs=None, output=output)
    assert list_last_run() == ({"fp32": output / "02-fp32.onnx", "fp16": output / "03-fp16.onnx"}, None, None)
    write_run_report(output, count=1, threads=1)
    data = json.loads((output / "report.json").read_text())
    rows = {(row["model"], row.get("runtime")): row for row in data["rows"]}
    before, after = rows["fp32", "onnxruntime"], rows["fp16", "onnxruntime"]
    assert after["size MiB"] < before["size MiB"]
    assert after["params M"] == before["params M"]
    assert float(after["worst dB"]) > 30
    assert [record["step"] for record in data["steps"]["fp16"]] == ["strip", "export", "quantize"]
    assert (output / "worst-fp16.png").is_file()

"""The command line as a user meets it: what it prints, what it refuses, and the exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vtopt.optimize.data.synthetic import write_pairs
from vtopt.optimize.steps import STEPS


def run_vtopt(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vtopt.optimize.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False, timeout=300)


def assert_refused(result: subprocess.CompletedProcess[str], *words: str, code: int = 1) -> None:
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("error: ")
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize("step", STEPS)
def test_every_step_is_a_command_with_an_example(step: str) -> None:
    result = run_vtopt(step, "--help")
    assert result.returncode == 0
    assert "Example: vtopt" in result.stdout
    assert "Raises" not in result.stdout


def test_strip_prints_what_it_kept_and_dropped(small_checkpoint: Path, tmp_path: Path) -> None:
    result = run_vtopt("strip", small_checkpoint, tmp_path / "w.safetensors")
    assert result.returncode == 0
    assert "optimizer (4.0 kB)" in result.stdout
    assert "note: took the averaged weights 'ema'" in result.stdout
    assert "\x1b" not in result.stdout + result.stderr


def test_json_is_json(small_checkpoint: Path, tmp_path: Path) -> None:
    result = run_vtopt("strip", small_checkpoint, tmp_path / "w.safetensors", "--json")
    made = json.loads(result.stdout)
    assert made["step"] == "strip"
    assert made["bytes"] == (tmp_path / "w.safetensors").stat().st_size


class _Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.target,))


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path) -> None:
    checkpoint, touched = tmp_path / "evil.pth", tmp_path / "touched"
    torch.save({"state_dict": _Payload(touched)}, checkpoint)
    result = run_vtopt("strip", checkpoint, tmp_path / "w.safetensors")
    assert_refused(result, "evil.pth", "never runs code")
    assert not touched.exists()
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_a_truncated_checkpoint_is_refused(small_checkpoint: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pth"
    cut.write_bytes(small_checkpoint.read_bytes()[: small_checkpoint.stat().st_size // 2])
    assert_refused(run_vtopt("strip", cut, tmp_path / "w.safetensors"), "cut.pth", "cut short")
    assert list(tmp_path.iterdir()) == [cut]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert_refused(run_vtopt("strip", "nowhere.pth", tmp_path / "w.safetensors"), "nowhere.pth: no such file")


def test_an_existing_output_is_refused_and_untouched(small_checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "w.safetensors"
    output.write_text("mine")
    assert_refused(run_vtopt("strip", small_checkpoint, output), "exists already", "--force")
    assert output.read_text() == "mine"


def test_the_wrong_network_is_summed_up(small_checkpoint: Path, tmp_path: Path) -> None:
    result = run_vtopt("export", small_checkpoint, tmp_path / "m.onnx", "--network", "sdafn")
    assert_refused(result, "do not fit", "missing", "Choose another --network")
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_the_pyramid_cannot_halve_is_refused(small_checkpoint: Path, tmp_path: Path) -> None:
    result = run_vtopt("export", small_checkpoint, tmp_path / "m.onnx", "--size", "65x48")
    assert_refused(result, "65x48", "multiples of 4", "--size 64x48")


def test_a_size_that_is_none_is_a_usage_error(small_checkpoint: Path, tmp_path: Path) -> None:
    result = run_vtopt("export", small_checkpoint, tmp_path / "m.onnx", "--size", "big")
    assert result.returncode == 2
    assert "256x192" in result.stderr


def test_a_missing_partner_is_named_before_any_work(small_checkpoint: Path, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", 2, size=(64, 48))
    (pairs / "test_clothes" / "000001_1.png").unlink()
    result = run_vtopt("run", "cpu-fp16", "--weights", small_checkpoint, "--pairs", pairs, cwd=tmp_path)
    assert_refused(result, "000001_1.png")
    assert not (tmp_path / "vtopt-out").exists()


def test_onnx_that_is_none_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x07not a model" * 9)
    for command in (("simplify",), ("quantize", "--fp16"), ("convert",)):
        suffix = "xml" if command[0] == "convert" else "onnx"
        result = run_vtopt(*command, broken, tmp_path / f"out.{suffix}")
        assert_refused(result, "broken.onnx", "ONNX model")
    assert list(tmp_path.iterdir()) == [broken]


@pytest.mark.parametrize("flags", [(), ("--fp16", "--int8", "--weight-only"), ("--fp16", "--dynamic")])
def test_quantize_needs_one_kind(small_onnx: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    assert_refused(run_vtopt("quantize", small_onnx, tmp_path / "q.onnx", *flags), "quantize:", code=2)


def test_a_missed_budget_exits_3_and_keeps_the_file_and_its_report(small_onnx: Path, tmp_path: Path) -> None:
    output = tmp_path / "h.onnx"
    result = run_vtopt("quantize", small_onnx, output, "--fp16", "--min-psnr", "500", "--pair-count", "1")
    assert result.returncode == 3
    assert result.stderr.count("\n") == 1
    assert "500 dB" in result.stderr
    assert result.stdout.startswith(f"quantize: {output}")
    assert output.exists()


def test_tryon_takes_any_picture_and_writes_one_of_the_model_size(small_onnx: Path, tmp_path: Path) -> None:
    person, clothes = tmp_path / "p.png", tmp_path / "c.jpg"
    Image.new("LA", (301, 97), 90).save(person)
    Image.new("CMYK", (20, 500), (9, 8, 7, 6)).save(clothes)
    output = tmp_path / "out.png"
    result = run_vtopt("tryon", small_onnx, "--person", person, "--clothes", clothes, "-o", output)
    assert result.returncode == 0, result.stderr
    assert np.asarray(Image.open(output)).shape == (64, 48, 3)


def test_tryon_names_a_picture_that_is_none(small_onnx: Path, tmp_path: Path) -> None:
    person = tmp_path / "p.png"
    person.write_text("no picture")
    result = run_vtopt("tryon", small_onnx, "--person", person, "--clothes", person, "-o", tmp_path / "o.png")
    assert_refused(result, "p.png")
    assert not (tmp_path / "o.png").exists()


def test_verify_prints_equal_pictures_as_equal(small_onnx: Path) -> None:
    result = run_vtopt("verify", small_onnx, small_onnx, "--pair-count", "1", "--json")
    figures = json.loads(result.stdout)
    assert figures["psnr_median_db"] is None
    assert figures["max_abs"] == 0


def test_inspect_tells_the_warps_as_fields_and_as_lines(small_onnx: Path) -> None:
    found = json.loads(run_vtopt("inspect", small_onnx, "--json", "--profile").stdout)
    assert {warp["heads"] for warp in found["warps"]} == {1, 2}
    assert 0 < found["warps' share of MACs"] < 1
    assert 0 < found["warps' share of time"] < 1
    lines = run_vtopt("inspect", small_onnx).stdout
    assert f"warps                  {len(found['warps'])}" in lines
    assert "2 heads" in lines
    assert "padding border by a clamped grid" in lines


def test_inspect_tells_the_history(small_onnx: Path) -> None:
    found = json.loads(run_vtopt("inspect", small_onnx, "--json").stdout)
    assert found["kind"] == "onnx"
    assert found["network"] == "sdafn_plus_tiny"
    assert [record["step"] for record in found["history"]] == ["export"]
    assert "step 1: export" in run_vtopt("inspect", small_onnx).stdout


def test_bench_report_without_models_or_runs_says_what_to_do() -> None:
    assert_refused(run_vtopt("bench", "report"), "vtopt run")


def test_an_unknown_recipe_is_answered_with_those_there_are() -> None:
    assert_refused(run_vtopt("run", "cpu-int9"), "did you mean 'cpu-int8'", "openvino-int8")


def test_a_recipe_with_mistakes_lists_them_all(small_checkpoint: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("steps:\n  - strip:\n  - quantise:\n  - simplify: {loud: true}\n")
    result = run_vtopt("run", recipe, "--weights", small_checkpoint, cwd=tmp_path)
    assert result.returncode == 1
    assert "did you mean 'quantize'" in result.stderr
    assert "loud" in result.stderr


@pytest.mark.parametrize("runs", [1])
def test_run_ends_with_a_report_and_bench_report_repeats_it(small_checkpoint: Path, tmp_path: Path, runs: int) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(
        "steps:\n  - export: {size: 64x48, exporter: torchscript, pair_count: 1}\n    name: fp32\n"
        "  - quantize: {fp16: true, pair_count: 1}\n    name: fp16\nreport: [fp32, fp16]\n"
    )
    arguments = (
        "run",
        recipe,
        "--weights",
        small_checkpoint,
        "--pair-count",
        "2",
        "--output",
        tmp_path / "out",
    )
    result = run_vtopt(*arguments)
    assert result.returncode == 0, result.stderr
    assert "| fp16" in result.stdout
    assert (tmp_path / "out" / "worst-fp16.png").exists()
    assert json.loads((tmp_path / "out" / "report.json").read_text())["rows"][1]["model"] == "fp32"
    again = run_vtopt(*arguments)
    assert again.stderr.count("unchanged, kept") == 2
    report = run_vtopt("bench", "report", "--runs", runs, "--pair-count", 1, "--format", "csv")
    assert report.stdout.splitlines()[0].startswith("model,runtime,size MiB")
    assert sum(line.startswith("fp16,") for line in report.stdout.splitlines()) == 2


def test_an_interruption_exits_130_and_keeps_finished_stages(small_checkpoint: Path, tmp_path: Path) -> None:
    import signal
    import time

    output = tmp_path / "out"
    command = [sys.executable, "-m", "vtopt.optimize.cli", "run", "cpu-fp16"]
    process = subprocess.Popen(
        [*command, "--weights", str(small_checkpoint), "--output", str(output)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell in the background starts its children with Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not (output / "run.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "interrupted" in errors
    assert sorted(file.name for file in output.iterdir()) == ["01-strip.safetensors", "run.json"]

"""Int8 within a budget, from the step's side: what is kept, what goes on, what is said of poor pairs and models."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from PIL import Image
from typer.testing import CliRunner

from vtopt.optimize.cli import app
from vtopt.optimize.errors import BudgetError, InputError, OutputError, VtoptError
from vtopt.optimize.int8 import build
from vtopt.optimize.int8.budget import Choice
from vtopt.optimize.int8.mixtures import Mixtures
from vtopt.optimize.provenance import read_history
from vtopt.optimize.quantize import NOTHING_NOTICE, quantize_onnx

DEPTH = 6
TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,32,24] person, float[1,3,32,24] clothes) => (float[1,3,32,24] tryon) {
  [both] f0 = Concat <axis = 1> (person, clothes)
  BODY
  [last] tryon = Conv <pads = [1, 1, 1, 1]> (f6, w_last, b_last)
}""".replace(
    "BODY",
    "\n".join(
        f"[c{place}] r{place} = Conv <pads = [1, 1, 1, 1]> (f{place}, w{place}) "
        f"[a{place}] f{place + 1} = Tanh (r{place})"
        for place in range(DEPTH)
    ),
)
QUICK: dict[str, Any] = {"int8": True, "pair_count": 2, "calibration_count": 3, "ranges": "minmax"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A chain of convolutions of unlike steepness: some cost much in int8, some little."""
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(TEXT)
    widths = [6, *[8] * DEPTH]
    for place in range(DEPTH):
        values = rng.normal(size=(8, widths[place], 3, 3)) * (0.3, 0.05, 0.15)[place % 3]
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), f"w{place}"))
    model.graph.initializer.append(numpy_helper.from_array((rng.normal(size=(3, 8, 3, 3)) / 5).astype("f4"), "w_last"))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "b_last"))
    onnx.save(model, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.onnx"


@pytest.fixture
def budget(source: Path, tmp_path: Path) -> float:
    """A few dB more than all in int8 gives."""
    plain = quantize_onnx(source, tmp_path / "plain.onnx", **QUICK)
    return read_history(plain)[-1].figures["psnr_median_db"] + 4


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What was compared, in order."""
    found: list[int] = []
    original = build.open_mixtures

    def open_counted(*args: Any) -> Mixtures:
        mixtures = original(*args)

        def compare(place: int, int8: Collection[str]) -> tuple[float, float | None]:
            found.append(place)
            return mixtures.compare(place, int8)

        return replace(mixtures, compare=compare)

    monkeypatch.setattr(build, "open_mixtures", open_counted)
    return found


def _load(path: Path) -> None:
    onnx.checker.check_model(onnx.load(path))
    ort.InferenceSession(path, providers=["CPUExecutionProvider"])


def _interrupt(source: Path, output: Path, after: int, **settings: Any) -> None:
    """Quantise until the search has compared so often, then press Ctrl-C."""
    original = build.open_mixtures

    def open_broken(*args: Any) -> Mixtures:
        mixtures, done = original(*args), []

        def compare(place: int, int8: Collection[str]) -> tuple[float, float | None]:
            if len(done) == after:
                raise KeyboardInterrupt
            done.append(place)
            return mixtures.compare(place, int8)

        return replace(mixtures, compare=compare)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "open_mixtures", open_broken)
        with pytest.raises(KeyboardInterrupt):
            quantize_onnx(source, output, **settings)


def test_a_budget_that_all_int8_misses_is_met(
    source: Path, output: Path, budget: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Choice] = []
    original = build.search_budget

    def search(*args: Any) -> Choice:
        found.append(original(*args))
        return found[-1]

    monkeypatch.setattr(build, "search_budget", search)
    quantize_onnx(source, output, **QUICK, min_psnr=budget)
    _load(output)
    figures = read_history(output)[-1].figures
    assert figures["psnr_median_db"] >= budget
    assert found[0].holds
    assert figures["psnr_median_db"] == pytest.approx(found[0].score.psnr_db, abs=0.05)
    assert figures["psnr_worst_db"] == pytest.approx(found[0].score.psnr_worst_db, abs=0.05)
    kept = figures["float_for_the_budget"]
    assert 0 < len(kept) < DEPTH + 1
    assert figures["convolutions_float"] == len(kept) == len(found[0].float_units)
    assert 0 < figures["float_share_of_macs"] < 1
    assert figures["finished"] is True
    assert figures["trail"][0].startswith("all int8, 0 float: ")
    assert figures["trail"][0].endswith("over it")
    stored = {node.name: node.input[1] for node in onnx.load(output).graph.node if node.op_type == "Conv"}
    constants = {tensor.name for tensor in onnx.load(output).graph.initializer}
    floats = {name for name, weight in stored.items() if weight in constants}
    assert floats == {line.partition(":")[0] for line in kept}


def test_a_budget_that_all_int8_meets_leaves_nothing_float(source: Path, output: Path, calls: list[int]) -> None:
    quantize_onnx(source, output, **QUICK, min_psnr=10)
    figures = read_history(output)[-1].figures
    assert (figures["float_for_the_budget"], figures["float_share_of_macs"]) == ([], 0)
    assert len(calls) == 2 * QUICK["pair_count"]  # the float model, and all in int8


def test_an_interrupted_search_goes_on_and_ends_with_the_same_bytes(
    source: Path, output: Path, tmp_path: Path, budget: float, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**QUICK, "min_psnr": budget}
    whole = quantize_onnx(source, tmp_path / "whole.onnx", **settings)
    needed = len(calls)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another cache"))
    after = needed * 2 // 3
    _interrupt(source, output, after, **settings)
    _load(output)
    assert read_history(output)[-1].figures["finished"] is False
    assert not list(tmp_path.glob(".vtopt-*"))
    calls.clear()
    quantize_onnx(source, output, **settings)
    assert len(calls) == needed - after
    assert output.read_bytes() == whole.read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        quantize_onnx(source, output, **settings)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"min_psnr": 99.0}, id="budget"),
        pytest.param({"pair_count": 1}, id="pairs"),
        pytest.param({"fp16": True}, id="fp16"),
        pytest.param({"ranges": "mse"}, id="ranges"),
        pytest.param({"calibration_count": 2}, id="calibration"),
    ],
)
def test_another_setting_does_not_go_on(source: Path, output: Path, budget: float, other: dict[str, Any]) -> None:
    settings = {**QUICK, "min_psnr": budget}
    _interrupt(source, output, 5, **settings)
    before = output.read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        quantize_onnx(source, output, **{**settings, **other})
    assert output.read_bytes() == before


def test_another_input_does_not_go_on(source: Path, output: Path, budget: float) -> None:
    settings = {**QUICK, "min_psnr": budget}
    _interrupt(source, output, 5, **settings)
    model = onnx.load(source)
    model.producer_name = "another"
    onnx.save(model, source)
    with pytest.raises(OutputError, match="exists already"):
        quantize_onnx(source, output, **settings)
    quantize_onnx(source, output, **settings, force=True)


def test_a_tiny_time_budget_ends_with_a_valid_file(source: Path, output: Path, budget: float) -> None:
    with pytest.raises(BudgetError, match="the file was kept") as caught:
        quantize_onnx(source, output, **QUICK, min_psnr=budget, time_budget=0.001)
    assert caught.value.exit_code == 3
    _load(output)
    record = read_history(output)[-1]
    assert record.figures["finished"] is False
    assert record.figures["calibrated_on_pairs"] == 1
    assert any("the time budget ended the search" in notice for notice in record.notices)
    with pytest.raises(BudgetError):  # it goes on without --force
        quantize_onnx(source, output, **QUICK, min_psnr=budget, time_budget=0.001)


def test_a_time_budget_with_auto_ranges_and_no_quality(source: Path, output: Path) -> None:
    quantize_onnx(source, output, int8=True, pair_count=1, calibration_count=2, time_budget=0.001)
    assert read_history(output)[-1].figures["ranges"] == "minmax"


def test_auto_ranges_take_the_best(source: Path, output: Path) -> None:
    quantize_onnx(source, output, int8=True, pair_count=1, calibration_count=2)
    figures = read_history(output)[-1].figures
    tried = figures["ranges_psnr_db"]
    assert set(tried) == {"minmax", "percentile", "entropy", "mse"}
    assert tried[figures["ranges"]] == max(tried.values())


def _make_folder(folder: Path, colours: list[tuple[int, int, int] | None]) -> Path:
    """Write pairs in VITON's layout: of one colour each, or of noise for None."""
    rng = np.random.default_rng(0)
    for kind in ("test_img", "test_clothes"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for index, colour in enumerate(colours):
            values = rng.integers(0, 256, (32, 24, 3)) if colour is None else np.full((32, 24, 3), colour)
            Image.fromarray(values.astype(np.uint8)).save(folder / kind / f"{index}.png")
    return folder


def test_an_empty_folder_is_refused(source: Path, output: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        quantize_onnx(source, output, **QUICK, pairs=_make_folder(tmp_path / "pairs", []))
    assert not output.exists()


def test_one_pair_is_enough_and_noted(source: Path, output: Path, tmp_path: Path) -> None:
    quantize_onnx(source, output, **QUICK, pairs=_make_folder(tmp_path / "pairs", [None]))
    said = " ".join(read_history(output)[-1].notices)
    assert "calibrated on one pair only" in said
    assert "calibrated on the pairs it is compared on" in said


@pytest.mark.parametrize("colour", [(90, 90, 90), (200, 30, 60)])
def test_pairs_of_one_colour_are_refused(
    source: Path, output: Path, tmp_path: Path, colour: tuple[int, int, int]
) -> None:
    folder = _make_folder(tmp_path / "pairs", [colour] * 4)
    with pytest.raises(InputError, match="every pair is of one colour"):
        quantize_onnx(source, output, **QUICK, pairs=folder)
    assert not output.exists()


def test_a_pair_of_one_colour_is_refused_where_time_ends_calibration_at_it(
    source: Path, output: Path, tmp_path: Path
) -> None:
    folder = _make_folder(tmp_path / "pairs", [None, None, (90, 90, 90), None])
    with pytest.raises(InputError, match="every pair is of one colour"):
        quantize_onnx(source, output, **QUICK, pairs=folder, min_psnr=30, time_budget=1e-3)


@pytest.mark.parametrize("colour", [(90, 90, 90), (200, 30, 60)])
def test_some_pairs_of_one_colour_are_noted(
    source: Path, output: Path, tmp_path: Path, colour: tuple[int, int, int]
) -> None:
    folder = _make_folder(tmp_path / "pairs", [None, None, colour, None, None])
    quantize_onnx(source, output, **QUICK, pairs=folder)
    said = " ".join(read_history(output)[-1].notices)
    assert "calibrated on 1 pairs of one colour (2-2)" in said


def test_a_model_that_makes_nan_is_refused(source: Path, output: Path) -> None:
    model = onnx.load(source)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "w2")
    values = numpy_helper.to_array(tensor).copy()
    values[0, 0, 0, 0] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(values, "w2"))
    onnx.save(model, source)
    with pytest.raises(InputError, match="'r2' holds NaN"):
        quantize_onnx(source, output, **QUICK)
    assert not output.exists()


def test_what_is_int8_already_is_refused(source: Path, output: Path, tmp_path: Path) -> None:
    quantize_onnx(source, output, **QUICK)
    with pytest.raises(InputError, match="is int8 already"):
        quantize_onnx(output, tmp_path / "again.onnx", **QUICK, min_psnr=30)


def test_what_only_other_operations_compute_is_noted(tmp_path: Path, output: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1,3,32,24] person, float[1,3,32,24] clothes) => (float[1,3,32,24] tryon) {
          t = ConvTranspose (clothes, w)
          m = MatMul (t, v)
          tryon = Add (m, person)
        }"""
    )
    rng = np.random.default_rng(0)
    for name, shape in {"w": (3, 3, 1, 1), "v": (24, 24)}.items():
        model.graph.initializer.append(numpy_helper.from_array(rng.normal(size=shape).astype(np.float32) / 5, name))
    onnx.save(model, tmp_path / "other.onnx")
    quantize_onnx(tmp_path / "other.onnx", output, **QUICK, min_psnr=40)
    said = list(read_history(output)[-1].notices)
    assert any(notice.startswith("left float: 1 ConvTranspose, 1 MatMul") for notice in said)
    assert NOTHING_NOTICE in said


def test_a_network_within_a_budget(small_onnx: Path, output: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"int8": True, "pair_count": 1, "calibration_count": 2, "ranges": "minmax"}
    plain = read_history(quantize_onnx(small_onnx, tmp_path / "plain.onnx", **settings))[-1].figures["psnr_median_db"]
    quantize_onnx(small_onnx, output, **settings, min_psnr=plain + 3)
    figures = read_history(output)[-1].figures
    assert figures["psnr_median_db"] >= plain + 3
    assert figures["float_for_the_budget"]


def test_a_cache_that_cannot_be_written_to_stops_nothing(
    source: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    quantize_onnx(source, output, **QUICK, min_psnr=10)
    _load(output)


def test_an_interruption_before_the_first_mixture_leaves_nothing(source: Path, output: Path, tmp_path: Path) -> None:
    _interrupt(source, output, 0, **QUICK, min_psnr=60)
    assert list(tmp_path.iterdir()) == [source]


def test_an_older_output_stays_until_there_is_better(source: Path, output: Path) -> None:
    shutil.copy(source, output)
    before = output.read_bytes()
    with pytest.raises(VtoptError, match="exists already"):
        quantize_onnx(source, output, **QUICK, min_psnr=60)
    _interrupt(source, output, 0, **QUICK, min_psnr=60, force=True)
    assert output.read_bytes() == before


def test_a_missed_budget_is_reported_before_it_is_an_error(source: Path, output: Path) -> None:
    arguments = ["quantize", str(source), str(output), "--int8", "--weight-only", "--pair-count", "1"]
    result = CliRunner().invoke(app, [*arguments, "--min-psnr", "250"])
    assert isinstance(result.exception, BudgetError)
    assert result.stdout.startswith(f"quantize: {output}")
    assert "convolutions float" in result.stdout

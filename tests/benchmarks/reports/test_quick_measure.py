"""Reports: rows and columns, the truth where it is known, and what is noticed; on models of one node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from PIL import Image

from vtopt.benchmarks.cost.flops import count_macs
from vtopt.benchmarks.engines.engine import Engine
from vtopt.benchmarks.quality.comparison import UNCHANGED
from vtopt.benchmarks.quality.pictures import compare_pictures
from vtopt.benchmarks.reports import quick_measure
from vtopt.benchmarks.reports.quick_measure import measure_models
from vtopt.benchmarks.reports.report import COLUMNS, TRUTH_COLUMNS, Report
from vtopt.benchmarks.timing.latency import Latency
from vtopt.optimize.data.pairs import Pair, open_pairs
from vtopt.optimize.errors import InputError

HEIGHT, WIDTH = 32, 24
QUICK = {"runs": 1, "warmup": 0, "threads": 1}


def _save(path: Path, node: str, size: str = f"{HEIGHT},{WIDTH}") -> Path:
    """Save a model of one node, `tryon` of `person` and `clothes`, with two constants to use."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    graph (float[1,3,{size}] person, float[1,3,{size}] clothes) => (float[1,3,{size}] tryon)
    <float[1] half = {{0.5}}, float[3,3,1,1] w = {{1,0,0, 0,1,0, 0,0,1}}> {{ {node} }}"""
    onnx.save(onnx.parser.parse_model(text), path)
    return path


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Path]:
    """Three models: the first puts the person out unchanged, as does the second, the third darkens it."""
    return {
        "fp32": _save(tmp_path / "fp32.onnx", "k = Mul (clothes, half) tryon = Conv (person, w)"),
        "same": _save(tmp_path / "same.onnx", "k = Mul (clothes, half) tryon = Conv (person, w)"),
        "dark": _save(tmp_path / "dark.onnx", "k = Mul (clothes, half) tryon = Mul (person, half)"),
    }


def _make_pairs(count: int = 2) -> list[Pair]:
    """Pairs without a truth; the person of the second is darker, so that dimming it changes less."""
    person = np.random.default_rng(0).uniform(-1, 1, (3, HEIGHT, WIDTH)).astype(np.float32)
    return [Pair(f"pair-{index}", person / 2**index, person, None, None) for index in range(count)]


def _fake_latency(monkeypatch: pytest.MonkeyPatch, times_ms: Mapping[tuple[str, str], float]) -> list[Any]:
    """Give every engine a time instead of measuring it; return the arguments of the calls."""
    calls: list[Any] = []

    def measure(engines: Mapping[Any, Engine], feeds: Any, *, runs: int, warmup: int, **_: Any) -> dict[Any, Latency]:
        calls.append((feeds, runs, warmup))
        return {
            key: Latency(times_ms[key], 2 * times_ms[key], times_ms[key], runs, warmup, 1, engine.runtime, 1)
            for key, engine in engines.items()
        }

    monkeypatch.setattr(quick_measure, "measure_latency", measure)
    return calls


def _find_rows(report: Report, model: str) -> list[Mapping[str, Any]]:
    return [row for row in report.rows if row["model"] == model]


def test_measure_models_has_a_row_for_each_model_and_runtime(models: dict[str, Path]) -> None:
    report = measure_models(models, _make_pairs(), **QUICK)
    assert [(row["model"], row["runtime"]) for row in report.rows] == [
        (name, runtime) for name in ("fp32", "same", "dark") for runtime in ("onnxruntime", "openvino")
    ]
    assert report.columns == COLUMNS
    assert all(set(row) == set(COLUMNS) for row in report.rows)


def test_measure_models_measures_the_files(models: dict[str, Path]) -> None:
    rows = measure_models(models, _make_pairs(1), **QUICK).rows
    for row in rows:
        assert row["size MiB"] == models[row["model"]].stat().st_size / 2**20
    pixels = HEIGHT * WIDTH
    assert [row["GMACs"] for row in rows] == [3 * 3 * pixels / 1e9] * 4 + [0] * 2
    assert [row["params M"] for row in rows] == [3 * 3 / 1e6] * 4 + [0] * 2


def test_measure_models_compares_pictures_with_those_of_the_first_row(models: dict[str, Path]) -> None:
    pairs = _make_pairs()
    report = measure_models(models, pairs, **QUICK)
    reference, same, dark = (_find_rows(report, name)[0] for name in models)
    assert [reference[column] for column in ("PSNR dB", "worst dB", "SSIM")] == [None] * 3
    assert same["PSNR dB"] == same["worst dB"] == float("inf")
    assert same["SSIM"] == pytest.approx(1, abs=1e-9)
    scores = [compare_pictures(pair.person * np.float32(0.5), pair.person) for pair in pairs]
    tolerance = 1e-3  # dB; float32
    assert dark["worst dB"] == pytest.approx(min(score.psnr for score in scores), abs=tolerance)
    assert dark["PSNR dB"] == pytest.approx(min(score.psnr for score in scores), abs=tolerance)  # the lower middle
    assert dark["SSIM"] == pytest.approx(min(score.ssim for score in scores), abs=1e-5)


def test_measure_models_keeps_the_worst_pair_of_models_that_differ(models: dict[str, Path]) -> None:
    pairs = _make_pairs()
    shown = measure_models(models, pairs, **QUICK).shown
    assert {name for name, _ in shown} == {"dark"}  # the same picture has no worst pair, nor has the reference
    (worst,) = shown["dark", "onnxruntime"]  # of two pairs the lower is also the median
    assert (worst.role, worst.pair) == ("worst", "pair-0")
    np.testing.assert_allclose(worst.picture, pairs[0].person / 2, atol=1e-6)
    np.testing.assert_allclose(worst.reference, pairs[0].person, atol=1e-6)


def test_measure_models_keeps_a_broken_picture_as_the_worst(tmp_path: Path) -> None:
    models = {
        "fp32": _save(tmp_path / "fp32.onnx", "tryon = Max (person, clothes)"),
        "broken": _save(tmp_path / "broken.onnx", "m = Max (person, clothes) z = Sub (m, m) tryon = Div (z, z)"),
    }
    report = measure_models(models, _make_pairs(1), **QUICK)
    assert np.isnan(report.shown["broken", "onnxruntime"][0].picture).all()
    assert {row["PSNR dB"] for row in _find_rows(report, "broken")} == {-float("inf")}


def test_measure_models_tells_speed_relative_to_the_first_row(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {(name, runtime): 10.0 for name in models for runtime in ("onnxruntime", "openvino")}
    times["fp32", "onnxruntime"], times["dark", "openvino"] = 20.0, 5.0
    calls = _fake_latency(monkeypatch, times)
    report = measure_models(models, _make_pairs(1), runs=7, warmup=2, threads=1)
    speeds = {(row["model"], row["runtime"]): row["speed x"] for row in report.rows}
    assert speeds == {key: 20 / time for key, time in times.items()}
    assert all((row["median ms"], row["p90 ms"]) == (time, 2 * time) for row, time in zip(
        report.rows, times.values(), strict=True
    ))  # fmt: skip
    ((feeds, runs, warmup),) = calls
    assert (list(feeds), runs, warmup) == (list(times), 7, 2)
    assert all(array.shape == (1, 3, HEIGHT, WIDTH) for fed in feeds.values() for array in fed.values())


@pytest.mark.parametrize(
    ("dark_ms", "notices"),
    [
        pytest.param(
            {"onnxruntime": 30.0, "openvino": 1.0},
            ("dark is 3.00 times slower than fp32 on onnxruntime on this machine",),
            id="slower on one runtime",
        ),
        pytest.param({"onnxruntime": 5.0, "openvino": 20.0}, (), id="faster, or as fast"),
        pytest.param(
            {"onnxruntime": 9.0, "openvino": 25.0},
            ("dark is 1.25 times slower than fp32 on openvino on this machine",),
            id="slower than the first on the same runtime only",
        ),
    ],
)
def test_measure_models_notices_a_model_that_is_slower(
    dark_ms: Mapping[str, float], notices: Sequence[str], models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    del models["same"]
    times = {("fp32", "onnxruntime"): 10.0, ("fp32", "openvino"): 20.0}
    _fake_latency(monkeypatch, times | {("dark", runtime): time for runtime, time in dark_ms.items()})
    assert measure_models(models, _make_pairs(1)).notices == tuple(notices)


def test_measure_models_notices_what_the_macs_leave_out(tmp_path: Path) -> None:
    """LRN is an operation that both runtimes run and no rule is made for."""
    _save(tmp_path / "odd.onnx", "m = Max (person, clothes) tryon = LRN <size=3> (m)")
    report = measure_models({"odd": tmp_path / "odd.onnx"}, _make_pairs(1), **QUICK)
    assert report.notices == ("odd: MACs leave out LRN (1)",)


def test_measure_models_runs_weights_in_torch_and_counts_macs_there(small_checkpoint: Path, small_onnx: Path) -> None:
    report = measure_models({"net": small_checkpoint}, open_pairs(None, (64, 48), 1), **QUICK)
    truth, row = report.rows
    assert (row["runtime"], row["GMACs"]) == ("torch", count_macs(small_onnx).macs / 1e9)
    assert truth["model"] == UNCHANGED


def test_measure_models_draws_pairs_that_know_the_truth(models: dict[str, Path]) -> None:
    report = measure_models(models, count=2, **QUICK)
    pairs = open_pairs(None, (HEIGHT, WIDTH), 2)
    assert report.columns == (*COLUMNS, *TRUTH_COLUMNS)
    unchanged, *rows = report.rows
    assert set(unchanged) == {"model", *TRUTH_COLUMNS}
    assert unchanged["model"] == UNCHANGED == "(person unchanged)"
    scores = [compare_pictures(pair.person, pair.truth) for pair in pairs if pair.truth is not None]
    assert unchanged["truth PSNR dB"] == min(score.psnr for score in scores)  # the lower middle of two
    assert rows[0]["truth PSNR dB"] == pytest.approx(unchanged["truth PSNR dB"], abs=1e-3)  # fp32 puts out the person
    assert rows[-1]["truth PSNR dB"] < rows[0]["truth PSNR dB"]
    assert report.conditions["pairs from"] == "drawn pairs, seeds from 0"


def _make_folder(folder: Path, *, truth: bool, count: int = 2) -> Path:
    """Make a folder of pairs in VITON's layout."""
    generator = np.random.default_rng(0)
    for place in ("test_img", "test_clothes", *(["test_truth"] if truth else [])):
        (folder / place).mkdir(parents=True)
        for index in range(count):
            pixels = generator.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
            Image.fromarray(pixels).save(folder / place / f"{index}.png")
    return folder


@pytest.mark.parametrize(
    "truth", [pytest.param(True, id="a folder with test_truth"), pytest.param(False, id="a folder without it")]
)
def test_measure_models_shows_the_truth_where_a_folder_has_it(
    truth: bool, models: dict[str, Path], tmp_path: Path
) -> None:
    folder = _make_folder(tmp_path / "pairs", truth=truth)
    report = measure_models({"fp32": models["fp32"]}, folder=folder, **QUICK)
    assert report.columns == (*COLUMNS, *(TRUTH_COLUMNS if truth else ()))
    assert [row["model"] for row in report.rows] == [*([UNCHANGED] if truth else []), "fp32", "fp32"]
    assert report.conditions["pairs from"] == str(folder)
    assert report.conditions["pairs"] == 2


def test_measure_models_says_how_it_measured(models: dict[str, Path]) -> None:
    conditions = measure_models(models, _make_pairs(2), runs=2, warmup=1, threads=1).conditions
    expected = {
        "reference": "fp32 on onnxruntime",
        "pairs": 2,
        "size": f"{HEIGHT}x{WIDTH}",
        "batch": 1,
        "runs": "2 in turns after 1 of warm-up",
        "threads": 1,
    }
    assert {key: conditions[key] for key in expected} == expected
    assert {"cpu", "torch", "onnxruntime", "openvino"} <= set(conditions)


def test_measure_models_refuses_models_of_different_sizes(models: dict[str, Path], tmp_path: Path) -> None:
    models["wide"] = _save(tmp_path / "wide.onnx", "tryon = Max (person, clothes)", size="32,48")
    with pytest.raises(InputError, match=r"different sizes \(fp32 32x24, same 32x24, dark 32x24, wide 32x48\)"):
        measure_models(models, _make_pairs(1), **QUICK)


def test_measure_models_refuses_pairs_of_another_size(models: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="load the pairs with --size 32x24"):
        measure_models(models, open_pairs(None, (64, 48), 1), **QUICK)


def test_measure_models_refuses_no_models() -> None:
    with pytest.raises(InputError, match="there are no models to measure; name at least one"):
        measure_models({})


def test_measure_models_refuses_no_pairs(models: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="there are no pairs to compare"):
        measure_models(models, [], **QUICK)


def _pair_with_first(keys: list[Any]) -> list[Any]:
    return [[keys[0], key] for key in keys[1:]]


def test_models_that_memory_does_not_hold_run_in_lots(
    small_onnx: Path, small_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {"weights": small_checkpoint, "a": small_onnx, "b": small_onnx}
    whole = measure_models(models, count=2, runs=1, warmup=0)
    monkeypatch.setattr(quick_measure, "plan_lots", lambda engines, feeds: _pair_with_first(list(engines)))
    split = measure_models(models, count=2, runs=1, warmup=0)
    assert [(row["model"], row.get("runtime")) for row in split.rows] == [
        (row["model"], row.get("runtime")) for row in whole.rows
    ]
    for one, other in zip(split.rows, whole.rows, strict=True):
        assert [one[key] for key in one if "PSNR" in key] == [other[key] for key in other if "PSNR" in key]
    assert "memory does not hold all models: they ran in 4 lots, each beside weights on torch" in split.notices

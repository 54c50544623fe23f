"""The quantize step: what it refuses, says and keeps; the casts themselves are tested beside their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import ModelProto, numpy_helper
from PIL import Image

from vtopt.optimize import cpu_target, quantize
from vtopt.optimize.data.pairs import Pair
from vtopt.optimize.errors import BudgetError, DifferenceError, InputError, OutputError, UsageError
from vtopt.optimize.int8 import build
from vtopt.optimize.int8.pairs import CALIBRATION_SEED, choose_calibration_pairs
from vtopt.optimize.provenance import read_history
from vtopt.optimize.quantize import DYNAMIC_NOTICE, NOTHING_NOTICE, check_settings, quantize_onnx

SIZE = (32, 24)
WIDE = 64
QUICK = {"pair_count": 1}

CONVOLUTIONS = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,32,24] person, float[1,3,32,24] clothes) => (float[1,3,32,24] tryon) {
  features = Conv <pads = [1, 1, 1, 1]> (clothes, w)
  active = Relu (features)
  painted = Conv (active, v)
  tryon = Add (painted, person)
}"""
NONE = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,32,24] person, float[1,3,32,24] clothes) => (float[1,3,32,24] tryon) {
  tryon = Add (person, clothes)
}"""


def _save(path: Path, text: str = CONVOLUTIONS) -> Path:
    """Write a model that another tool might have made: no metadata, its inputs person and clothes."""
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(text)
    if text is CONVOLUTIONS:
        for name, shape in {"w": (WIDE, 3, 3, 3), "v": (3, WIDE, 1, 1)}.items():
            values = rng.normal(size=shape).astype(np.float32) / 10
            model.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.save(model, path)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return _save(tmp_path / "net.onnx")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.onnx"


@pytest.mark.parametrize(
    ("settings", "convolutions"),
    [({"fp16": True}, 0), ({"int8": True}, 2), ({"int8": True, "dynamic": True}, 2)],
)
def test_quantize(source: Path, output: Path, settings: dict[str, bool], convolutions: int) -> None:
    quantize_onnx(source, output, **settings, **QUICK, min_psnr=30)
    (record,) = read_history(output)
    assert (record.step, record.parent) == ("quantize", "net.onnx")
    assert record.settings["fp16"] == settings.get("fp16", False)
    assert record.figures["convolutions_int8"] == convolutions
    assert record.figures["convolutions_float"] == 2 - convolutions
    assert record.figures["psnr_median_db"] >= 30
    assert ("target" in record.settings) == (settings == {"int8": True})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "choose --fp16, --int8, or both"),
        ({"fp16": True, "int8": True, "weight_only": True}, "goes with one of --fp16 and --int8"),
        ({"dynamic": True, "fp16": True}, "--dynamic goes with --int8"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    source: Path, output: Path, settings: dict[str, bool], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        quantize_onnx(source, output, **settings)
    assert caught.value.exit_code == 2
    assert not output.exists()


@pytest.mark.parametrize("settings", [{"fp16": True}, {"int8": True}, {"int8": True, "dynamic": True}])
def test_the_same_model_gives_the_same_bytes(source: Path, tmp_path: Path, settings: dict[str, bool]) -> None:
    one, two = (quantize_onnx(source, tmp_path / name, **settings, **QUICK) for name in ("one.onnx", "two.onnx"))
    assert one.read_bytes() == two.read_bytes()


def test_a_missed_budget_keeps_the_file(source: Path, output: Path) -> None:
    with pytest.raises(BudgetError, match="the file was kept") as caught:
        quantize_onnx(source, output, fp16=True, **QUICK, min_psnr=200)
    assert caught.value.exit_code == 3
    assert read_history(output)[0].figures["psnr_median_db"] < 200


def test_dynamic_says_that_it_is_for_size(source: Path, output: Path) -> None:
    quantize_onnx(source, output, int8=True, dynamic=True, pair_count=1)
    assert list(read_history(output)[0].notices) == [DYNAMIC_NOTICE]
    assert output.stat().st_size < source.stat().st_size


@pytest.mark.parametrize(("here", "notices"), [("arm64", 1), ("avx2", 0)])
def test_a_target_that_is_not_this_machine_is_noted(
    source: Path, output: Path, here: str, notices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_target, "detect_target", lambda: here)
    quantize_onnx(source, output, int8=True, target="avx2", **QUICK)
    said = read_history(output)[0].notices
    assert [notice.partition(":")[0] for notice in said] == [
        f"quantised for avx2, but this machine is {here}"
    ] * notices


def test_a_model_without_convolutions_is_noted(tmp_path: Path, output: Path) -> None:
    quantize_onnx(_save(tmp_path / "none.onnx", NONE), output, int8=True, **QUICK)
    (record,) = read_history(output)
    assert list(record.notices) == [NOTHING_NOTICE]
    assert record.figures["max_abs"] == 0


@pytest.mark.parametrize("settings", [{"fp16": True}, {"int8": True}])
@pytest.mark.parametrize(("before", "kind"), [({"fp16": True}, "float16"), ({"int8": True}, "int8")])
def test_what_is_quantised_already_is_refused(
    source: Path, tmp_path: Path, output: Path, before: dict[str, bool], kind: str, settings: dict[str, bool]
) -> None:
    quantized = quantize_onnx(source, tmp_path / "before.onnx", **before, **QUICK)
    with pytest.raises(InputError, match=rf"before\.onnx: is {kind} already; quantise the float32 model"):
        quantize_onnx(quantized, output, **settings)
    assert not output.exists()


def test_an_existing_output_is_refused_before_any_work(
    source: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output.write_bytes(b"precious")
    monkeypatch.setattr(build, "build_int8", lambda *_: pytest.fail("no work before the refusal"))
    with pytest.raises(OutputError, match="exists already"):
        quantize_onnx(source, output, int8=True)
    assert output.read_bytes() == b"precious"


def test_pictures_of_nan_are_refused(
    source: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vtopt.optimize import fp16

    def overflow(model: ModelProto) -> ModelProto:
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((WIDE, 3, 3, 3), np.nan, np.float32), "w"))
        return model

    monkeypatch.setattr(fp16, "cast_fp16", overflow)
    with pytest.raises(DifferenceError, match="NaN or infinite values"):
        quantize_onnx(source, output, fp16=True, pair_count=1)
    assert list(tmp_path.iterdir()) == [source]


def test_an_interruption_leaves_nothing(
    source: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(quantize, "compare_artifacts", interrupt)
    with pytest.raises(KeyboardInterrupt):
        quantize_onnx(source, output, fp16=True)
    assert list(tmp_path.iterdir()) == [source]


def _make_folder(folder: Path, count: int) -> Path:
    """Write `count` pairs of two colours each in VITON's layout."""
    for index in range(count):
        for kind in ("test_img", "test_clothes"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            picture = Image.new("RGB", (24, 32), (index * 40, 100, 200))
            picture.putpixel((3, 4), (250, 20, 30))
            picture.save(folder / kind / f"{index}.png")
    return folder


def _list_names(pairs: Sequence[Pair]) -> list[str]:
    return [pair.name for pair in pairs]


@pytest.mark.parametrize(
    ("count", "held_out", "chosen", "notice"),
    [
        pytest.param(9, 2, ["2-2", "3-3", "4-4"], "leaves 3 of 9 pairs", id="all that are not compared on"),
        pytest.param(2, 2, ["2-2", "3-3"], "", id="as many as asked"),
        pytest.param(9, 4, ["4-4"], "one pair only", id="the last"),
    ],
)
def test_calibration_pairs_are_apart_from_those_compared_on(
    tmp_path: Path, count: int, held_out: int, chosen: list[str], notice: str
) -> None:
    pairs, notices = choose_calibration_pairs(_make_folder(tmp_path, 5), SIZE, count, held_out)
    assert _list_names(pairs) == chosen
    assert bool(notices) == bool(notice)
    assert notice in "".join(notices)


def test_a_folder_with_too_few_pairs_gives_them_all_and_says_so(tmp_path: Path) -> None:
    pairs, (notice,) = choose_calibration_pairs(_make_folder(tmp_path, 2), SIZE, 9, 4)
    assert _list_names(pairs) == ["0-0", "1-1"]
    assert notice == f"{tmp_path} has only 2 pairs: int8 was calibrated on the pairs it is compared on"


def test_drawn_calibration_pairs_are_others_than_those_compared_on() -> None:
    pairs, notices = choose_calibration_pairs(None, SIZE, 2, 4)
    assert (_list_names(pairs), notices) == ([f"drawn-{CALIBRATION_SEED + index:06d}" for index in range(2)], ())


def test_the_notice_of_shared_pairs_is_in_the_file(source: Path, output: Path, tmp_path: Path) -> None:
    folder = _make_folder(tmp_path / "pairs", 1)
    quantize_onnx(source, output, int8=True, pairs=folder, **QUICK)
    assert any("calibrated on the pairs it is compared on" in notice for notice in read_history(output)[0].notices)


def test_int8_of_a_network(small_onnx: Path, output: Path) -> None:
    quantize_onnx(small_onnx, output, int8=True, **QUICK)
    export, record = read_history(output)
    assert (export.step, record.step) == ("export", "quantize")
    # 3 flow heads for each of 2 levels end in a convolution that stays float.
    assert record.figures["convolutions_float"] == 3 * 2
    assert record.figures["convolutions_int8"] > record.figures["convolutions_float"]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"fp16": True, "target": "avx2"}, id="a target for float16"),
        pytest.param({"int8": True, "dynamic": True, "calibration_count": 4}, id="dynamic with calibration"),
        pytest.param({"int8": True, "source_kind": "weights"}, id="weights for an engine that reads ONNX"),
        pytest.param(
            {"int8": True, "engine": "neural-compressor", "source_kind": "onnx"}, id="ONNX for one that reads weights"
        ),
        pytest.param({"int8": True, "engine": "nncf", "ranges": "entropy"}, id="ranges that NNCF does not have"),
        pytest.param({"int8": True, "engine": "neural-compressor", "max_flow_px": 0.5}, id="flows of weights"),
        pytest.param({"int8": True, "max_flow_px": -1.0}, id="a flow below zero"),
        pytest.param({"fp16": True, "min_psnr": float("nan")}, id="a PSNR that is no number"),
    ],
)
def test_settings_at_odds_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="quantize: "):
        check_settings(**settings)


def test_another_engine_says_that_it_only_checks_the_budget(source: Path, output: Path) -> None:
    quantize_onnx(source, output, int8=True, engine="nncf", calibration_count=1, min_psnr=1.0, **QUICK)
    assert any("the budget was checked only" in notice for notice in read_history(output)[-1].notices)


def test_settings_that_fit_pass() -> None:
    check_settings(int8=True, engine="nncf", ranges="mse", min_psnr=0.0, max_flow_px=0.25)
    check_settings(int8=True, target="avx2", calibration_count=4, pair_count=1)
    check_settings(fp16=True, min_psnr=45.0)

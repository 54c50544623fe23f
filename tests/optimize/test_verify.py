"""The gate: what is equal passes, what is not, or is no number, never does."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from PIL import Image

from vtopt.benchmarks.engines.engine import Engine
from vtopt.optimize.console import format_figures
from vtopt.optimize.data.pairs import Pair, open_pairs
from vtopt.optimize.errors import BudgetError, DifferenceError, InputError
from vtopt.optimize.verify import (
    Difference,
    compare_artifacts,
    compare_engines,
    require_finite,
    require_flow,
    require_psnr,
    save_sheet,
)

SIZE = (32, 24)
COUNT = 3
PEAK = 2.0  # the range of pictures, [-1, 1]

Change = Callable[[np.ndarray], np.ndarray]


def _make_engine(change: Change = lambda x: x, outputs: Sequence[str] = ("tryon",)) -> Engine:
    """An engine that makes of a person half the person, changed."""
    return Engine(
        runtime="test",
        inputs={"person": (1, 3, *SIZE)},
        outputs=tuple(outputs),
        pictures={"person": "person"},
        run=lambda feeds: {name: change(feeds["person"] / 2) for name in outputs},
        size=SIZE,
        path=Path("test.onnx"),
    )


@pytest.fixture(scope="module")
def pairs() -> Sequence[Pair]:
    return open_pairs(None, SIZE, COUNT)


def _set(value: float) -> Change:
    def change(x: np.ndarray) -> np.ndarray:
        x = x.copy()
        x.flat[7] = value
        return x

    return change


def test_equal_artifacts_have_an_infinite_psnr(pairs: Sequence[Pair]) -> None:
    difference = compare_engines(_make_engine(), _make_engine(), pairs)
    assert difference.psnr_median_db == difference.psnr_worst_db == math.inf
    assert (difference.pairs, difference.max_abs, difference.max_relative) == (COUNT, 0, 0)
    assert difference.ssim_median == pytest.approx(1, abs=1e-6)
    require_psnr(difference, 1000, Path("out.onnx"))
    require_finite(difference, Path("out.onnx"))
    figures = json.loads(json.dumps(difference.to_figures(), allow_nan=False))
    assert (figures["psnr_median_db"], figures["max_abs"]) == (None, 0)


def test_the_worst_pictures_are_those_of_the_worst_pair(pairs: Sequence[Pair]) -> None:
    difference = compare_engines(_make_engine(), _make_engine(), pairs)
    assert difference.worst_pair == pairs[0].name  # of equals the first
    np.testing.assert_array_equal(difference.worst_pictures[1], pairs[0].person / 2)


def test_a_shift_gives_the_figures_of_a_shift(pairs: Sequence[Pair]) -> None:
    shift = 0.01
    difference = compare_engines(_make_engine(), _make_engine(lambda x: x + np.float32(shift)), pairs)
    peaks = [abs(pair.person / 2).max() for pair in pairs]
    assert difference.psnr_median_db == pytest.approx(10 * math.log10(PEAK**2 / shift**2), abs=0.01)
    assert difference.max_abs == pytest.approx(shift, rel=1e-4)
    assert difference.max_relative == pytest.approx(shift / min(peaks), rel=1e-4)


@pytest.mark.parametrize(("budget", "missed"), [(None, False), (39.9, False), (40.1, True), (math.inf, True)])
def test_a_budget_is_held_against_the_median(pairs: Sequence[Pair], budget: float | None, missed: bool) -> None:
    shift = PEAK / 10 ** (40 / 20)
    difference = compare_engines(_make_engine(), _make_engine(lambda x: x + np.float32(shift)), pairs)
    if not missed:
        require_psnr(difference, budget, Path("out.onnx"))
        return
    with pytest.raises(BudgetError, match=r"PSNR to its input is 40\.00 dB, .* the file was kept") as caught:
        require_psnr(difference, budget, Path("out.onnx"))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["in the output", "in the reference", "in both"])
def test_what_is_not_finite_never_passes(pairs: Sequence[Pair], where: str, value: float) -> None:
    broken, sound = _make_engine(_set(value)), _make_engine()
    reference = sound if where == "in the output" else broken
    difference = compare_engines(reference, sound if where == "in the reference" else broken, pairs)
    assert difference.max_relative == math.inf
    with pytest.raises(DifferenceError, match="NaN or infinite values"):
        require_finite(difference, Path("out.onnx"))
    json.dumps(difference.to_figures(), allow_nan=False)
    assert difference.to_figures()["max_abs"] is None


def test_a_picture_of_zeros_can_be_compared(pairs: Sequence[Pair]) -> None:
    zeros = _make_engine(lambda x: x * 0)
    assert compare_engines(zeros, zeros, pairs).max_relative == 0
    assert compare_engines(zeros, _make_engine(lambda x: x * 0 + 1), pairs).max_relative == 1


def test_outputs_of_other_names_are_matched_by_place(pairs: Sequence[Pair]) -> None:
    difference = compare_engines(_make_engine(), _make_engine(outputs=("output_0",)), pairs)
    assert difference.max_abs == 0


def test_outputs_of_the_same_names_are_matched_whatever_their_order(pairs: Sequence[Pair]) -> None:
    def make(names: Sequence[str]) -> Engine:
        values = {"tryon": 1.0, "flow": 0.5}
        engine = _make_engine(outputs=names)
        return replace(engine, run=lambda feeds: {name: feeds["person"] * values[name] for name in names})

    assert compare_engines(make(["tryon", "flow"]), make(["flow", "tryon"]), pairs).max_abs == 0


@pytest.mark.parametrize(
    ("compared", "message"),
    [
        pytest.param(_make_engine(outputs=("tryon", "flow")), "different outputs .*: tryon; tryon, flow", id="two"),
        pytest.param(_make_engine(lambda x: x[..., :-1]), "shapes .* cannot be compared", id="another size"),
    ],
)
def test_outputs_that_do_not_match_are_refused(pairs: Sequence[Pair], compared: Engine, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare_engines(_make_engine(), compared, pairs)


def test_artifacts_are_compared_on_their_own_runtimes(small_checkpoint: Path, small_onnx: Path) -> None:
    difference = compare_artifacts(small_checkpoint, small_onnx, pair_count=2)
    assert isinstance(difference, Difference)
    assert difference.pairs == 2
    assert difference.max_relative <= 1e-4
    assert "flow_px_median" not in difference.to_figures()
    with pytest.raises(InputError, match=r"against 1 px: .*small\.pth is no ONNX model"):
        require_flow(difference, 1, small_onnx)


def _write_warp(path: Path, right: float, below: float = 0.0) -> Path:
    """A try-on that moves the clothes by so many pixels, as far as the border lets it."""
    height, width = SIZE
    rows, columns = np.meshgrid(*((2 * np.arange(side) + 1) / side - 1 for side in SIZE), indexing="ij")
    grid = np.stack([columns / 2 + right * 2 / width, rows / 2 + below * 2 / height], -1)[np.newaxis]
    model = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : 17]>
        g (float[1,3,{height},{width}] person, float[1,3,{height},{width}] clothes)
          => (float[1,3,{height},{width}] tryon)
        {{ still = Sub (person, person) moved = GridSample <padding_mode = "border"> (clothes, grid)
           tryon = Add (moved, still) }}"""
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(grid.astype(np.float32), "grid"))
    onnx.save(model, path)
    return path


def test_models_that_sample_elsewhere_have_a_flow_shift(tmp_path: Path) -> None:
    still, moved = _write_warp(tmp_path / "still.onnx", 0), _write_warp(tmp_path / "moved.onnx", 3, -4)
    difference = compare_artifacts(still, moved, pair_count=2)
    assert difference.flow_px_median == difference.flow_px_worst == pytest.approx(5, abs=1e-5)  # 3, 4, 5
    figures = difference.to_figures()
    assert (figures["flow_px_median"], figures["flow_px_worst"]) == (5, 5)
    (line,) = format_figures(figures)
    assert line.endswith("of the largest value), flow shift 5 px (worst 5 px)")
    same = compare_artifacts(still, still, pair_count=1)
    assert (same.flow_px_worst, same.psnr_worst_db) == (0, math.inf)
    broken = compare_artifacts(still, _write_warp(tmp_path / "broken.onnx", math.nan), pair_count=1)
    assert broken.flow_px_worst == math.inf
    assert json.loads(json.dumps(broken.to_figures(), allow_nan=False))["flow_px_worst"] is None
    assert "flow shift infinite" in format_figures(broken.to_figures())[0]
    with pytest.raises(BudgetError):
        require_flow(broken, 1e9, moved)


def test_the_flow_shift_leaves_the_other_figures(small_onnx: Path) -> None:
    """The models give their places from the runs that make the pictures."""
    from vtopt.benchmarks.engines.engine import open_engine

    engine = open_engine(small_onnx)
    plain = compare_engines(engine, engine, open_pairs(None, engine.size, 1)).to_figures()
    measured = compare_artifacts(small_onnx, small_onnx, pair_count=1).to_figures()
    assert measured == plain | {"flow_px_median": 0, "flow_px_worst": 0}


@pytest.mark.parametrize(("budget", "missed"), [(None, False), (0.51, False), (0.49, True), (0.0, True)])
def test_a_flow_budget_is_held_against_the_median(pairs: Sequence[Pair], budget: float | None, missed: bool) -> None:
    equal = compare_engines(_make_engine(), _make_engine(), pairs)
    difference = replace(equal, flow_px_median=0.5, flow_px_worst=3.0)
    if not missed:
        require_flow(difference, budget, Path("out.onnx"))
        return
    with pytest.raises(BudgetError, match=r"^out\.onnx: its flow shift .* is 0\.5 px, .* the file was kept") as caught:
        require_flow(difference, budget, Path("out.onnx"))
    assert caught.value.exit_code == 3


def test_a_flow_budget_needs_the_same_warps_in_both(small_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(small_onnx)
    sampler = next(node for node in model.graph.node if node.op_type == "GridSample")
    more = onnx.NodeProto()
    more.CopyFrom(sampler)
    more.name, more.output[0] = "more", "more"
    model.graph.node.insert(list(model.graph.node).index(sampler), more)
    onnx.save(model, tmp_path / "more.onnx")
    difference = compare_artifacts(small_onnx, tmp_path / "more.onnx", pair_count=1)
    assert (difference.flow_px_median, difference.max_abs) == (None, 0)
    with pytest.raises(InputError, match=r"the \d+ warps of .* cannot be told to be the same; compare two ONNX models"):
        require_flow(difference, 1, tmp_path / "more.onnx")


def test_a_sheet_shows_the_worst_pair(pairs: Sequence[Pair], tmp_path: Path) -> None:
    difference = compare_engines(_make_engine(), _make_engine(_set(math.nan)), pairs)
    sheet = Image.open(save_sheet(difference, tmp_path / "sheet.png"))
    assert sheet.width >= 3 * SIZE[1]
    assert sheet.height > SIZE[0]

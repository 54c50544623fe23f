"""Building int8: what is said of a search, and what measurements depend on."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from vtopt.optimize.errors import InputError
from vtopt.optimize.int8 import build, choice, request
from vtopt.optimize.int8.budget import Choice, Trial
from vtopt.optimize.int8.build import Made, build_int8, describe_choice
from vtopt.optimize.int8.limits import Budget, Deadline
from vtopt.optimize.int8.measurements import Measurements, open_measurements
from vtopt.optimize.int8.mixtures import Score
from vtopt.optimize.int8.ranking import Group
from vtopt.optimize.int8.request import Int8Request

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,32,24] person, float[1,3,32,24] clothes) => (float[1,3,32,24] tryon) {
  [first] a = Conv <pads = [1, 1, 1, 1]> (clothes, w)
  [tanh] b = Tanh (a)
  [second] c = Conv <pads = [1, 1, 1, 1]> (b, v)
  [add] tryon = Add (c, person)
}"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    model, rng = onnx.parser.parse_model(TEXT), np.random.default_rng(0)
    for name, shape in {"w": (8, 3, 3, 3), "v": (3, 8, 3, 3)}.items():
        values = rng.normal(size=shape).astype(np.float32) / 6
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.save(model, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def _build(source: Path, kept: list[Made] | None = None, **settings: object) -> Made:
    asked = Int8Request(**{"ranges": "minmax", "calibration_count": 2, "pair_count": 2, **settings})  # type: ignore[arg-type]
    return build_int8(source, onnx.load(source), asked, (kept if kept is not None else []).append)


def test_without_a_budget_nothing_is_searched(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "search_budget", lambda *_: pytest.fail("there is nothing to search for"))
    kept: list[Made] = []
    made = _build(source, kept)
    assert (made.figures, kept) == ({"calibrated_on_pairs": 2, "ranges": "minmax"}, [])


def test_what_is_kept_last_is_what_is_made(source: Path) -> None:
    kept: list[Made] = []
    made = _build(source, kept, budget=Budget(min_psnr=80))
    assert len(kept) > 1
    assert kept[-1].model.SerializeToString() == made.model.SerializeToString()
    assert kept[-1].figures["float_for_the_budget"] == made.figures["float_for_the_budget"]


def test_a_deadline_that_is_over_calibrates_on_one_pair(source: Path) -> None:
    made = _build(source, deadline=Deadline(0.0), budget=Budget(min_psnr=80))
    assert made.figures["calibrated_on_pairs"] == 1
    assert made.figures["finished"] is False
    assert len(made.figures["trail"]) == 1
    assert any("the time budget ended the search" in notice for notice in made.notices)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Measurements]:
    """What was opened in the cache, in turn."""
    found: list[Measurements] = []

    def remember(question: dict) -> Measurements:
        found.append(open_measurements(question))
        return found[-1]

    monkeypatch.setattr(request, "open_measurements", remember)
    return found


@pytest.mark.parametrize(
    "other", [{"ranges": "mse"}, {"calibration_count": 3}, {"target": "avx2"}, {"pair_count": 1}, {"target": "arm64"}]
)
def test_measurements_are_of_one_request(
    source: Path, other: dict[str, object], opened: list[Measurements], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vtopt.optimize.cpu_target.detect_target", lambda: "vnni")
    for settings in ({}, {}, other):
        _build(source, budget=Budget(min_psnr=5), **settings)
    first, same, another = opened
    assert (first.path == same.path, first.found, same.found > 0, another.found) == (True, 0, True, 0)
    assert another.path != first.path


@pytest.mark.parametrize("what", ["model", "machine", "versions", "code"])
def test_measurements_are_of_one_model_machine_and_code(
    source: Path, what: str, opened: list[Measurements], monkeypatch: pytest.MonkeyPatch
) -> None:
    _build(source, budget=Budget(min_psnr=5))
    if what == "model":
        model = onnx.load(source)
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((8, 3, 3, 3), 0.1, np.float32), "w"))
        onnx.save(model, source)
    else:
        changed = {"machine": "detect_target", "versions": "list_versions", "code": "hash_code"}[what]
        made = {"onnxruntime": "0"} if what == "versions" else "another"
        monkeypatch.setattr(request, changed, lambda: made)
    _build(source, budget=Budget(min_psnr=5))
    assert opened[0].path != opened[1].path


def test_a_choice_of_ranges_that_was_cut_short_leaves_no_wrong_figures(
    source: Path, opened: list[Measurements], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "RANGE_METHODS", ["entropy", "minmax"])
    one = {"ranges": "auto", "calibration_count": 1, "budget": Budget(min_psnr=1)}
    cut = _build(source, **one, deadline=Deadline(time.monotonic() + 1e-3))
    whole = _build(source, **one)
    assert (cut.figures["ranges"], whole.figures["ranges"]) == ("entropy", "minmax")
    assert opened[1].path != opened[3].path
    known = _build(source, **one | {"ranges": "minmax"})
    assert known.figures["trail"] == whole.figures["trail"] != cut.figures["trail"]


def test_a_limit_to_flow_needs_flows(source: Path) -> None:
    with pytest.raises(InputError, match=r"net.onnx: has no warps whose shift can be measured"):
        _build(source, budget=Budget(max_flow_px=0.1))


def test_a_choice_is_described() -> None:
    bad, good = Score(20.0, 19.0, 0.04, 1.5, 2.0), Score(float("inf"), 50.0, 0.0, None, None)
    choice = Choice(
        ("a", "c", "d"),
        good,
        True,
        [Trial("all int8", (), bad, False), Trial("bisection", ("a", "c", "d"), good, True)],
        [Group(("c",), bad), Group(("a", "b"), good)],
        finished=False,
    )
    assert describe_choice(choice, {"a": 10, "b": 20, "c": 30, "d": 40}) == {
        "float_for_the_budget": [
            "c: in int8 alone 20.0 dB, 1.500 px; 30.00% of the multiply-adds",
            "a: in int8 with 1 neighbours equal; 10.00% of the multiply-adds",
            "d: not measured, for want of time; 40.00% of the multiply-adds",
        ],
        "float_share_of_macs": 0.8,
        "trail": ["all int8, 0 float: 20.0 dB, 1.500 px, over it", "bisection, 3 float: equal, in the budget"],
        "finished": False,
    }

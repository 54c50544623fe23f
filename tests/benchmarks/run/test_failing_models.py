"""Models that fail are told and do not end a run; where memory does not hold all, models run in lots."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import onnx.parser
import pytest
from bench_results import SETTINGS, make_entry
from typer.testing import CliRunner

from vtopt.benchmarks.engines.sets import Key
from vtopt.benchmarks.fid.networks import open_network
from vtopt.benchmarks.quality import flow_shift
from vtopt.benchmarks.quality.pictures import FlowShift
from vtopt.benchmarks.reports.results_report import make_results_report
from vtopt.benchmarks.run import distances, opening, phases
from vtopt.benchmarks.run import measure as module
from vtopt.benchmarks.run.distances import DistanceMeter
from vtopt.benchmarks.run.measure import measure_run
from vtopt.benchmarks.run.results import Settings, read_results
from vtopt.benchmarks.timing.processes import Job
from vtopt.benchmarks.timing.sampling import Failure, Plan, Sample
from vtopt.optimize.cli import app
from vtopt.optimize.data.pairs import Pair
from vtopt.optimize.errors import InputError, OutputError

SMALL = replace(SETTINGS, runtimes=("onnxruntime",), processes=2)
SHAPE = "float[1,3,32,24]"


def _save(path: Path, nodes: str = "tryon = Tanh (person)", made: str = "1,3,32,24") -> Path:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    graph ({SHAPE} person) => (float[{made}] tryon) <int64[1] one = {{1}}, int64[1] size = {{5}}> {{ {nodes} }}"""
    onnx.save(onnx.parser.parse_model(text), path)
    return path


FAILS_TO_RUN = """
    mean = ReduceMean (person)
    flat = Reshape (mean, one)
    whole = Cast <to = 7> (flat)
    length = Add (whole, size)
    row = Expand (flat, length)
    tryon = Add (person, row)"""
"""Adds a row of 5 or 6 values, which is known only when it runs."""


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Path]:
    nodes = {"a": "Tanh", "b": "Identity", "c": "Sigmoid"}
    return {name: _save(tmp_path / f"{name}.onnx", f"tryon = {node} (person)") for name, node in nodes.items()}


class Blocks:
    """Stands for `measure_block`: notes what ran together.

    Those in `failing` fail from a process on, those in `dying` from a block on.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failing: dict[str, int] = {}
        self.dying: dict[str, int] = {}
        self.times_ms: dict[str, float] = {}
        self.interrupted_at = -1

    def __call__(self, jobs: Sequence[Job], plan: Plan, process: int, *, advance: Any) -> list[Sample | Failure]:
        if len(self.asked) == self.interrupted_at:
            raise KeyboardInterrupt
        number = len(self.asked)
        self.asked.append("".join(job.path.stem for job in jobs))
        return [
            Failure(f"{job.path.stem} was killed")
            if process >= self.failing.get(job.path.stem, 9) or number >= self.dying.get(job.path.stem, 99)
            else replace(make_entry(job.path.stem, self.times_ms.get(job.path.stem, 10.0)).samples[0], process=process)
            for job in jobs
        ]


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> Blocks:
    made = Blocks()
    monkeypatch.setattr(module, "measure_block", made)
    return made


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, "b.onnx: onnxruntime cannot load it", id="does not load"),
        pytest.param(FAILS_TO_RUN, "b.onnx: onnxruntime fails to run it", id="does not run"),
    ],
)
def test_a_model_that_fails_is_recorded_and_the_others_go_on(
    content: str | None, said: str, models: dict[str, Path], blocks: Blocks, tmp_path: Path
) -> None:
    if content:
        _save(models["b"], content)
    else:
        models["b"].write_bytes(models["b"].read_bytes()[:40])
    measure_run(models, tmp_path / "r.json", SMALL)
    results = read_results(tmp_path / "r.json")
    assert results.complete
    assert blocks.asked == ["ac", "ac"]
    assert {entry.model: len(entry.samples) for entry in results.entries} == {"a": 2, "b": 0, "c": 2}
    assert [found.model for found in results.quality] == ["a", "c"]
    assert results.find_model("b").bytes == models["b"].stat().st_size
    (entry,) = (entry for entry in results.entries if entry.failed)
    (notice,) = (notice for notice in results.notices if "failed" in notice)
    assert notice.startswith("b on onnxruntime, threads 1, batch 1: failed: ")
    assert notice.endswith(entry.failed)
    assert said in entry.failed


def test_a_model_that_dies_in_a_block_runs_in_no_later_one(
    models: dict[str, Path], blocks: Blocks, tmp_path: Path
) -> None:
    blocks.failing = {"b": 1, "c": 0}
    results = measure_run(models, tmp_path / "r.json", replace(SMALL, processes=3))
    assert blocks.asked == ["abc", "ab", "a"]
    assert {entry.model: len(entry.samples) for entry in results.entries} == {"a": 3, "b": 1, "c": 0}
    assert results.notices[-2:] == (
        "b on onnxruntime, threads 1, batch 1: failed after 1 of 3 processes: b was killed",
        "c on onnxruntime, threads 1, batch 1: failed: c was killed",
    )


def test_a_model_of_other_pictures_is_timed_and_the_others_are_compared(
    models: dict[str, Path], blocks: Blocks, tmp_path: Path
) -> None:
    _save(models["b"], "tryon = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (person)", made="1,3,16,12")
    results = measure_run(models, tmp_path / "r.json", SMALL)
    assert [found.model for found in results.quality] == ["a", "c"]
    assert {entry.model: len(entry.samples) for entry in results.entries} == {"a": 2, "b": 2, "c": 2}
    (notice,) = (each for each in results.notices if "compared" in each)
    assert notice.startswith("pictures of b on onnxruntime are not compared: pictures of shapes (3, 16, 12) and (3,")


def test_where_the_first_makes_no_picture_none_are_compared(
    models: dict[str, Path], blocks: Blocks, tmp_path: Path
) -> None:
    _save(models["a"], "tryon = AveragePool <kernel_shape = [4, 4], strides = [4, 4]> (person)", made="1,3,8,6")
    results = measure_run(models, tmp_path / "r.json", SMALL)
    assert results.quality == ()
    assert any(each.startswith("pictures are not compared: pictures of shape (3, 8, 6)") for each in results.notices)


def test_a_flow_that_fails_is_told_and_the_others_are_kept(
    models: dict[str, Path], blocks: Blocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(two: dict[str, Path], pairs: Sequence[Pair], *, threads: int) -> dict[str, FlowShift]:
        _, name = two
        if name == "b":
            raise InputError("b.onnx: onnxruntime fails to run it")
        return {name: FlowShift(0.5, 1.0, "pair-0", 2)}

    monkeypatch.setattr(flow_shift, "measure_flows", measure)
    results = measure_run(models, tmp_path / "r.json", SMALL)
    assert [bool(found.flow) for found in results.quality] == [False, False, True]
    assert "the flow of b is not compared: b.onnx: onnxruntime fails to run it" in results.notices


def test_a_model_that_cannot_be_counted_or_profiled_is_told_and_measured(
    models: dict[str, Path], blocks: Blocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, name in ((opening, "measure_cost"), (phases, "measure_op_times")):
        monkeypatch.setattr(place, name, partial(_fail_for_b, getattr(place, name)))
    results = measure_run(models, tmp_path / "r.json", SMALL)
    assert [model.macs for model in results.models] == [0, None, 0]
    assert results.find_model("b").bytes == models["b"].stat().st_size
    assert [each.model for each in results.op_times] == ["a", "c"]
    assert "b: its parameters and MACs cannot be counted: no such thing" in results.notices
    assert "b on onnxruntime has no times of operations: no such thing" in results.notices
    rows = {row["model"]: row for row in make_results_report(results).rows}
    assert [rows["b"][name] for name in ("GMACs", "params M", "packed MiB", "weights MiB")] == [None] * 4
    assert rows["a"]["packed MiB"] > 0


def _fail_for_b(measure: Any, *given: Any, **settings: Any) -> Any:
    if "b.onnx" in (getattr(each, "name", "") for each in given):
        raise RuntimeError("no such thing")
    return measure(*given, **settings)


def test_a_run_in_which_all_fail_is_an_error(models: dict[str, Path], blocks: Blocks, tmp_path: Path) -> None:
    blocks.failing = dict.fromkeys("abc", 0)
    with pytest.raises(InputError, match=r"no model could be measured; a on onnxruntime, .*: failed: a was killed"):
        measure_run(models, tmp_path / "r.json", SMALL)


@pytest.fixture
def lots(monkeypatch: pytest.MonkeyPatch) -> None:
    def plan(engines: dict[Key, Any], feeds: Any, *, overhead: int) -> list[list[Key]]:
        first, *others = engines
        return [[first, other] for other in others]

    monkeypatch.setattr(opening, "plan_lots", plan)


@pytest.mark.usefixtures("lots")
def test_lots_run_one_after_the_other_each_beside_the_first(
    models: dict[str, Path], blocks: Blocks, tmp_path: Path
) -> None:
    whole = measure_run(models, tmp_path / "r.json", SMALL)
    assert blocks.asked == ["ab", "ac"] * 2
    processes = {entry.model: [sample.process for sample in entry.samples] for entry in whole.entries}
    assert processes == {"a": [0, 1, 2, 3], "b": [0, 2], "c": [1, 3]}
    assert whole.notices[0] == "memory does not hold all models: they ran in 2 lots, each beside a on onnxruntime"
    figures = {entry.model: entry.figures for entry in read_results(tmp_path / "r.json").entries}
    assert figures["c"]["speed"] == pytest.approx(1.0)


@pytest.mark.usefixtures("lots")
def test_speeds_of_different_lots_are_chained_through_the_first(
    models: dict[str, Path], blocks: Blocks, tmp_path: Path
) -> None:
    blocks.times_ms = {"a": 10.0, "b": 5.0, "c": 2.0}
    measure_run(models, tmp_path / "r.json", replace(SMALL, processes=3))
    asked = ("report", str(tmp_path / "r.json"), "--baseline", "b", "--format", "csv")
    told = CliRunner().invoke(app, ["bench", *asked])
    assert told.exit_code == 0, told.output
    rows = {row["model"]: row for row in csv.DictReader(io.StringIO(told.stdout))}
    assert [float(rows[name]["speed x"]) for name in "abc"] == pytest.approx([0.5, 1.0, 2.5])
    direct, chained = (float(rows[name]["to"]) / float(rows[name]["speed x"]) for name in "ac")
    assert math.log(chained) < math.sqrt(2) * math.log(direct)  # two errors, of more degrees of freedom
    assert chained > 1


@pytest.mark.usefixtures("lots")
def test_a_lot_that_the_first_left_has_no_speed_and_says_so(
    models: dict[str, Path], blocks: Blocks, tmp_path: Path
) -> None:
    blocks.dying = {"a": 1}
    results = measure_run(models, tmp_path / "r.json", SMALL)
    assert [len(entry.samples) for entry in results.entries] == [1, 2, 2]
    report = make_results_report(read_results(tmp_path / "r.json"))
    assert {row["model"]: row.get("speed x") for row in report.rows}["c"] is None
    (notice,) = (each for each in report.notices if "has no speed" in each)
    assert notice.startswith("c on onnxruntime, threads 1, batch 1: has no speed, as it never ran in turns with a on")


def test_pictures_and_distances_are_the_same_in_lots(
    models: dict[str, Path], blocks: Blocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    def open_always(settings: Settings, pairs: Sequence[Pair]) -> DistanceMeter:
        return DistanceMeter(open_network(), settings, pairs)

    monkeypatch.setattr(distances, "open_meter", open_always)
    at_once = measure_run(models, tmp_path / "once.json", SMALL)
    request.getfixturevalue("lots")
    in_lots = measure_run(models, tmp_path / "lots.json", SMALL)
    assert len(in_lots.conditions["lots"]) == 2
    assert [each.distances[0].count for each in in_lots.quality] == [SMALL.pair_count] * 3
    assert (in_lots.quality, in_lots.unchanged) == (at_once.quality, at_once.unchanged)
    assert [(each.model, each.pair, each.psnr) for each in in_lots.shown] == [
        (each.model, each.pair, each.psnr) for each in at_once.shown
    ]


@pytest.mark.usefixtures("lots")
def test_an_interrupted_run_in_lots_goes_on_with_the_lot_that_it_lacks(
    models: dict[str, Path], blocks: Blocks, tmp_path: Path
) -> None:
    blocks.interrupted_at = 1
    with pytest.raises(KeyboardInterrupt):
        measure_run(models, tmp_path / "r.json", SMALL)
    blocks.interrupted_at = -1
    measure_run(models, tmp_path / "r.json", SMALL)
    assert blocks.asked == ["ab", "ac"] * 2


def test_other_pairs_in_the_same_folder_are_not_mixed_in(
    models: dict[str, Path], blocks: Blocks, tmp_path: Path
) -> None:
    from PIL import Image

    folder = tmp_path / "pairs"
    for name in ("test_img", "test_clothes"):
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (24, 32), "red").save(folder / name / "0.png")
    settings = replace(SMALL, pairs=str(folder), pair_count=1)
    blocks.interrupted_at = 1
    with pytest.raises(KeyboardInterrupt):
        measure_run(models, tmp_path / "r.json", settings)
    blocks.interrupted_at = -1
    Image.new("RGB", (24, 32), "blue").save(folder / "test_img" / "0.png")
    with pytest.raises(OutputError, match="is of an interrupted run with other pairs; give the same to go on with it"):
        measure_run(models, tmp_path / "r.json", settings)
    Image.new("RGB", (24, 32), "red").save(folder / "test_img" / "0.png")
    assert measure_run(models, tmp_path / "r.json", settings).complete

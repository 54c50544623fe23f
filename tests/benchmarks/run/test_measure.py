"""Bench runs: what is kept, what an interrupted run goes on from, and what is refused; times are made up here."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from bench_results import SETTINGS, make_entry
from PIL import Image
from typer.testing import CliRunner

from vtopt.benchmarks.reports.results_report import make_results_report
from vtopt.benchmarks.run import measure as module
from vtopt.benchmarks.run import opening, phases
from vtopt.benchmarks.run.measure import measure_run
from vtopt.benchmarks.run.results import Settings, read_results
from vtopt.benchmarks.timing import sampling
from vtopt.benchmarks.timing.processes import Job
from vtopt.benchmarks.timing.sampling import Plan, Sample
from vtopt.optimize.cli import app
from vtopt.optimize.data.pairs import open_pairs
from vtopt.optimize.errors import InputError, OutputError, UsageError

SMALL = replace(SETTINGS, runtimes=("onnxruntime",))


def _save(path: Path, node: str = "Tanh", inputs: str = "person clothes") -> Path:
    given = ", ".join(f"float[1,3,32,24] {name}" for name in inputs.split())
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    graph ({given}) => (float[1,3,32,24] tryon) {{ tryon = {node} ({inputs.split()[0]}) }}"""
    onnx.save(onnx.parser.parse_model(text), path)
    return path


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Path]:
    return {name: _save(tmp_path / f"{name}.onnx", node) for name, node in (("a", "Tanh"), ("b", "Identity"))}


class Blocks:
    """Stands for `measure_block`: notes what it is asked, and may be interrupted."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, list[str]]] = []
        self.interrupted_at = -1

    def __call__(self, jobs: Sequence[Job], plan: Plan, process: int, *, advance: Any) -> list[Sample]:
        if len(self.asked) == self.interrupted_at:
            raise KeyboardInterrupt
        self.asked.append((process, jobs[0].threads, [job.path.stem for job in jobs]))
        assert all(job.feeds.exists() for job in jobs)
        return [replace(make_entry(job.path.stem, 10.0).samples[0], process=process) for job in jobs]


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> Blocks:
    made = Blocks()
    monkeypatch.setattr(module, "measure_block", made)
    return made


def test_a_run_keeps_times_costs_and_pictures(models: dict[str, Path], blocks: Blocks, tmp_path: Path) -> None:
    results = measure_run(models, tmp_path / "r.json", SMALL)
    assert read_results(tmp_path / "r.json").entries[0].samples == results.entries[0].samples
    assert results.complete
    assert [(entry.key, len(entry.samples)) for entry in results.entries] == [
        (("a", "onnxruntime", 1, 1), 3),
        (("b", "onnxruntime", 1, 1), 3),
    ]
    assert [model.bytes for model in results.models] == [path.stat().st_size for path in models.values()]
    assert results.quality[0].to_first.psnr_median == float("inf")
    assert results.quality[1].to_first.psnr_median < 60
    assert {"cpu", "flags", "governor", "onnxruntime"} <= results.machine.keys()
    assert {"time", "load", "memory_free_mib"} == results.conditions["begin"].keys() == results.conditions["end"].keys()
    assert next((each.model, list(each.by_op)) for each in results.op_times) == ("a", ["Tanh"])


def test_threads_come_in_turns_so_that_processes_lie_apart(
    models: dict[str, Path], blocks: Blocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "list_cpus", lambda: [0, 1])
    measure_run(models, tmp_path / "r.json", replace(SMALL, threads=(1, 2), processes=2))
    assert [asked[:2] for asked in blocks.asked] == [(0, 1), (0, 2), (1, 1), (1, 2)]


def test_an_interrupted_run_keeps_its_blocks_and_goes_on(
    models: dict[str, Path], blocks: Blocks, tmp_path: Path
) -> None:
    path = tmp_path / "r.json"
    blocks.interrupted_at = 2
    with pytest.raises(KeyboardInterrupt):
        measure_run(models, path, SMALL)
    left = read_results(path)
    assert (left.complete, [len(entry.samples) for entry in left.entries]) == (False, [2, 2])
    blocks.interrupted_at = -1
    results = measure_run(models, path, SMALL)
    assert [asked[0] for asked in blocks.asked] == [0, 1, 2]
    assert (results.complete, [len(entry.samples) for entry in results.entries]) == (True, [3, 3])


def test_force_goes_on_with_its_own_interrupted_run_and_overwrites_a_complete_one(
    models: dict[str, Path], blocks: Blocks, tmp_path: Path
) -> None:
    path = tmp_path / "r.json"
    for _ in range(2):
        blocks.asked.clear()
        blocks.interrupted_at = 2
        with pytest.raises(KeyboardInterrupt):
            measure_run(models, path, SMALL, force=True)
        blocks.interrupted_at = -1
        assert measure_run(models, path, SMALL, force=True).complete
        assert [asked[0] for asked in blocks.asked] == [0, 1, 2]


def test_a_run_that_is_interrupted_before_it_measures_times_goes_on_with_what_it_lacks(
    models: dict[str, Path], blocks: Blocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def watch(place: Any, name: str) -> None:
        measure = getattr(place, name)

        def measured(*given: Any, **settings: Any) -> Any:
            calls.append(name)
            if len(calls) in (3, 6):
                raise KeyboardInterrupt
            return measure(*given, **settings)

        monkeypatch.setattr(place, name, measured)

    for place, name in ((opening, "measure_cost"), (phases, "judge_pictures"), (phases, "measure_op_times")):
        watch(place, name)
    costs, pictures, profiles = ["measure_cost"] * 2, "judge_pictures", "measure_op_times"
    for pending, done in (
        (("pictures", "operations"), [*costs, pictures]),
        (("operations",), [pictures, profiles, profiles]),
    ):
        before = len(calls)
        with pytest.raises(KeyboardInterrupt):
            measure_run(models, tmp_path / "r.json", SMALL)
        left = read_results(tmp_path / "r.json")
        assert (left.complete, left.pending, calls[before:]) == (False, pending, done)
        assert [model.macs for model in left.models] == [0, 0]
        assert "the run was interrupted" in make_results_report(left).notices[0]
    results = measure_run(models, tmp_path / "r.json", SMALL)
    assert calls[6:] == [profiles] * 2
    assert (results.complete, results.pending, len(results.quality), len(results.op_times)) == (True, (), 2, 2)
    assert results.quality == left.quality
    assert all((tmp_path / shown.picture).exists() for shown in results.shown)


def test_an_interruption_before_anything_is_written_does_not_say_that_something_was(
    models: dict[str, Path], blocks: Blocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["bench", "run", *map(str, models.values()), *QUICK, "--force", "-o", str(tmp_path / "r.json")]
    before = measure_run(models, tmp_path / "r.json", SMALL)

    def interrupt(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(phases, "open_models", interrupt)
    result = CliRunner().invoke(app, asked)
    assert "goes on from there" not in result.stderr
    assert read_results(tmp_path / "r.json").conditions == before.conditions
    monkeypatch.undo()
    monkeypatch.setattr(phases, "judge_pictures", interrupt)
    assert "the same command goes on from there" in CliRunner().invoke(app, asked).stderr


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param({"runs": 7}, "other runs; give the same", id="other settings"),
        pytest.param({"runs": 7, "pair_count": 3}, "other runs, pair_count; give", id="several"),
    ],
)
def test_an_interrupted_run_is_not_mixed_with_another(
    changed: dict[str, int], said: str, models: dict[str, Path], blocks: Blocks, tmp_path: Path
) -> None:
    _interrupt(models, blocks, tmp_path / "r.json")
    with pytest.raises(OutputError, match=said):
        measure_run(models, tmp_path / "r.json", replace(SMALL, **changed))
    measure_run(models, tmp_path / "r.json", replace(SMALL, **changed), force=True)


def _interrupt(models: dict[str, Path], blocks: Blocks, path: Path, settings: Settings = SMALL) -> None:
    blocks.interrupted_at = 1
    with pytest.raises(KeyboardInterrupt):
        measure_run(models, path, settings)
    blocks.interrupted_at = -1


def test_an_interrupted_run_of_other_files_is_not_gone_on_with(
    models: dict[str, Path], blocks: Blocks, tmp_path: Path
) -> None:
    _interrupt(models, blocks, tmp_path / "r.json")
    _save(models["b"], "Sigmoid")
    with pytest.raises(OutputError, match="other models; give the same"):
        measure_run(models, tmp_path / "r.json", SMALL)


def test_a_complete_file_is_not_overwritten(models: dict[str, Path], blocks: Blocks, tmp_path: Path) -> None:
    before = measure_run(models, tmp_path / "r.json", SMALL)
    with pytest.raises(OutputError, match="exists already; choose another name or pass --force"):
        measure_run(models, tmp_path / "r.json", SMALL)
    assert read_results(tmp_path / "r.json").conditions == before.conditions


def test_another_file_is_not_overwritten(models: dict[str, Path], blocks: Blocks, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("{}")
    with pytest.raises(InputError, match="no results of vtopt bench run"):
        measure_run(models, tmp_path / "r.json", SMALL)


def test_models_of_unknown_inputs_are_timed_and_not_compared(blocks: Blocks, tmp_path: Path) -> None:
    models = {name: _save(tmp_path / f"{name}.onnx", inputs="x") for name in "ab"}
    results = measure_run(models, tmp_path / "r.json", SMALL)
    assert results.quality == ()
    assert results.notices[0].startswith("pictures are not compared: the models ran on noise")


def test_more_threads_than_cpus_are_refused_before_anything_is_measured(
    models: dict[str, Path], blocks: Blocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "list_cpus", lambda: [0, 1])
    with pytest.raises(UsageError, match="threads: 3 are more than the 2 CPUs"):
        measure_run(models, tmp_path / "r.json", replace(SMALL, threads=(1, 3)))
    assert not (tmp_path / "r.json").exists()


def test_no_models_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name at least one"):
        measure_run({}, tmp_path / "r.json", SMALL)


def test_an_empty_folder_of_pairs_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    with pytest.raises(InputError, match="there is no such folder; give a folder in VITON's layout"):
        measure_run(models, tmp_path / "r.json", replace(SMALL, pairs=str(tmp_path / "pairs")))
    assert not (tmp_path / "r.json").exists()


QUICK = ("--runs", "2", "--seconds", "0", "--processes", "2", "--pair-count", "1", "--runtime", "onnxruntime")


def test_the_command_measures_and_prints_and_the_others_read_it(models: dict[str, Path], tmp_path: Path) -> None:
    runner, output = CliRunner(), tmp_path / "r.json"
    run = runner.invoke(app, ["bench", "run", *map(str, models.values()), *QUICK, "-o", str(output)])
    assert run.exit_code == 0, run.output
    assert "| b " in run.stdout
    shown = runner.invoke(app, ["bench", "report", str(output), "--table", "final", "--format", "csv"])
    header, first, *_ = shown.stdout.splitlines()
    assert header.startswith("precision,model size (MB),FLOPs,parameters (M),FID,PSNR dB,runtime,threads,batch,")
    assert first.startswith("a,")
    compared = runner.invoke(app, ["bench", "compare", str(output), str(output)])
    assert (compared.exit_code, "within the noise" in compared.stdout) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("--threads", "1,x"), "--threads: '1,x' is not a list of counts", id="threads"),
        pytest.param(("--batch", "0"), "--batch: '0' is not a list of counts", id="batch"),
        pytest.param(("--baseline", "c"), "--baseline: 'c' is not among the models; choose one of a, b", id="baseline"),
    ],
)
def test_settings_that_make_no_sense_are_usage_errors(
    arguments: tuple[str, str], said: str, models: dict[str, Path], tmp_path: Path
) -> None:
    asked = ["bench", "run", *map(str, models.values()), *arguments, "-o", str(tmp_path / "r.json")]
    result = CliRunner().invoke(app, asked)
    assert isinstance(result.exception, UsageError)
    assert said in str(result.exception)


def test_an_interrupted_command_exits_with_130_and_leaves_a_valid_file(models: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "r.json"
    asked = [*map(str, models.values()), *QUICK, "--processes", "1000", "-o", str(output)]
    code = "import sys; from vtopt.optimize.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code, "bench", "run", *asked], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not _count_samples(output):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert f"what was measured is in {output}; the same command goes on from there" in said
    results = read_results(output)
    assert not results.complete
    assert len({len(entry.samples) for entry in results.entries}) == 1


def _count_samples(path: Path) -> int:
    return len(json.loads(path.read_text())["entries"][0]["samples"]) if path.exists() else 0


def test_the_worst_and_the_median_pair_are_kept_as_pictures_beside_the_results(
    models: dict[str, Path], blocks: Blocks, tmp_path: Path
) -> None:
    results = measure_run(models, tmp_path / "r.json", replace(SMALL, pair_count=3))
    assert [(shown.model, shown.role) for shown in results.shown] == [("b", "worst"), ("b", "median")]
    quality = results.find_quality("b", "onnxruntime")
    assert quality
    assert [shown.pair for shown in results.shown] == [quality.to_first.worst, quality.to_first.median]
    assert [shown.psnr for shown in results.shown] == [quality.to_first.psnr_worst, quality.to_first.psnr_median]
    persons = {pair.name: pair.person for pair in open_pairs(None, (32, 24), 3)}
    for shown in results.shown:
        pixels = (persons[shown.pair].transpose(1, 2, 0) + 1) * 127.5
        assert np.abs(np.asarray(Image.open(tmp_path / shown.picture)) - pixels).max() <= 0.51
        assert np.asarray(Image.open(tmp_path / shown.reference)).max() < 225  # tanh is below 0.77

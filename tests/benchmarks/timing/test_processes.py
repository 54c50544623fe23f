"""Workers: fresh processes that load and run one model when asked, and say in a sentence why they cannot."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from vtopt.benchmarks.timing import worker as worker_module
from vtopt.benchmarks.timing.processes import Job, Worker, save_feeds, start_worker
from vtopt.benchmarks.timing.sampling import Failure, Plan, Sample, choose_cpus, measure_block
from vtopt.optimize.errors import InputError


@pytest.fixture
def job(tmp_path: Path) -> Job:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    graph (float[1,3,8,6] x) => (float[1,3,8,6] y) { y = Sigmoid (x) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "model.onnx")
    feeds = save_feeds({"x": np.ones((1, 3, 8, 6), np.float32)}, tmp_path / "feeds.npz")
    return Job(tmp_path / "model.onnx", feeds, "onnxruntime", 1)


def test_a_worker_loads_runs_and_tells(job: Job) -> None:
    cpus = choose_cpus(1, 0)
    with start_worker(job) as worker:
        loaded = worker.load(cpus)
        assert min(loaded["load_ms"], loaded["first_ms"]) > 0
        assert 20 < loaded["imported_mib"] < worker.ask("memory")["peak_mib"]
        assert len(worker.take_turn(7, 0)) == 7
        assert sum(time for time, _ in worker.take_turn(1, 0.01)) >= 10
        assert [len(worker.take_turn(1, 0, settle=settle)) for settle in (True, False)] == [1, 1]
        if cpus:
            assert os.sched_getaffinity(worker.process.pid) == set(cpus)
            assert os.getpid() != worker.process.pid
    assert worker.process.poll() is not None


@pytest.mark.parametrize(("settle", "runs"), [pytest.param(True, 3, id="a turn"), pytest.param(False, 2, id="warm-up")])
def test_the_first_run_of_every_turn_does_not_count(settle: bool, runs: int) -> None:
    model, made = worker_module._Model(), []
    model.run, model.feeds, model.cpus = made.append, {}, 0
    assert len(model.turn(2, 0.0, settle)["times_ms"]) == 2
    assert len(made) == runs
    made.clear()
    assert len(model.turn(1, 0.0, settle)["times_ms"]) == 1
    assert len(made) == runs - 1


def test_a_model_that_does_not_load_is_a_sentence(job: Job, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x07not a model" * 9)
    with (
        start_worker(Job(broken, job.feeds, "onnxruntime", 1)) as worker,
        pytest.raises(InputError, match=r"broken\.onnx: onnxruntime cannot load it"),
    ):
        worker.load(())


def test_a_worker_that_is_killed_is_a_sentence(job: Job) -> None:
    with start_worker(job) as worker:
        worker.load(())
        os.kill(worker.process.pid, signal.SIGKILL)
        with pytest.raises(InputError, match=r"model\.onnx: the process that ran it on onnxruntime was killed"):
            worker.take_turn(1, 0)


def test_a_worker_that_fails_says_its_last_word(job: Job) -> None:
    with start_worker(job) as worker, pytest.raises(InputError, match=r"ended with 1: .*has no attribute 'nonsense'"):
        worker.ask("nonsense")


def test_a_block_measures_models_in_processes_of_their_own(job: Job) -> None:
    samples = measure_block([job, job], Plan(runs=4, seconds=0, processes=2), process=1)
    for sample in samples:
        assert isinstance(sample, Sample)
        assert [len(turn) for turn in sample.rounds] == [1, 1]
        assert sample.cpus == choose_cpus(1, 1)
        assert all(time > 0 <= waited for turn in sample.rounds for time, waited in turn)


def test_a_process_that_dies_in_a_block_ends_no_other(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    take_turn, met = Worker.take_turn, []

    def kill_the_second(worker: Worker, runs: int, seconds: float, *, settle: bool = True) -> list[tuple[float, float]]:
        met.append(worker)
        if worker is not met[0]:
            os.kill(worker.process.pid, signal.SIGKILL)
        return take_turn(worker, runs, seconds, settle=settle)

    monkeypatch.setattr(Worker, "take_turn", kill_the_second)
    one, other = measure_block([job, job], Plan(runs=2, seconds=0, processes=1))
    assert isinstance(one, Sample)
    assert isinstance(other, Failure)
    assert other.reason.endswith("the process that ran it on onnxruntime was killed, perhaps for want of memory")

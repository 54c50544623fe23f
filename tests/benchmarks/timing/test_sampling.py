"""Rounds in turns: who runs when, for how long, and what is kept; workers here are asked, not started."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vtopt.benchmarks.timing import sampling
from vtopt.benchmarks.timing.processes import Job
from vtopt.benchmarks.timing.sampling import Failure, Plan, Sample, choose_cpus, measure_block, take_off_waiting
from vtopt.benchmarks.timing.worker import limit_waiting
from vtopt.optimize.errors import InputError, UsageError


class FakeWorker:
    def __init__(self, job: Job, calls: list[Any], warmup: list[float]) -> None:
        self.job, self.calls, self.warmup = job, calls, warmup

    def load(self, cpus: Sequence[int]) -> dict[str, float]:
        if self.job.path.name == "broken":
            raise InputError("broken: does not load")
        self.calls.append(("load", self.job.path.name))
        return {"load_ms": 1.0, "first_ms": 2.0, "imported_mib": 3.0}

    def take_turn(self, runs: int, seconds: float, *, settle: bool = True) -> list[tuple[float, float]]:
        if not settle:
            return [(self.warmup.pop(0), 0.0)]
        self.calls.append((self.job.path.name, runs, seconds))
        return [(5.0, 1.0)] * runs

    def end(self) -> None:
        self.calls.append(("end", self.job.path.name))

    def ask(self, do: str) -> dict[str, float]:
        assert do == "memory"
        return {"peak_mib": 9.0}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []

    @contextmanager
    def start(jobs: Sequence[Job]) -> Iterator[list[FakeWorker]]:
        yield [FakeWorker(job, made, [7.0] * 2 * sampling.WARMUP_WINDOW) for job in jobs]

    monkeypatch.setattr(sampling, "start_workers", start)
    monkeypatch.setattr(sampling, "PAUSE_SECONDS", 0)
    return made


def _make_job(name: str, threads: int = 1) -> Job:
    return Job(Path(name), Path("feeds.npz"), "onnxruntime", threads)


def test_workers_take_turns_and_the_order_turns(calls: list[Any]) -> None:
    plan = Plan(runs=6, seconds=3, processes=2)
    measure_block([_make_job(name) for name in "abc"], plan)
    turns = [call[0] for call in calls if call[0] not in ("load", "end")]
    assert "".join(turns) == "abc" + "bca" + "cab"
    assert calls[:3] == [("load", name) for name in "abc"]
    assert {call[1:] for call in calls[3:-3]} == {(1, 3 / 6)}


def test_a_model_that_fails_is_ended_and_the_others_go_on(calls: list[Any]) -> None:
    plan = Plan(runs=3, seconds=0, processes=1)
    one, broken, other = measure_block([_make_job(name) for name in ("a", "broken", "c")], plan)
    assert broken == Failure("broken: does not load")
    assert calls[:3] == [("load", "a"), ("end", "broken"), ("load", "c")]
    assert [call[0] for call in calls[3:-2]] == ["a", "c", "c", "a", "c", "a"]
    assert all(isinstance(each, Sample) and len(each.rounds) == 3 for each in (one, other))


def test_a_block_keeps_every_time(calls: list[Any]) -> None:
    (sample,) = measure_block([_make_job("a")], Plan(runs=60, seconds=0, processes=2), process=1)
    assert isinstance(sample, Sample)
    assert sample.rounds == (((5.0, 1.0),) * 3,) * sampling.MAX_ROUNDS
    assert (sample.process, sample.load_ms, sample.first_ms, sample.imported_mib, sample.peak_mib) == (1, 1, 2, 3, 9)
    assert (sample.warmup, sample.steady) == (2 * sampling.WARMUP_WINDOW, True)


def test_rounds_are_told(calls: list[Any]) -> None:
    told: list[int] = []
    plan = Plan(runs=4, seconds=0, processes=1)
    measure_block([_make_job("a"), _make_job("b")], plan, advance=lambda: told.append(len(calls)))
    assert len(told) == plan.rounds == 4


@pytest.mark.parametrize(
    ("plan", "rounds", "runs"),
    [
        pytest.param(Plan(50, 5, 5), 10, 1, id="a run a turn"),
        pytest.param(Plan(51, 5, 5), 10, 2, id="never fewer runs than asked"),
        pytest.param(Plan(3, 5, 5), 1, 1, id="never fewer than one of each process"),
        pytest.param(Plan(1000, 5, 2), 10, 50, id="long turns"),
    ],
)
def test_a_plan_has_at_least_the_runs_and_seconds_asked(plan: Plan, rounds: int, runs: int) -> None:
    assert (plan.rounds, plan.turn_runs) == (rounds, runs)
    assert plan.processes * plan.rounds * plan.turn_runs >= plan.runs
    assert plan.processes * plan.rounds * plan.turn_seconds == pytest.approx(plan.seconds)


def _warm_up(times: list[float]) -> tuple[int, bool]:
    return sampling._warm_up(FakeWorker(_make_job("a"), [], times))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("times", "runs", "steady"),
    [
        pytest.param([10.0] * 99, 10, True, id="steady from the start"),
        pytest.param([20.0] * 5 + [10.0] * 99, 13, True, id="as soon as the medians of two windows are"),
        pytest.param([900.0, 800.0, 700.0, 650.0, 600.0, 500.0, 400.0, 400.0, 90.0], 9, False, id="time is over"),
        pytest.param([4000.0, 4010.0, 1.0], 2, True, id="a slow model, by the two runs that fit"),
        pytest.param([6000.0, 9000.0, 1.0], 2, False, id="a very slow one that still changes"),
    ],
)
def test_warm_up_ends_when_steady_or_after_a_time(times: list[float], runs: int, steady: bool) -> None:
    assert _warm_up(times) == (runs, steady)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_each_process_gets_the_next_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 3, 5, 7})
    assert [choose_cpus(1, process) for process in range(5)] == [(1,), (3,), (5,), (7,), (1,)]
    assert [choose_cpus(3, process) for process in range(2)] == [(1, 3, 5), (1, 3, 7)]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_more_threads_than_cpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    with pytest.raises(UsageError, match=re.escape("threads: 4 are more than the 2 CPUs that this process may use")):
        choose_cpus(4, 0)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_threads_get_cores_of_their_own_before_they_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4, 5})
    monkeypatch.setattr(sampling, "_read_siblings", lambda cpu: f"{cpu - cpu % 2}-{cpu - cpu % 2 + 1}")
    assert sampling.list_cpus() == [0, 2, 4, 1, 3, 5]
    assert [choose_cpus(2, process) for process in range(3)] == [(0, 2), (1, 4), (3, 5)]


def test_waiting_is_taken_off_one_thread_and_no_more() -> None:
    assert take_off_waiting(10.0, 4.0, 1) == 6.0
    assert take_off_waiting(10.0, 0.0, 1) == 10.0
    assert take_off_waiting(10.0, 4.0, 2) == 10.0


def test_threads_that_wait_for_each_other_do_not_wait_for_others() -> None:
    assert limit_waiting(8, taken=10, ran=10, cpus=1) == 0
    assert limit_waiting(8, taken=10, ran=4, cpus=1) == 6
    assert limit_waiting(8, taken=10, ran=4, cpus=2) == 8
    assert limit_waiting(8, taken=10, ran=11, cpus=1) == 0
    assert limit_waiting(8, taken=10, ran=10, cpus=0) == 8

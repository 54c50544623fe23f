"""n runs of the correlation layer before and after: all are made, in turns, and an interruption says how many were."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from vtopt.benchmarks.studies import correlation_counts
from vtopt.benchmarks.studies.correlation_counts import BLOCK, measure_counts
from vtopt.benchmarks.studies.form_group import open_forms
from vtopt.benchmarks.studies.rewrite_group import Group
from vtopt.optimize.cli import app
from vtopt.optimize.errors import InputError, UsageError

CASE = "2x4x5"


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The forms in the order in which they are timed."""
    return _watch(monkeypatch, lambda ran: None)


def _watch(monkeypatch: pytest.MonkeyPatch, tell: Callable[[list[str]], None]) -> list[str]:
    """Call `tell` with the forms run until then before each run."""
    ran: list[str] = []

    def open_watched(*arguments: Any) -> Any:
        engines, differences = open_forms(*arguments)

        def watch(form: str, run: Callable[..., Any]) -> Callable[..., Any]:
            def watched(feeds: Any) -> Any:
                tell(ran)
                ran.append(form)
                return run(feeds)

            return watched

        watched = {
            each: dataclasses.replace(engine, run=watch(each.form, engine.run)) for each, engine in engines.items()
        }
        return watched, differences

    monkeypatch.setattr(correlation_counts, "open_forms", open_watched)
    return ran


def _count(groups: list[Group]) -> list[tuple[object, ...]]:
    return [tuple(row[key] for key in ("runtime", "n", "made")) for group in groups for row in group.rows]


def test_all_runs_are_made_in_turns_block_by_block(ran: list[str]) -> None:
    groups = list(measure_counts([2 * BLOCK + 3], [CASE], threads=[1]))
    made = 2 * BLOCK + 3
    assert _count(groups) == [(runtime, made, made) for runtime in ("onnxruntime", "openvino")]
    blocks = [("slices", BLOCK), ("tiles", 2 * BLOCK), ("slices", BLOCK + 3), ("tiles", 3)]
    assert ran == 2 * [form for form, size in blocks for _ in range(size)]
    for group in groups:
        for row in group.rows:
            assert row["FPS"] == made / row["after (s)"]
            assert row["acceleration"] == row["before (s)"] / row["after (s)"]


def test_there_is_a_row_for_each_count_case_and_thread_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correlation_counts, "RUNTIMES", ("onnxruntime",))
    rows = [row for group in measure_counts([1, 2, 1], [CASE, "1x2x3", CASE], threads=[1, 2]) for row in group.rows]
    keys = [(row["case"], row["threads"], row["n"]) for row in rows]
    assert keys == [(case, threads, n) for case in (CASE, "1x2x3") for threads in (1, 2) for n in (1, 2)]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InputError("a runtime's word for it")])
def test_an_interruption_keeps_the_whole_rounds_made_until_then(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(ran: list[str]) -> None:
        if len(ran) == 5 * BLOCK + 1:  # in the third round, after one of both
            raise error

    ran = _watch(monkeypatch, interrupt)
    groups: list[Group] = []
    with pytest.raises(type(error)):
        groups.extend(measure_counts([1000], [CASE], threads=[1]))
    assert _count(groups) == [("onnxruntime", 1000, 2 * BLOCK)]
    assert groups[0].notices == (f"{CASE} threads 1 onnxruntime: 1,000 runs: stopped after {2 * BLOCK}",)
    assert len(ran) == 5 * BLOCK + 1


def test_an_interruption_before_any_round_leaves_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(ran: list[str]) -> None:
        raise KeyboardInterrupt

    _watch(monkeypatch, interrupt)
    with pytest.raises(KeyboardInterrupt):
        next(measure_counts([1000], [CASE], threads=[1]))


def test_a_form_that_is_left_out_leaves_no_row_but_a_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_plain(task: Any, variants: Any, notices: list[str]) -> Any:
        notices.append("tiles is left out")
        engines, differences = open_forms(task, variants, notices)
        return {each: engine for each, engine in engines.items() if each.form == "slices"}, differences

    monkeypatch.setattr(correlation_counts, "open_forms", open_plain)
    groups = list(measure_counts([1], [CASE], threads=[1]))
    assert not _count(groups)
    assert [group.notices for group in groups] == 2 * [("tiles is left out",)]


def test_a_count_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="count: 0 runs are too few"):
        next(measure_counts([5, 0], [CASE]))


def test_the_command_prints_and_writes_what_was_made_when_it_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(ran: list[str]) -> None:
        if len(ran) == 2 * 1 + 2 * BLOCK:
            raise KeyboardInterrupt

    _watch(monkeypatch, interrupt)
    output = tmp_path / "counts.csv"
    asked = ["--case", CASE, "--threads", "1", "--count", "1", "--count", "1000", "--output", str(output)]
    result = CliRunner().invoke(app, ["bench", "correlation", *asked])
    assert result.exit_code == 130
    assert "| case " in result.stdout
    assert "stopped after 10" in result.stdout
    assert "After: tiles." in result.stdout
    with output.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["n"], row["made"]) for row in rows] == [("1", "1"), ("1000", str(BLOCK))]
    assert all(row["cpu"] and row["acceleration"] for row in rows)

"""Progress: lines in a pipe, a bar on a terminal, and the items as they were."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import pytest

from vtopt.optimize import progress
from vtopt.optimize.progress import LINE_EVERY_S, track


class Clock:
    """Time that passes only when an item is worked on."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def _work(items: Iterator[int], clock: Clock, seconds: float) -> list[int]:
    done = []
    for item in items:
        clock.now += seconds
        done.append(item)
    return done


def test_lines_in_a_pipe_tell_how_much_is_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = LINE_EVERY_S / 2
    items = track(range(6), "train", total=6, shows=lambda: "loss 0.5")
    assert _work(items, clock, seconds) == list(range(6))
    written = capsys.readouterr()
    assert written.out == ""
    expected = [f"train: {n} of 6, about {(6 - n) * seconds:.0f} s left loss 0.5" for n in (2, 4, 6)]
    assert written.err.splitlines() == expected


def test_resumed_work_counts_what_was_done_before(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    _work(track(range(2), "train", total=102, start=50), clock, LINE_EVERY_S)
    expected = [f"train: {n} of 102, about {(102 - n) * LINE_EVERY_S:.0f} s left" for n in (51, 52)]
    assert capsys.readouterr().err.splitlines() == expected


def test_short_work_prints_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    assert _work(track(range(9), "train", total=9), clock, LINE_EVERY_S / 10) == list(range(9))
    written = capsys.readouterr()
    assert (written.out, written.err) == ("", "")


def test_no_work_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([], "train", total=0)) == []
    assert capsys.readouterr().err == ""


def test_items_are_taken_one_by_one() -> None:
    taken = []
    items = track((taken.append(n) or n for n in range(5)), "train", total=5)
    next(items)
    assert taken == [0]


def test_an_error_in_the_work_comes_through() -> None:
    def fail() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        list(track(fail(), "train", total=2))


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert list(track(range(3), "train", total=13, start=10, shows=lambda: "loss 0.5")) == [0, 1, 2]
    assert "13/13" in terminal.getvalue()
    assert "loss 0.5" in terminal.getvalue()
    assert capsys.readouterr().out == ""

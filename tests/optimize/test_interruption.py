"""Ctrl-C: an interruption stays one, whatever a library makes of it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vtopt.optimize import cli, interruption
from vtopt.optimize.artifacts import new_output
from vtopt.optimize.errors import InputError
from vtopt.optimize.interruption import is_interrupted, watch_interrupts


@pytest.fixture(autouse=True)
def _watching(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(interruption, "_heard", [])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _swallow(number: int = signal.SIGINT) -> None:
    """Interrupt this process, in a library that catches everything.

    No signal is sent: where OpenVINO has run, it leaves a signal stack behind that is none any more.
    """
    handler = signal.getsignal(number)
    assert callable(handler)
    with pytest.raises(KeyboardInterrupt):
        handler(number, None)


@pytest.mark.parametrize("error", [InputError("pictures differ"), ValueError("no shape"), OSError("none")])
def test_another_error_after_an_interruption_is_the_interruption(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> None:
        _swallow()
        raise error

    monkeypatch.setattr(cli, "app", run)
    monkeypatch.setattr(sys, "argv", ["vtopt", "export"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_without_one_an_error_is_that_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> None:
        raise InputError("pictures differ")

    monkeypatch.setattr(cli, "app", run)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert (end.value.code, is_interrupted()) == (1, False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_made_after_an_interruption_is_not_kept(number: int, tmp_path: Path) -> None:
    watch_interrupts()
    with pytest.raises(KeyboardInterrupt), new_output(tmp_path / "a.onnx", "onnx") as temporary:
        _swallow(number)
        temporary.write_bytes(b"made another way")
    assert list(tmp_path.iterdir()) == []


def test_an_ignored_interruption_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watch_interrupts()
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN

"""Ctrl-C and SIGTERM that no library swallows: some turn KeyboardInterrupt into another error, or go on."""

from __future__ import annotations

import signal
from typing import Any

__all__ = ["is_interrupted", "require_uninterrupted", "watch_interrupts"]

_heard: list[int] = []


def watch_interrupts() -> None:
    """Remember a Ctrl-C or SIGTERM from now on, beside raising KeyboardInterrupt; one that is ignored stays so."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) is usual:
            signal.signal(number, _remember)


def _remember(number: int, frame: Any) -> None:
    _heard.append(number)
    raise KeyboardInterrupt


def is_interrupted() -> bool:
    """Tell whether there was a Ctrl-C or SIGTERM."""
    return bool(_heard)


def require_uninterrupted() -> None:
    """Raise KeyboardInterrupt where there was one: what was made since may not be what was asked for."""
    if _heard:
        raise KeyboardInterrupt

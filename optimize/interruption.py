"""Ctrl-C that no library swallows: some turn the KeyboardInterrupt inside them into another error, or go on."""

from __future__ import annotations

import signal
from typing import Any

__all__ = ["is_interrupted", "require_uninterrupted", "watch_interrupts"]

_heard: list[int] = []


def watch_interrupts() -> None:
    """Remember a Ctrl-C from now on, beside raising KeyboardInterrupt; one that is ignored stays so."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _remember)


def _remember(number: int, frame: Any) -> None:
    _heard.append(number)
    raise KeyboardInterrupt


def is_interrupted() -> bool:
    """Tell whether there was a Ctrl-C."""
    return bool(_heard)


def require_uninterrupted() -> None:
    """Raise KeyboardInterrupt where there was one: what was made since may not be what was asked for."""
    if _heard:
        raise KeyboardInterrupt

"""Signals after OpenVINO: their handlers must not run on a stack that is gone."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["drop_signal_stack"]

SS_DISABLE = 2


class _Stack(ctypes.Structure):
    """Linux's stack_t."""

    _fields_ = (
        ("start", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    )


def drop_signal_stack() -> None:
    """Let this thread's signal handlers run on its ordinary stack; on Linux, where the fault was seen.

    OpenVINO's CPU plugin sets an alternate stack, and gives back the one before it when it is unloaded. Of two loaded
    at once, that may be one that was freed: Ctrl-C, or the end of a process that loads pairs, would then be a
    segmentation fault.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).sigaltstack(ctypes.byref(_Stack(None, SS_DISABLE, 0)), None)

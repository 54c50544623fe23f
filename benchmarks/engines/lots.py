"""Engines in lots that fit in memory: large models at large sizes cannot all be held open side by side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..host import need
from .engine import Engine
from .sets import Key

__all__ = ["plan_lots"]

MEMORY_SHARE = 0.5
"""The part of the free memory that engines open side by side may take as the first one does: others may take more."""


def plan_lots(
    engines: Mapping[Key, Engine], feeds: Mapping[Key, Mapping[str, np.ndarray]], *, overhead: int = 0
) -> list[list[Key]]:
    """Return the engines in as few lots as fit in memory; the first engine is in each, for the others to compare with.

    All of `engines` are loaded; what a run takes is found by running the first one once, and taken for that of all.
    `overhead` is what each takes besides, in bytes: of a lot that will run in processes of their own. A lot has two
    engines at least.
    """
    psutil = need("psutil")
    keys = list(engines)
    process = psutil.Process()
    loaded = process.memory_info().rss
    engines[keys[0]].run(feeds[keys[0]])
    by_run = max(process.memory_info().rss - loaded, 0)
    free = psutil.virtual_memory().available
    if (len(keys) - 1) * by_run + len(keys) * overhead <= MEMORY_SHARE * free:
        return [keys]
    fitting = int(MEMORY_SHARE * (free + loaded) / (by_run + loaded / len(keys) + overhead))
    others = max(fitting - 1, 1)
    return [[keys[0], *keys[start : start + others]] for start in range(1, len(keys), others)] or [keys]

"""Progress bars with an ETA, on a terminal only; in a pipe, a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

__all__ = ["track"]

Item = TypeVar("Item")

LINE_EVERY_S = 30.0


def track(
    items: Iterable[Item],
    label: str,
    *,
    total: int,
    start: int = 0,
    shows: Callable[[], str] = lambda: "",
) -> Iterator[Item]:
    """Yield `items`, showing on stderr how many of `total` are done and when the rest will be.

    `start` were done before; `shows` gives a short text to set beside the bar.
    """
    if sys.stderr.isatty():
        yield from _track_bar(items, label, total, start, shows)
    else:
        yield from _track_lines(items, label, total, start, shows)


def _track_bar(items: Iterable[Item], label: str, total: int, start: int, shows: Callable[[], str]) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total, completed=start, note="")
        for item in items:
            yield item
            bar.update(task, advance=1, note=shows())


def _track_lines(items: Iterable[Item], label: str, total: int, start: int, shows: Callable[[], str]) -> Iterator[Item]:
    began = said = time.monotonic()
    for done, item in enumerate(items, start + 1):
        yield item
        now = time.monotonic()
        if now - said >= LINE_EVERY_S:
            said = now
            left = (now - began) / (done - start) * (total - done)
            print(
                f"{label}: {done} of {total}, about {left:.0f} s left {shows()}".rstrip(), file=sys.stderr, flush=True
            )

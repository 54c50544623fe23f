"""Measurements that took long, kept in the user's cache: work that was interrupted goes on from them.

A file per question (the model, the pairs, the settings, the versions), a line per measurement, written as it is made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..cache_folder import find_cache_folder

__all__ = ["Measurements", "open_measurements"]


class Measurements:
    """What was measured so far, by name; `path` None keeps it in memory only."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        text = _read_text(path) if path else ""
        self._is_cut = bool(text) and not text.endswith("\n")
        self._known: dict[str, dict[str, Any]] = dict(_read_lines(text))
        self.found = len(self._known)
        """How many were known when the file was opened."""

    def get(self, name: str) -> dict[str, Any] | None:
        """Return a measurement's figures, None where it was not made."""
        return self._known.get(name)

    def put(self, name: str, figures: Mapping[str, Any]) -> None:
        """Keep a measurement; a cache that cannot be written to is done without."""
        self._known[name] = dict(figures)
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as stream:
                # A line that was cut short stands alone.
                stream.write("\n" * self._is_cut + json.dumps([name, figures]) + "\n")
            self._is_cut = False
        except OSError:
            self.path = None


def open_measurements(question: Mapping[str, Any]) -> Measurements:
    """Open the measurements that answer `question`: all that they depend on, as JSON values."""
    key = hashlib.sha256(json.dumps(question, sort_keys=True, default=str).encode()).hexdigest()[:32]
    folder = find_cache_folder()
    return Measurements(folder and folder / "measurements" / f"{key}.jsonl")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _read_lines(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the whole lines of a file; one that was cut short when its writer was killed does not count."""
    found = []
    for line in text.splitlines():
        try:
            name, figures = json.loads(line)
            found.append((str(name), dict(figures)))
        except (ValueError, TypeError):
            continue
    return found

"""Lists of counts as people write them: 1,2,4."""

from __future__ import annotations

from ..optimize.errors import UsageError

__all__ = ["parse_counts"]


def parse_counts(text: str, option: str) -> tuple[int, ...]:
    """Return the counts, each once; raises UsageError for anything else than whole numbers from 1 on."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"{option}: '{text}' is not a list of counts; write whole numbers from 1 on, for example 1,2")
    return tuple(dict.fromkeys(map(int, parts)))

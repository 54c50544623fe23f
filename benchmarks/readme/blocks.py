"""Renew what stands between the README's markers, which GitHub does not show."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...optimize.errors import InputError

__all__ = ["fill_blocks", "read_blocks"]

BEGIN, END = "<!-- figures: {} -->", "<!-- /figures -->"
_MARK = re.compile(r"<!-- figures: (\S+) -->|<!-- /figures -->")
_BLOCK = re.compile(r"<!-- figures: (\S+) -->\n\n(.*?)\n<!-- /figures -->", re.S)


def read_blocks(text: str) -> dict[str, str]:
    """Return name -> what stands in its block, each ending in a line break.

    Raises InputError for a marker that has no other, and for a name that comes twice.
    """
    marks = [match[1] for match in _MARK.finditer(text)]
    names, ends = marks[::2], marks[1::2]
    found = _BLOCK.findall(text)
    if None in names or any(ends) or len(names) != len(found):
        raise InputError(f"markers do not pair up; write {BEGIN.format('NAME')}, a blank line, the table, and {END}")
    if twice := ", ".join(sorted({name for name in names if names.count(name) > 1})):
        raise InputError(f"figures {twice} are there twice; name each once")
    return dict(found)


def fill_blocks(text: str, tables: Mapping[str, str]) -> str:
    """Return the text with these tables in their blocks; other blocks stay as they are."""
    return _BLOCK.sub(
        lambda block: f"{BEGIN.format(block[1])}\n\n{tables.get(block[1], block[2])}\n{END}",
        text,
    )

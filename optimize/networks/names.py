"""Names of weights as they were published, brought to those of the network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from ..errors import NetworkError

__all__ = ["rename_entries"]

Entry = TypeVar("Entry")


def rename_entries(
    entries: Mapping[str, Entry], aliases: Mapping[str, str], what: str = "the weights"
) -> dict[str, Entry]:
    """Replace what matches the patterns of `aliases` in every name, one pattern after the other.

    Raises NetworkError where two names become one; `what` says there whose they are.
    """
    renamed: dict[str, Entry] = {}
    old: dict[str, str] = {}
    for name, entry in entries.items():
        new = name
        for pattern, replacement in aliases.items():
            new = re.sub(pattern, replacement, new)
        if new in renamed:
            raise NetworkError(
                f"{what}: {old[new]} and {name} are both {new} to the network; "
                "delete one of the two from the checkpoint and save it again"
            )
        renamed[new], old[new] = entry, name
    return renamed

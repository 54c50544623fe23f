"""Where vtopt keeps what it can make or download again."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["find_cache_folder"]


def find_cache_folder() -> Path | None:
    """Return `$XDG_CACHE_HOME/vtopt`, or ~/.cache/vtopt where that is not set; None without a home."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (given if given.is_absolute() else Path.home() / ".cache") / "vtopt"
    except RuntimeError:
        return None

"""Write reports to files: figures as CSV, and whatever else is text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...optimize.errors import OutputError
from .tables import format_table

__all__ = ["check_report", "save_csv", "save_text"]


def check_report(path: Path, suffixes: Sequence[str] = (".csv",), *, force: bool = False) -> None:
    """Raise OutputError when a report cannot go there: before hours of measuring, not after."""
    if path.suffix not in suffixes:
        names = " or ".join(f"{path.stem}{suffix}" for suffix in suffixes)
        raise OutputError(f"{path}: the suffix must be {' or '.join(suffixes)}; name it {names}")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file in it")
    if path.exists() and not force:
        raise OutputError(f"{path}: exists already; choose another name or pass --force")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}; make it or choose another")


def save_csv(rows: Sequence[Mapping[str, object]], columns: Sequence[str], path: Path) -> Path:
    """Write these columns of the rows to `path`."""
    return save_text(format_table(rows, columns, "csv"), path)


def save_text(text: str, path: Path) -> Path:
    """Write text to `path`; the file is all of the old or all of the new. Raises OutputError where that fails."""
    draft = path.with_name(f".vtopt-{path.name}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}; choose another folder") from error
    finally:
        draft.unlink(missing_ok=True)
    return path

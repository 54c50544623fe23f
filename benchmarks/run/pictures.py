"""The pictures of a results file: PNGs in a folder beside it, so that the file stays text that people can read."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...optimize.artifacts import write_picture
from ...optimize.errors import OutputError
from ..engines.sets import Key
from ..quality.comparison import ShownPair
from ..quality.sheets import make_picture
from .results import Shown

__all__ = ["keep_shown", "require_own_folder"]

OWN = re.compile(r".+-(worst|median)(-reference)?\.png")
"""The names that pictures of a run have."""
NAME_LENGTH = 80
"""Of a file, so much is of its model and runtime."""


def require_own_folder(output: Path) -> None:
    """Raise OutputError where NAME-pictures beside NAME.json is there and holds what is no picture of a run."""
    folder = _name_folder(output)
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise OutputError(f"{folder}: is no folder, and the pictures of {output.name} go there; {_RENAME}")
    other = next((file.name for file in sorted(folder.glob("*")) if not _is_own(file)), None)
    if other:
        raise OutputError(
            f"{folder}: holds {other}, which is of no run, and the pictures of {output.name} go there; {_RENAME}"
        )


_RENAME = "move it away, or choose another --output"


def _is_own(file: Path) -> bool:
    return file.is_file() and bool(OWN.fullmatch(file.name))


def keep_shown(shown: Mapping[Key, Sequence[ShownPair]], output: Path) -> tuple[Shown, ...]:
    """Write the pictures of shown pairs to the folder NAME-pictures beside NAME.json, and return where they are.

    The folder is the old one or the new one, never a mixture; where no pairs are shown there is none. Raises
    OutputError where they cannot be written, and as `require_own_folder` does.
    """
    require_own_folder(output)
    folder = _name_folder(output)
    draft, old = (folder.with_name(f".vtopt-{kind}-{folder.name}") for kind in ("new", "old"))
    try:
        for left in (draft, old):
            shutil.rmtree(left, ignore_errors=True)
        kept = _write_shown(shown, draft, folder.name)
        if folder.exists():
            folder.replace(old)
        if kept:
            draft.replace(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}; choose another folder") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return kept


def _write_shown(shown: Mapping[Key, Sequence[ShownPair]], draft: Path, folder: str) -> tuple[Shown, ...]:
    kept = []
    for (model, runtime), pairs in shown.items():
        for pair in pairs:
            name = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{model}-{runtime}")[:NAME_LENGTH]
            names = [f"{len(kept):03d}-{name}-{pair.role}{suffix}.png" for suffix in ("", "-reference")]
            draft.mkdir(exist_ok=True)
            for file, picture in zip(names, (pair.picture, pair.reference), strict=True):
                write_picture(make_picture(picture), draft / file)
            kept.append(Shown(model, runtime, pair.role, pair.pair, pair.psnr, *(f"{folder}/{file}" for file in names)))
    return tuple(kept)


def _name_folder(output: Path) -> Path:
    return output.with_name(f"{output.stem}-pictures")

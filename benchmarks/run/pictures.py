"""The pictures of a results file: PNGs in a folder beside it, so that the file stays text that people can read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...optimize.artifacts import write_picture
from ..engines.sets import Key
from ..quality.comparison import ShownPair
from ..quality.sheets import make_picture
from .results import Shown

__all__ = ["keep_shown"]


def keep_shown(shown: Mapping[Key, Sequence[ShownPair]], output: Path) -> tuple[Shown, ...]:
    """Write the pictures of shown pairs to the folder NAME-pictures beside NAME.json, and return where they are.

    Raises OutputError where they cannot be written.
    """
    folder = output.with_name(f"{output.stem}-pictures")
    kept = []
    for (model, runtime), pairs in shown.items():
        for pair in pairs:
            names = [
                f"{folder.name}/{_to_file_name(f'{model}-{runtime}-{pair.role}{suffix}')}.png"
                for suffix in ("", "-reference")
            ]
            folder.mkdir(exist_ok=True)
            for name, picture in zip(names, (pair.picture, pair.reference), strict=True):
                write_picture(make_picture(picture), output.parent / name, force=True)
            kept.append(Shown(model, runtime, pair.role, pair.pair, pair.psnr, *names))
    return tuple(kept)


def _to_file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text)

"""Put a garment on a person with any artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .artifacts import write_picture
from .errors import InputError, UsageError

if TYPE_CHECKING:
    from ..benchmarks.engines.engine import Engine

__all__ = ["make_tryon", "parse_pictures"]

OPTIONS = ("person", "clothes", "edge")
"""Pictures that the command has options of their own for."""


def make_tryon(
    model: Path,
    person: Path,
    clothes: Path | None,
    output: Path,
    *,
    edge: Path | None = None,
    pictures: Mapping[str, Path] | None = None,
    network: str | None = None,
    runtime: str | None = None,
    force: bool = False,
) -> Path:
    """Write the picture that the model makes, the person wearing the clothes, at the model's size.

    It is the output named "tryon", else the first. Pictures of any size and kind are centre-cropped and resized as
    the network was trained. `pictures` are the files of further ones, by their names in `data.pictures.PICTURES`, read
    as those in a folder of pairs; what is made of other pictures there is made of them here.

    Raises InputError for pictures or models that cannot be read, for pictures that the model needs and has not, and
    for a model whose output is no picture; UsageError for a picture that is given twice or is never read from a file;
    OutputError for an output that exists.
    """
    from PIL import Image

    from ..benchmarks.engines.engine import infer_picture, open_engine
    from .data.pictures import Pictures, read_picture
    from .data.preprocess import restore_picture

    named = {"person": person, "clothes": clothes, "edge": edge}
    files = _join_files({name: file for name, file in named.items() if file}, pictures or {})
    engine = open_engine(model, network=network, runtime=runtime)
    _check_given(engine, files)
    name = "-".join(files[key].stem for key in ("person", "clothes") if key in files)
    given = Pictures(name, partial(read_picture, files, engine.size), _advise)
    return write_picture(Image.fromarray(restore_picture(infer_picture(engine, given))), output, force=force)


def parse_pictures(texts: Sequence[str]) -> dict[str, Path]:
    """Read further pictures, each written NAME=FILE; raises UsageError for anything else or one given twice."""
    found: dict[str, Path] = {}
    for text in texts:
        name, sign, file = text.partition("=")
        if not (name and sign and file):
            raise UsageError(f"--picture '{text}': write NAME=FILE, for example densepose=person.png")
        found = _join_files(found, {name: Path(file)})
    return found


def _join_files(files: Mapping[str, Path], further: Mapping[str, Path]) -> dict[str, Path]:
    from .data.pictures import PICTURES

    for name in further:
        if name not in PICTURES or not PICTURES[name].read:
            known = ", ".join(key for key, kind in PICTURES.items() if kind.read and key != "truth")
            raise UsageError(f"picture '{name}': is not read from a file; choose among {known}")
        if name in files:
            raise UsageError(f"picture '{name}': is given twice; name one file")
    return {**files, **further}


def _check_given(engine: Engine, files: Mapping[str, Path]) -> None:
    """Raise InputError that names every picture which the engine needs, and which the files neither are nor make."""
    from .data.pictures import PICTURES, list_missing

    wanted = [name for fed_by in engine.pictures.values() for name in fed_by.split("+") if name in PICTURES]
    if missing := list_missing(wanted, files):
        raise InputError(f"{engine.path}: is also fed by {', '.join(missing)}; {_advise(missing)}")


def _advise(names: Sequence[str]) -> str:
    return "pass " + " ".join(f"--{name} FILE" if name in OPTIONS else f"--picture {name}=FILE" for name in names)

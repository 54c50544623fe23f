"""Try-on pairs, loaded one at a time: a folder in VITON's layout, or drawn pairs where there is none.

    test_pairs.txt   a line per pair: PERSON CLOTHES; without it, persons and clothes pair by equal stems
    test_img/        persons
    test_clothes/    garments laid out on white
    test_edge/       optional: the garments' masks, named like the clothes
    test_truth/      optional: the persons wearing the clothes, named like the persons
    test_pose/       optional: the persons' skeletons, named like the persons
    test_agnostic/   optional: the persons with garment and arms hidden, named like the persons

and the folders of further pictures that `pictures.PICTURES` names, all optional and named like the persons. An optional
folder that is there holds a picture for every pair; its name may end in .png or .jpg where that of its person or
clothes ends in something else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import InputError
from .drawing.scene import open_scene
from .pictures import PICTURES, advise_folders, draw_picture, list_candidates, read_picture
from .preprocess import Size

__all__ = ["Pair", "hash_pairs", "open_pairs"]

_LIST = "test_pairs.txt"
_DRAWN_COUNT = 8
_NAMED = 5  # an error names this many files, then counts the others

Array = NDArray[np.float32]
Key = TypeVar("Key")


@dataclass(frozen=True, eq=False)
class Pair:
    """A person and a garment to put on: float32 (3, H, W) in [-1, 1], the edge (1, H, W) of 0 and 1."""

    name: str
    person: Array
    clothes: Array
    edge: Array | None
    truth: Array | None
    pose: Array | None = None
    agnostic: Array | None = None
    load_further: Callable[[str], Array | None] | None = None
    """Gives any other picture of `PICTURES` when it is asked for, and None for one that the pair has not."""

    def get(self, name: str) -> Array | None:
        """Return a picture (C, H, W) by its name in `PICTURES`, or None where the pair has none of its own."""
        if name in _KEPT:
            return getattr(self, name)
        return self.load_further(name) if self.load_further else None

    def advise(self, names: Sequence[str]) -> str:
        """Say how pictures that are missing can be given."""
        return advise_folders(names)


_KEPT = ("person", "clothes", "edge", "truth", "pose", "agnostic")


def open_pairs(
    folder: Path | None, size: Size = (256, 192), count: int | None = None, *, seed: int = 0
) -> Sequence[Pair]:
    """Open the first `count` pairs of a folder (default all), or draw `count` from `seed` on (default 8).

    A pair is loaded when it is asked for and not kept. `size` is (height, width). All that can be known
    from the list and the file names is checked here; raises InputError, naming everything that is missing.
    """
    _check_request(size, count, seed)
    if folder is None:
        return _LazyPairs(_list_seeds(count, seed), partial(_draw_pair, size=size))
    return _LazyPairs(_list_rows(folder, count), partial(_load_pair, size=size))


def hash_pairs(folder: Path | None, size: Size = (256, 192), count: int | None = None, seed: int = 0) -> str:
    """Hash what `open_pairs` with the same arguments depends on: sha256, in hex.

    That is the size, the list and the bytes of every file it uses; for drawn pairs the seeds and the source
    of the drawing modules. A folder hashes the same wherever it lies.
    """
    _check_request(size, count, seed)
    if folder is None:
        base, request = Path(__file__).parent, f"{size[0]}x{size[1]} {_list_seeds(count, seed)}"
        files = [base / name for name in ("joints.py", "labels.py", "pictures.py")]
        files += sorted((base / "drawing").glob("*.py"))
    else:
        base, request = folder, f"{size[0]}x{size[1]}"
        files = [file for row in _list_rows(folder, count) for file in row.files]
    total = hashlib.sha256(request.encode())
    for file in files:  # in the list's order, so this is the list too
        total.update(f"\n{file.relative_to(base).as_posix()} {_hash_file(file)}".encode())
    return total.hexdigest()


@dataclass(frozen=True, eq=False)
class _LazyPairs(Sequence[Pair], Generic[Key]):
    keys: Sequence[Key]
    load: Callable[[Key], Pair]

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | Sequence[Pair]:
        if isinstance(index, slice):
            return replace(self, keys=self.keys[index])
        return self.load(self.keys[index])


@dataclass(frozen=True)
class _Row:
    pictures: Mapping[str, Path]

    @property
    def files(self) -> list[Path]:
        return list(dict.fromkeys(self.pictures.values()))


def _load_pair(row: _Row, size: Size) -> Pair:
    name = f"{row.pictures['person'].stem}-{row.pictures['clothes'].stem}"
    return _make_pair(name, partial(read_picture, row.pictures, size))


def _make_pair(name: str, load: Callable[[str], Array | None]) -> Pair:
    person, clothes, *optional = (load(picture) for picture in _KEPT)
    assert person is not None
    assert clothes is not None
    return Pair(name, person, clothes, *optional, load_further=load)


def _draw_pair(seed: int, size: Size) -> Pair:
    """Draw at the smallest 4:3 that covers size, which for a 4:3 size is size itself, and crop to it."""
    unit = max(-(-size[0] // 4), -(-size[1] // 3), 8)
    return _make_pair(f"drawn-{seed:06d}", partial(draw_picture, open_scene(seed, (4 * unit, 3 * unit)), size))


def _check_request(size: Size, count: int | None, seed: int) -> None:
    if min(size) < 1 or (count is not None and count < 1) or seed < 0:
        asked = f"size {size[0]}x{size[1]}, count {count}, seed {seed}"
        raise InputError(f"pairs: there are none of {asked}; size and count begin at 1, seed at 0")


def _list_seeds(count: int | None, seed: int) -> range:
    return range(seed, seed + (_DRAWN_COUNT if count is None else count))


def _list_rows(folder: Path, count: int | None) -> list[_Row]:
    """List the first `count` pairs after checking that every file the whole list names is there."""
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; give one in VITON's layout, with {_LIST}")
    persons, clothes = folder / "test_img", folder / "test_clothes"
    places = {name: place for name in PICTURES if (place := _find_place(folder, name))}
    named = _read_list(folder / _LIST) if (folder / _LIST).exists() else _match_stems(persons, clothes)
    rows = [
        _Row({name: _find_file(name, place, person, garment) for name, place in places.items()})
        for person, garment in named
    ]
    if not rows:
        raise InputError(f"{folder}: it lists no pairs; write a line PERSON CLOTHES per pair into {_LIST}")
    files = dict.fromkeys(file for row in rows for file in row.files)
    if missing := [file.relative_to(folder).as_posix() for file in files if not file.is_file()]:
        raise InputError(
            f"{folder}: {len(missing)} of {len(files)} pictures are missing: {_name_some(missing)}; "
            f"add them, or leave their pairs out of {_LIST}, or an optional folder out as a whole"
        )
    return rows[:count]


def _find_place(folder: Path, name: str) -> Path | None:
    """Return where pictures of a name lie; persons and clothes also where there is no such folder yet."""
    places = [folder / place for place in PICTURES[name].folders]
    required = places[0] if name in ("person", "clothes") else None
    return next((place for place in places if place.is_dir()), required)


def _find_file(name: str, place: Path, person: str, garment: str) -> Path:
    kind = PICTURES[name]
    candidates = list_candidates(kind, place, garment if kind.named_like == "clothes" else person)
    return next((file for file in candidates if file.is_file()), candidates[0])


def _read_list(path: Path) -> list[tuple[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path}: the list cannot be read ({error}); save it as UTF-8 text") from error
    pairs = []
    for number, line in enumerate(text.split("\n"), start=1):
        where = f"{path}, line {number}"
        match re.sub(r"(^|\s)#.*", "", line).split():
            case []:
                continue
            case [person, clothes]:
                pairs.append((_check_name(person, where), _check_name(clothes, where)))
            case _:
                raise InputError(f"{where}: {line.strip()!r} is not two names; write PERSON CLOTHES")
    return pairs


def _check_name(name: str, where: str) -> str:
    inside = PureWindowsPath(name)  # it reads both kinds of slash, and drives
    if inside.anchor or ".." in inside.parts:
        raise InputError(f"{where}: {name!r} leaves the folder; name a picture inside it")
    if "\0" in name:
        raise InputError(f"{where}: {name!r} is not a file name; save the list as UTF-8 text")
    return name


def _match_stems(persons: Path, clothes: Path) -> list[tuple[str, str]]:
    left, right = _list_pictures(persons), _list_pictures(clothes)
    if [Path(name).stem for name in left] == [Path(name).stem for name in right]:
        return list(zip(left, right, strict=True))
    alone = {Path(name).stem for name in left} ^ {Path(name).stem for name in right}
    reason = f"without a partner: {_name_some(sorted(alone))}" if alone else "some stems occur twice"
    raise InputError(
        f"{persons.parent}: there is no {_LIST}, and {persons.name}/ and {clothes.name}/ do not pair by "
        f"equal stems ({reason}); write {_LIST} with a line PERSON CLOTHES per pair"
    )


def _list_pictures(place: Path) -> list[str]:
    if not place.is_dir():
        raise InputError(f"{place}: there is no such folder; give a folder in VITON's layout, with {_LIST}")
    known = Image.registered_extensions()
    names = [file for file in place.iterdir() if file.suffix.lower() in known and file.name[0] != "."]
    return [file.name for file in sorted(names, key=lambda file: (file.stem, file.suffix))]


def _hash_file(path: Path) -> str:
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path and its rights") from error


def _name_some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more

"""Every picture of a pair that can feed a network: where it lies, how it is read, drawn, written, or made of others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import InputError
from . import derived, labels
from .drawing import scene as drawn
from .joints import ENDINGS, JOINTS, load_joints, prepare_joints, save_joints
from .preprocess import Size, load_labels, load_picture, prepare_labels, prepare_mask, prepare_picture

if TYPE_CHECKING:
    from .drawing.scene import Scene

__all__ = [
    "PICTURES",
    "Given",
    "Picture",
    "Pictures",
    "advise_folders",
    "draw_picture",
    "find_picture",
    "list_candidates",
    "list_missing",
    "name_written",
    "read_picture",
    "stands_in",
]

Array = NDArray[np.float32]
Read = Callable[[Path, Path, Size], Array]
Draw = Callable[["Scene", Size], Array]
Show = Callable[["Scene"], NDArray[np.uint8]]
Write = Callable[["Scene", Path], None]

SUFFIXES = (".png", ".jpg")
"""What a picture's name may end in where that of its person or clothes ends in something else."""


@dataclass(frozen=True)
class Picture:
    """A kind of picture, float32 (channels, H, W).

    `folders` are where it lies in a folder of pairs: the first of them that is there. `read` takes its file, the
    person's and the size; `draw` takes the scene of a seed and the size; `write` writes what is drawn of a scene to a
    file that `read` takes. Where a pair has none, `derive` makes it of the pictures that `made_of` names; with
    `stand_in` it then shows something else. What is `sided` tells a person's left from right, and is not mirrored.
    """

    channels: int
    folders: tuple[str, ...] = ()
    named_like: Literal["person", "clothes"] = "person"
    read: Read | None = None
    draw: Draw | None = None
    write: Write | None = None
    made_of: tuple[str, ...] = ()
    derive: Callable[..., Array] | None = None
    stand_in: bool = False
    sided: bool = False
    endings: tuple[str, ...] = ()
    """What follows the stem in a file's name; without, it is named as the person or the clothes."""


class Given(Protocol):
    """What has pictures by their names in `PICTURES`: a pair, or the files that a command was given."""

    @property
    def name(self) -> str: ...

    def get(self, name: str, /) -> Array | None:
        """Return a picture (C, H, W) by its name, or None where there is none of that name."""
        ...

    def advise(self, names: Sequence[str], /) -> str:
        """Say how pictures that are missing can be given."""
        ...


def advise_folders(names: Sequence[str]) -> str:
    """Say how pictures that are missing can be given with pairs."""
    folders = " and ".join(f"{PICTURES[name].folders[-1]}/" for name in names)
    return f"add {folders} to the pairs, or take drawn ones"


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures that are read or drawn when they are asked for, and not kept; methods are those of `Given`."""

    name: str
    get: Callable[[str], Array | None]
    advise: Callable[[Sequence[str]], str] = advise_folders


def read_picture(files: Mapping[str, Path], size: Size, name: str) -> Array | None:
    """Read a picture from its file, of files by the names of their pictures; None where there is none."""
    read, file = PICTURES[name].read, files.get(name)
    return read(file, files["person"], size) if read and file else None


def draw_picture(scene: Scene, size: Size, name: str) -> Array | None:
    """Draw a picture of a scene; None for one that is not drawn."""
    draw = PICTURES[name].draw
    return draw(scene, size) if draw else None


def find_picture(pair: Given, name: str) -> Array:
    """Return a picture of a pair by its name (a key of `PICTURES`): its own, else one made from its others.

    Raises InputError for a name that is not known, and for a picture that is missing, with how to give it.
    """
    if name not in PICTURES:
        raise InputError(f"no picture of a pair is called '{name}'; choose among {', '.join(PICTURES)}")
    kind = PICTURES[name]
    own = pair.get(name)
    if own is not None:
        return own
    if kind.derive is None:
        raise InputError(f"pair {pair.name}: has no '{name}'; {pair.advise([name])}")
    return kind.derive(*(find_picture(pair, other) for other in kind.made_of))


def list_missing(names: Iterable[str], given: Collection[str]) -> list[str]:
    """Return what must be given beside `given` so that `find_picture` finds all of `names`, each once."""
    missing: dict[str, None] = {}
    for name in names:
        if name not in given:
            kind = PICTURES[name]
            missing |= dict.fromkeys(list_missing(kind.made_of, given) if kind.derive else [name])
    return list(missing)


def stands_in(pair: Given, name: str) -> bool:
    """Tell whether `find_picture` gives another picture that shows something else."""
    return PICTURES[name].stand_in and pair.get(name) is None


def list_candidates(kind: Picture, place: Path, named: str) -> list[Path]:
    """Return the files of a folder that may be the picture of a person or clothes of this name, the likeliest first."""
    stem = place / Path(named).with_suffix("")
    endings = kind.endings or SUFFIXES
    return [*([] if kind.endings else [place / named]), *(stem.with_name(stem.name + ending) for ending in endings)]


def name_written(kind: Picture, person: str, clothes: str) -> Path:
    """Return where in a folder of pairs a written picture lies; the person and the clothes are files of these names."""
    named = Path(clothes if kind.named_like == "clothes" else person)
    return Path(kind.folders[0], f"{named.stem}{kind.endings[0]}" if kind.endings else named.name)


def _read_picture(file: Path, person: Path, size: Size) -> Array:
    return prepare_picture(load_picture(file), size)


def _read_mask(file: Path, person: Path, size: Size) -> Array:
    return prepare_mask(load_picture(file), size)


def _read_joints(file: Path, person: Path, size: Size) -> Array:
    points = load_joints(file)
    width, height = load_picture(person).size
    return prepare_joints(points, (height, width), size)


def _draw_joints(scene: Scene, size: Size) -> Array:
    return prepare_joints(drawn.show_joints(scene), (scene.canvas.height, scene.canvas.width), size)


def _write_joints(scene: Scene, path: Path) -> None:
    save_joints(drawn.show_joints(scene), path)


def _saves(show: Show) -> Write:
    def write(scene: Scene, path: Path) -> None:
        Image.fromarray(show(scene)).save(path)

    return write


def _photo(folder: str, show: Show, **more: Any) -> Picture:
    def draw(scene: Scene, size: Size) -> Array:
        return prepare_picture(Image.fromarray(show(scene)), size)

    return Picture(3, (folder,), read=_read_picture, draw=draw, write=_saves(show), **more)


def _classes(classes: Sequence[int], show: Show, *folders: str, sided: bool = True) -> Picture:
    def read(file: Path, person: Path, size: Size) -> Array:
        try:
            return prepare_labels(load_labels(file), size, classes)
        except ValueError as error:
            raise InputError(f"{file}: {error}; write the 20 labels of person parsing") from error

    def draw(scene: Scene, size: Size) -> Array:
        return prepare_labels(Image.fromarray(show(scene)), size, classes)

    return Picture(max(classes) + 1, folders, read=read, draw=draw, write=_saves(show), sided=sided)


def _draw_hole(scene: Scene, size: Size) -> Array:
    return prepare_mask(Image.fromarray(drawn.show_hole(scene)), size)


def _leave(person: Array) -> Array:
    return person


_HIDDEN = {"made_of": ("person",), "derive": _leave, "stand_in": True}

PICTURES: Mapping[str, Picture] = {
    "person": _photo("test_img", drawn.show_person),
    "clothes": _photo("test_clothes", drawn.show_clothes, named_like="clothes"),
    "edge": Picture(1, ("test_edge",), "clothes", _read_mask, made_of=("clothes",), derive=derived.derive_edge),
    "truth": _photo("test_truth", drawn.show_truth),
    "pose": _photo("test_pose", drawn.show_pose, **_HIDDEN, sided=True),
    "agnostic": _photo("test_agnostic", drawn.show_agnostic, **_HIDDEN),
    "densepose": _photo("test_densepose", drawn.show_densepose, **_HIDDEN, sided=True),
    "parse_agnostic": _classes(labels.AGNOSTIC_CLASSES, drawn.show_agnostic_labels, "test_parse_agnostic"),
    "parse": _classes(labels.GENERATOR_CLASSES, drawn.show_truth_labels, "test_truth_parse", "test_parse"),
    "layout": _classes(labels.LAYOUT_CLASSES, drawn.show_person_labels, "test_parse", sided=False),
    "joints": Picture(
        *(JOINTS, ("test_joints",)),
        read=_read_joints,
        draw=_draw_joints,
        write=_write_joints,
        sided=True,
        endings=ENDINGS,
    ),
    "hole": Picture(
        *(1, ("test_hole",)),
        read=_read_mask,
        draw=_draw_hole,
        write=_saves(drawn.show_hole),
        made_of=("layout",),
        derive=derived.derive_hole,
    ),
    "painted_layout": Picture(3, made_of=("layout",), derive=derived.paint_layout),
    "representation": Picture(JOINTS + 1, made_of=("joints", "layout"), derive=derived.join_representation, sided=True),
    "garments": Picture(derived.GARMENT_CHANNELS, made_of=("person", "layout"), derive=derived.cut_garments),
    "z": Picture(derived.CODE_CHANNELS, made_of=("person",), derive=derived.draw_code),
}
"""Name -> kind. In a folder of pairs all but persons and clothes are optional:

edge             (1) the garment's mask
truth            (3) the person wearing the clothes
pose             (3) the skeleton
agnostic         (3) the person with garment and arms hidden
densepose        (3) the picture that DensePose makes of the person
parse_agnostic   (13) of which class a pixel of the agnostic person is, by the label that stands in its file
parse            (7) of which class a pixel of the truth is, by its label; without that file, of the person
layout           (8) of which class a pixel of the person is, by its label
joints           (18) a map for each joint
hole             (1) 1 where a picture is to be completed
painted_layout   (3) the layout in colours
representation   (19) joints and silhouette
garments         (12) four worn garments
z                (8) normal noise, the same for the same person
"""

"""The kinds of file vtopt reads and writes, the parameter types steps share, and how outputs are written."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, get_args

import typer

from .errors import InputError, OutputError, VtoptError
from .interruption import require_uninterrupted

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "SUFFIXES",
    "AnyIn",
    "CheckpointIn",
    "CheckpointOut",
    "Force",
    "Json",
    "Kind",
    "NetworkName",
    "OnnxIn",
    "OnnxOut",
    "OpenvinoOut",
    "PairCount",
    "PairsFolder",
    "Reads",
    "Size",
    "SizeOption",
    "Threads",
    "WeightsIn",
    "WeightsOut",
    "Writes",
    "detect_kind",
    "hash_artifact",
    "list_files",
    "new_output",
    "parse_size",
    "write_picture",
]

Kind = Literal["checkpoint", "weights", "onnx", "openvino"]
KINDS: tuple[Kind, ...] = get_args(Kind)

SUFFIXES: dict[Kind | Literal["picture"], str] = {
    "checkpoint": ".pth",
    "weights": ".safetensors",
    "onnx": ".onnx",
    "openvino": ".xml",
    "picture": ".png",
}
"""The suffix vtopt gives a file of each kind."""


@dataclass(frozen=True)
class Reads:
    """Marks a parameter as an input file of one of these kinds; the recipe checker reads it."""

    kinds: tuple[Kind, ...]


@dataclass(frozen=True)
class Writes:
    """Marks a parameter as the output file, of this kind."""

    kind: Kind


class Size(NamedTuple):
    """Height and width in pixels, written 256x192."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


def parse_size(text: str | Sequence[int]) -> Size:
    """Read a size written HEIGHTxWIDTH; raises typer.BadParameter (a usage error) for anything else."""
    if not isinstance(text, str):
        text = "x".join(map(str, text))
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise typer.BadParameter(f"'{text}' is not a size; write HEIGHTxWIDTH, for example 256x192")
    return Size(int(height), int(width))


CheckpointIn = Annotated[
    Path, Reads(("checkpoint", "weights")), typer.Argument(help="A training checkpoint (.pth, .pt, .ckpt).")
]
WeightsIn = Annotated[
    Path, Reads(("weights", "checkpoint")), typer.Argument(help="Weights (.safetensors) or a checkpoint.")
]
OnnxIn = Annotated[Path, Reads(("onnx",)), typer.Argument(help="An ONNX model.")]
AnyIn = Annotated[Path, Reads(KINDS), typer.Argument(help="Weights, a checkpoint, ONNX or OpenVINO IR (.xml).")]
WeightsOut = Annotated[Path, Writes("weights"), typer.Argument(help="The .safetensors file to write.")]
OnnxOut = Annotated[Path, Writes("onnx"), typer.Argument(help="The ONNX file to write.")]
OpenvinoOut = Annotated[Path, Writes("openvino"), typer.Argument(help="The .xml file to write; .bin goes beside it.")]
CheckpointOut = Annotated[Path, Writes("checkpoint"), typer.Argument(help="The checkpoint to write.")]

NetworkName = Annotated[
    str | None,
    typer.Option(help="A registered network, or package.module:factory. Default: what the file says."),
]
PairsFolder = Annotated[Path | None, typer.Option(help="A folder of pairs in VITON layout. Default: drawn pairs.")]
PairCount = Annotated[int, typer.Option(min=1, help="How many pairs to compare pictures on.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads a runtime may use. Default: all cores.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite an existing output.")]
SizeOption = Annotated[
    Size | None,
    typer.Option(parser=parse_size, metavar="HEIGHTxWIDTH", help="Picture size. Default: the network's."),
]


def detect_kind(path: Path) -> Kind:
    """Tell a file's kind from its suffix and first bytes.

    Raises InputError when the file is missing, empty, a folder, or of no known kind.
    """
    head = _read_head(path)
    if not head:
        raise InputError(f"{path}: is empty; it was perhaps cut short when copied")
    if path.suffix == ".xml" or head.lstrip().startswith((b"<?xml", b"<net")):
        return "openvino"
    if path.suffix == ".safetensors":
        return "weights"
    if path.suffix == ".onnx":
        return "onnx"
    if head.startswith(b"PK\x03\x04") or head[:1] == b"\x80" or path.suffix in {".pth", ".pt", ".ckpt", ".tar"}:
        return "checkpoint"
    raise InputError(
        f"{path}: not a file vtopt knows; it reads checkpoints (.pth, .pt, .ckpt), .safetensors, .onnx, .xml"
    )


def _read_head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(64)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder; name the file in it") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def list_files(path: Path) -> list[Path]:
    """Return every file there is of an artifact, itself the first: an IR's .bin, and ONNX's external data."""
    others = []
    if path.suffix == ".xml":
        others = [path.with_suffix(".bin")]
    elif path.suffix == ".onnx" and path.is_file():
        from .external_data import find_external_data

        others = find_external_data(path)
    return [path, *(file for file in others if file.is_file())]


def hash_artifact(path: Path) -> str:
    """Return the sha256 of the bytes of all its files, in the order of `list_files`, hexadecimal."""
    digest = hashlib.sha256()
    for file in list_files(path):
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def new_output(output: Path, kind: Kind | Literal["picture"], *, force: bool = False) -> Iterator[Path]:
    """Give a temporary path to write to; on success it becomes `output`, on any error nothing is left.

    What is written beside the temporary file (an IR's .bin) moves along with it.

    Raises OutputError when `output` has not the suffix of its kind, when it exists and not `force`, when
    its folder is read-only, or when the disk is full.
    """
    suffix = SUFFIXES[kind]
    if output.suffix != suffix:
        raise OutputError(f"{output}: the suffix must be {suffix}; name it {output.stem}{suffix}")
    try:
        if output.is_dir():
            raise OutputError(f"{output}: is a folder; name a file in it")
        for file in (output, output.with_suffix(".bin")) if kind == "openvino" else (output,):
            if file.exists() and not force:
                raise OutputError(f"{file}: exists already; choose another name or pass --force")
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".vtopt-", dir=output.parent))
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror}; choose another folder") from error
    try:
        yield folder / output.name
        require_uninterrupted()
        for file in sorted(folder.iterdir(), key=lambda file: file.name == output.name):
            _make_readable(file)
            file.replace(output.parent / file.name)
    except VtoptError as error:
        error.args = tuple(str(part).replace(str(folder / output.name), str(output)) for part in error.args)
        raise
    except OSError as error:
        if error.errno not in _WRITE_ERRORS:
            raise
        raise OutputError(f"{output}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_picture(picture: Image.Image, output: Path, *, force: bool = False) -> Path:
    """Write a picture as PNG; raises OutputError as `new_output` does."""
    with new_output(output, "picture", force=force) as temporary:
        picture.save(temporary)
    return output


_WRITE_ERRORS = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.EFBIG, errno.EIO}


def _make_readable(file: Path) -> None:
    """Give the file the permissions of an ordinary new file; mkstemp-like writers leave it private."""
    umask = os.umask(0)
    os.umask(umask)
    file.chmod(0o666 & ~umask)

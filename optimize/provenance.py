"""What an artifact says of itself: its network, what feeds its inputs, and every step that made it.

The same few strings travel in the header of .safetensors, in metadata_props of ONNX and in rt_info of
OpenVINO IR, under names that begin with `vtopt.`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata as packages
from pathlib import Path
from typing import Any

from .artifacts import detect_kind, hash_artifact, list_files
from .errors import InputError

__all__ = [
    "Metadata",
    "Record",
    "add_record",
    "list_versions",
    "read_history",
    "read_metadata",
    "read_pictures",
    "set_onnx_metadata",
    "to_plain",
]

Metadata = dict[str, str]

PREFIX = "vtopt."
NETWORK, CONFIG, PICTURES, HISTORY = (PREFIX + key for key in ("network", "config", "pictures", "history"))
INT8_RANGES = PREFIX + "int8_ranges"
"""Of weights trained for int8: {"target": name, "ranges": {module: {"input": [low, high], "output": [low, high]}}}."""

_STEP_PACKAGES = (
    "torch",
    "torch-pruning",
    "accelerate",
    "onnx",
    "onnxscript",
    "onnxsim",
    "onnxruntime",
    "onnxconverter-common",
    "openvino",
    "nncf",
)


@dataclass(frozen=True)
class Record:
    """One step of an artifact's history."""

    step: str
    parent: str
    parent_sha256: str
    parent_bytes: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


_RECORD_KEYS = {entry.name for entry in fields(Record)}


def add_record(
    before: Metadata,
    step: str,
    parent: Path,
    *,
    settings: Mapping[str, Any],
    figures: Mapping[str, Any],
    notices: tuple[str, ...] = (),
) -> Metadata:
    """Return the metadata of a new artifact: that of its parent and one record more."""
    record = Record(
        step=step,
        parent=parent.name,
        parent_sha256=hash_artifact(parent),
        parent_bytes=sum(file.stat().st_size for file in list_files(parent)),
        settings={key: to_plain(value) for key, value in settings.items()},
        figures=figures,
        notices=notices,
        versions=list_versions(),
    )
    history = [*json.loads(before.get(HISTORY, "[]")), asdict(record)]
    return {**before, HISTORY: json.dumps(history, allow_nan=False)}


def to_plain(value: Any) -> Any:
    """Return a setting as a record has it: what JSON does not know is text."""
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def list_versions() -> dict[str, str]:
    """Return the installed versions of vtopt and the packages that steps use."""
    versions = {}
    for name in ("vtopt", *_STEP_PACKAGES):
        try:
            versions[name] = packages.version(name)
        except packages.PackageNotFoundError:
            continue
    return versions


def read_metadata(path: Path) -> Metadata:
    """Return the artifact's `vtopt.` entries; empty for files that vtopt did not write.

    Raises InputError for a file that cannot be read.
    """
    reader = {"weights": _read_safetensors, "onnx": _read_onnx, "openvino": _read_openvino}.get(detect_kind(path))
    entries = reader(path) if reader else {}
    ours = {key: value for key, value in entries.items() if key.startswith(PREFIX)}
    _check_entries(ours, path)
    return ours


def _check_entries(entries: Metadata, path: Path) -> None:
    """Raise InputError when an entry that vtopt reads later is not what vtopt would have written."""
    for key, wanted in ((CONFIG, dict), (PICTURES, dict), (HISTORY, list)):
        try:
            value = json.loads(entries.get(key, json.dumps(wanted())))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: its entry {key} is damaged: {error}; make the file again") from error
        if not isinstance(value, wanted) or (key == HISTORY and not all(map(_is_record, value))):
            raise InputError(f"{path}: its entry {key} is not what vtopt writes; make the file again")


def _is_record(entry: Any) -> bool:
    return isinstance(entry, dict) and {"step", "parent", "parent_sha256"} <= entry.keys() <= _RECORD_KEYS


def read_history(path: Path) -> list[Record]:
    """Return the steps that made the artifact, oldest first."""
    return [Record(**entry) for entry in json.loads(read_metadata(path).get(HISTORY, "[]"))]


def read_pictures(path: Path) -> dict[str, str]:
    """Return which picture of a pair feeds each input; empty for files that vtopt did not write."""
    return json.loads(read_metadata(path).get(PICTURES, "{}"))


def _read_safetensors(path: Path) -> Metadata:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error}); copy or strip it again") from error


def _read_onnx(path: Path) -> Metadata:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
        entries = {entry.key: entry.value for entry in model.metadata_props}
        if not all(isinstance(text, str) for text in (*entries, *entries.values())):
            raise DecodeError("an entry is not UTF-8")  # protobuf hands such text over as bytes
    except (DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable ONNX model; it is damaged or cut short") from error
    return entries


def _read_openvino(path: Path) -> Metadata:
    from xml.etree import ElementTree

    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # the last two: an odd encoding
        raise InputError(f"{path}: not a readable OpenVINO IR ({error})") from error
    entries = root.findall("rt_info/vtopt/*")
    return {PREFIX + entry.tag: entry.get("value", "") for entry in entries}


def set_onnx_metadata(model: Any, entries: Metadata) -> None:
    """Put the entries into the model's metadata_props, replacing those of the same name."""
    kept = {entry.key: entry.value for entry in model.metadata_props} | entries
    del model.metadata_props[:]
    for key in sorted(kept):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, kept[key]

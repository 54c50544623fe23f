"""What an artifact says of itself, in all three kinds of file, and files that are damaged."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from vtopt.optimize.artifacts import Size, hash_artifact
from vtopt.optimize.errors import InputError
from vtopt.optimize.onnx_files import save_onnx
from vtopt.optimize.provenance import (
    Metadata,
    add_record,
    list_versions,
    read_history,
    read_metadata,
    read_pictures,
    set_onnx_metadata,
)
from vtopt.optimize.weights import save_weights

MODEL = """
<ir_version: 8, opset_import: ["": 17]>
small (float[1, 2] x) => (float[1, 2] y) { y = Relu (x) }
"""
ODD = "é ☃ <&> \"quoted\" 'single' \\ {}"


def _save_safetensors(path: Path, metadata: Metadata) -> None:
    save_weights({"weight": torch.ones(2)}, path, metadata)


def _save_onnx(path: Path, metadata: Metadata) -> None:
    save_onnx(onnx.parser.parse_model(MODEL), path, metadata)


def _save_openvino(path: Path, metadata: Metadata) -> None:
    import openvino

    from vtopt.optimize.openvino_ir import _save

    model = path.with_suffix(".onnx")
    _save_onnx(model, {})
    _save(openvino.convert_model(model), path, metadata)
    model.unlink()


WRITERS = {"safetensors": _save_safetensors, "onnx": _save_onnx, "xml": _save_openvino}
every_kind = pytest.mark.parametrize(("suffix", "write"), WRITERS.items(), ids=WRITERS)
Write = Callable[[Path, Metadata], None]


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    path = tmp_path / "parent.pth"
    path.write_bytes(b"PK\x03\x04 weights")
    return path


@every_kind
def test_metadata_travels_in_the_file(suffix: str, write: Write, tmp_path: Path, parent: Path) -> None:
    metadata = {"vtopt.network": "sdafn", "vtopt.pictures": json.dumps({"x": "person"}), "vtopt.note": ODD}
    metadata = add_record(
        metadata, "strip", parent, settings={"note": ODD}, figures={"kept": 3, "psnr": None}, notices=(ODD,)
    )
    path = tmp_path / f"net.{suffix}"
    write(path, metadata)
    assert read_metadata(path) == metadata
    assert read_pictures(path) == {"x": "person"}
    (record,) = read_history(path)
    assert (record.step, record.parent, record.parent_bytes) == ("strip", "parent.pth", parent.stat().st_size)
    assert record.parent_sha256 == hash_artifact(parent)
    assert record.settings == {"note": ODD}
    assert record.figures == {"kept": 3, "psnr": None}
    assert list(record.notices) == [ODD]
    assert record.versions == list_versions()


@every_kind
def test_the_same_metadata_gives_the_same_bytes(suffix: str, write: Write, tmp_path: Path) -> None:
    metadata = {f"vtopt.{letter}": letter for letter in "cab"}
    written = []
    for name, order in (("one", metadata), ("two", dict(sorted(metadata.items())))):
        folder = tmp_path / name
        folder.mkdir()
        write(folder / f"net.{suffix}", order)
        written.append([path.read_bytes() for path in sorted(folder.iterdir())])
    assert written[0] == written[1]


@every_kind
def test_a_file_without_metadata_says_nothing(suffix: str, write: Write, tmp_path: Path) -> None:
    path = tmp_path / f"net.{suffix}"
    write(path, {})
    assert (read_metadata(path), read_history(path), read_pictures(path)) == ({}, [], {})


def test_a_checkpoint_says_nothing_in_its_header(parent: Path) -> None:
    assert read_metadata(parent) == {}


def test_entries_of_others_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    _save_safetensors(path, {"format": "pt", "vtopt.network": "sdafn"})
    assert read_metadata(path) == {"vtopt.network": "sdafn"}


def test_records_follow_each_other(parent: Path) -> None:
    first = add_record({"vtopt.network": "sdafn"}, "strip", parent, settings={}, figures={})
    second = add_record(first, "export", parent, settings={}, figures={})
    assert second["vtopt.network"] == "sdafn"
    assert [entry["step"] for entry in json.loads(second["vtopt.history"])] == ["strip", "export"]
    assert len(json.loads(first["vtopt.history"])) == 1


def test_settings_are_written_as_plain_values(parent: Path) -> None:
    settings = {"size": Size(256, 192), "pairs": Path("pairs"), "fp16": True, "ratio": 0.4, "none": None}
    record = json.loads(add_record({}, "export", parent, settings=settings, figures={})["vtopt.history"])[0]
    assert record["settings"] == settings | {"size": "256x192", "pairs": "pairs"}


def test_figures_that_json_has_no_word_for_are_refused(parent: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        add_record({}, "strip", parent, settings={}, figures={"psnr": math.inf})


def test_onnx_entries_replace_those_of_the_same_name_in_order() -> None:
    model = onnx.parser.parse_model(MODEL)
    set_onnx_metadata(model, {"b": "1", "c": "2"})
    set_onnx_metadata(model, {"b": "3", "a": "4"})
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [("a", "4"), ("b", "3"), ("c", "2")]


RECORD = {"step": "strip", "parent": "net.pth", "parent_sha256": "0"}


@every_kind
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vtopt.history", "[{"),
        ("vtopt.history", "{}"),
        ("vtopt.history", "[1]"),
        ("vtopt.history", json.dumps([{"step": "strip"}])),
        ("vtopt.history", json.dumps([RECORD | {"unknown": 1}])),
        ("vtopt.history", "[" * 100_000),
        ("vtopt.pictures", "[]"),
        ("vtopt.config", "nothing"),
    ],
    ids=lambda value: value[:40],
)
def test_a_damaged_entry_is_refused_by_name(suffix: str, write: Write, key: str, value: str, tmp_path: Path) -> None:
    path = tmp_path / f"net.{suffix}"
    write(path, {key: value})
    with pytest.raises(InputError, match=rf"net\.{suffix}: its entry {key} is .*make the file again"):
        read_metadata(path)


def _try_reading(path: Path, damaged: bytes) -> None:
    """A damaged file may still be readable; if it is not, the error must be the user's to understand."""
    path.write_bytes(damaged)
    for read in (read_metadata, read_history, read_pictures):
        try:
            read(path)
        except InputError as error:
            assert str(error).startswith(f"{path}: ")


@every_kind
def test_a_file_damaged_anywhere_is_read_or_refused(suffix: str, write: Write, tmp_path: Path, parent: Path) -> None:
    path = tmp_path / f"net.{suffix}"
    write(path, add_record({"vtopt.network": "sdafn"}, "strip", parent, settings={}, figures={}))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for cut in (*range(1, 20), len(whole) // 2, len(whole) - 1):
        _try_reading(path, whole[:cut])
    for _ in range(100):
        damaged = bytearray(whole)
        for place in rng.integers(len(whole), size=rng.integers(1, 8)):
            damaged[place] = rng.integers(256)
        _try_reading(path, bytes(damaged))
        _try_reading(path, rng.bytes(64))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b'<?xml version="1.0" encoding="no-such-code"?><net/>', id="an encoding of no such name"),
        pytest.param(b'<?xml version="1.0" encoding="utf-7"?><net/>', id="an encoding of several bytes"),
        pytest.param(b"<net><rt_info>", id="cut short"),
        pytest.param(b"\x00\x01\x02", id="no text"),
    ],
)
def test_an_unreadable_ir_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.xml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"net\.xml: not a readable OpenVINO IR"):
        read_metadata(path)


@pytest.mark.parametrize("length", [0, 1, 2**40, 2**64 - 1])
def test_a_header_of_another_length_is_refused(length: int, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b"{}" + b"\x00" * 8)
    with pytest.raises(InputError, match="not a readable safetensors file"):
        read_metadata(path)


def test_versions_name_what_made_the_artifact() -> None:
    versions: dict[str, Any] = list_versions()
    assert versions["torch"] == torch.__version__.split("+")[0] or versions["torch"] == torch.__version__
    assert next(iter(versions)) == "vtopt"

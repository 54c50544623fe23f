"""Files: their kinds, and outputs that are whole or not there."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest
import typer
from PIL import Image

from vtopt.optimize.artifacts import (
    Size,
    detect_kind,
    hash_artifact,
    list_files,
    new_output,
    parse_size,
    write_picture,
)
from vtopt.optimize.errors import InputError, OutputError


def _list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("net.pth", b"PK\x03\x04...", "checkpoint"),
        ("net.pt", b"\x80\x02...", "checkpoint"),
        ("net.ckpt", b"anything", "checkpoint"),
        ("checkpoint_best.tar", b"anything", "checkpoint"),
        ("model_step_9", b"PK\x03\x04...", "checkpoint"),
        ("old_model", b"\x80\x02...", "checkpoint"),
        ("net.safetensors", b"\x10\x00\x00\x00", "weights"),
        ("net.onnx", b"\x08\x08\x12", "onnx"),
        ("net.xml", b"<net/>", "openvino"),
        ("net.ir", b'  <?xml version="1.0"?>', "openvino"),
    ],
)
def test_the_kind_of_a_file(name: str, content: bytes, kind: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert detect_kind(path) == kind


@pytest.mark.parametrize("name", ["notes.txt", "picture.png", "net"])
def test_a_file_of_no_known_kind_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"some bytes")
    with pytest.raises(InputError, match=r"not a file vtopt knows; it reads checkpoints \(\.pth"):
        detect_kind(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".onnx", ".xml", ".txt"])
def test_a_file_that_is_missing_empty_or_a_folder_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    with pytest.raises(InputError, match="no such file"):
        detect_kind(path)
    path.touch()
    with pytest.raises(InputError, match="is empty"):
        detect_kind(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="is a folder"):
        detect_kind(path)


def test_a_name_that_cannot_be_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        detect_kind(tmp_path / ("n" * 300 + ".onnx"))


def test_a_new_output_takes_its_place_when_done(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "er" / "net.onnx"
    with new_output(output, "onnx") as temporary:
        assert temporary.parent.parent == output.parent
        temporary.write_bytes(b"model")
        assert not output.exists()
    assert output.read_bytes() == b"model"
    assert _list_names(output.parent) == ["net.onnx"]


def test_a_new_output_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    with new_output(tmp_path / "net.onnx", "onnx") as temporary:
        temporary.touch(mode=0o600)
    (tmp_path / "any").touch()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("net.onnx", "any")]
    assert modes[0] == modes[1]


def test_both_files_of_an_ir_take_their_place(tmp_path: Path) -> None:
    output = tmp_path / "net.xml"
    with new_output(output, "openvino") as temporary:
        temporary.write_bytes(b"<net/>")
        temporary.with_suffix(".bin").write_bytes(b"weights")
    assert _list_names(tmp_path) == ["net.bin", "net.xml"]
    assert list_files(output) == [output, tmp_path / "net.bin"]
    assert hash_artifact(output) == hashlib.sha256(b"<net/>weights").hexdigest()


def test_the_hash_of_any_other_file_is_of_it_alone(tmp_path: Path) -> None:
    (tmp_path / "net.bin").write_bytes(b"someone's")
    path = tmp_path / "net.onnx"
    path.write_bytes(b"model" * 1_000_000)
    assert list_files(path) == [path]
    assert hash_artifact(path) == hashlib.sha256(b"model" * 1_000_000).hexdigest()


def _save_apart(path: Path, weight: float) -> None:
    """Save an ONNX model whose weight lies in a file beside it."""
    import numpy as np
    import onnx
    import onnx.parser

    text = """<ir_version: 8, opset_import: ["" : 17]> graph (float[4] x) => (float[4] y) { y = Mul (x, w) }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.full(4, weight, np.float32), "w"))
    onnx.save(model, path, save_as_external_data=True, location=f"{path.stem}.data", size_threshold=0)


def test_the_hash_of_onnx_holds_its_external_data(tmp_path: Path) -> None:
    path, data = tmp_path / "net.onnx", tmp_path / "net.data"
    hashes, texts = [], []
    for weight in (1.0, 2.0, 1.0):
        data.unlink(missing_ok=True)
        _save_apart(path, weight)
        hashes.append(hash_artifact(path))
        texts.append(path.read_bytes())
    assert texts[0] == texts[1]
    assert hashes[0] == hashes[2] != hashes[1]
    assert list_files(path) == [path, data]
    assert hashes[0] == hashlib.sha256(texts[0] + data.read_bytes()).hexdigest()


def test_external_data_that_is_missing_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    _save_apart(path, 1.0)
    (tmp_path / "net.data").unlink()
    assert list_files(path) == [path]
    assert hash_artifact(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_damaged_file_with_external_data_is_hashed_alone(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    _save_apart(path, 1.0)
    path.write_bytes(path.read_bytes()[:-7])
    assert hash_artifact(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_onnx_file_without_external_data_is_hashed_without_being_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    path = tmp_path / "net.onnx"
    path.write_bytes(b"model")
    monkeypatch.setattr(onnx, "load", lambda *given, **settings: pytest.fail("it was parsed"))
    assert hash_artifact(path) == hashlib.sha256(b"model").hexdigest()
    path.write_bytes(b"")
    assert hash_artifact(path) == hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize(("kind", "existing"), [("onnx", "net.onnx"), ("openvino", "net.xml"), ("openvino", "net.bin")])
def test_an_existing_output_is_refused_unless_forced(kind: str, existing: str, tmp_path: Path) -> None:
    (tmp_path / existing).write_bytes(b"precious")
    output = tmp_path / ("net.onnx" if kind == "onnx" else "net.xml")
    with (
        pytest.raises(OutputError, match=rf"{existing}: exists already; .*--force"),
        new_output(output, kind),  # type: ignore[arg-type]
    ):
        pytest.fail("the step ran")
    assert (tmp_path / existing).read_bytes() == b"precious"
    with new_output(output, kind, force=True) as temporary:  # type: ignore[arg-type]
        for name in {output.name, existing}:
            temporary.with_name(name).write_bytes(b"new")
    assert (tmp_path / existing).read_bytes() == b"new"


def test_an_unrelated_bin_beside_an_onnx_file_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "net.bin").write_bytes(b"precious")
    with new_output(tmp_path / "net.onnx", "onnx") as temporary:
        temporary.write_bytes(b"model")
    assert (tmp_path / "net.bin").read_bytes() == b"precious"


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt(), SystemExit(1)], ids=repr)
@pytest.mark.parametrize("existing", [None, b"precious"])
def test_a_failure_or_an_interruption_leaves_nothing(
    error: BaseException, existing: bytes | None, tmp_path: Path
) -> None:
    output = tmp_path / "net.xml"
    if existing:
        output.write_bytes(existing)
    with pytest.raises(type(error)), new_output(output, "openvino", force=True) as temporary:
        temporary.write_bytes(b"half")
        temporary.with_suffix(".bin").write_bytes(b"half")
        raise error
    assert _list_names(tmp_path) == (["net.xml"] if existing else [])
    assert existing is None or output.read_bytes() == existing


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_a_full_disk_is_told_and_leaves_nothing(code: int, tmp_path: Path) -> None:
    output = tmp_path / "net.onnx"
    with (
        pytest.raises(OutputError, match=rf"net\.onnx: cannot be written: {os.strerror(code)}"),
        new_output(output, "onnx") as temporary,
    ):
        temporary.write_bytes(b"half")
        raise OSError(code, os.strerror(code))
    assert _list_names(tmp_path) == []


def test_a_disk_that_is_full_when_the_output_moves_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", fail)
    with (
        pytest.raises(OutputError, match="No space left"),
        new_output(tmp_path / "net.onnx", "onnx") as temporary,
    ):
        temporary.write_bytes(b"whole")
    assert _list_names(tmp_path) == []


def test_an_error_of_reading_is_not_taken_for_one_of_writing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), new_output(tmp_path / "net.onnx", "onnx"):
        (tmp_path / "missing").read_bytes()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_is_read_only_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="choose another folder"), new_output(tmp_path / "net.onnx", "onnx"):
        pytest.fail("the step ran")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "net.onnx"
    with pytest.raises(OutputError, match="choose another folder"), new_output(output, "onnx"):
        pytest.fail("the step ran")


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_as_output_is_refused(force: bool, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").mkdir()
    output = tmp_path / "net.onnx"
    with pytest.raises(OutputError, match="is a folder"), new_output(output, "onnx", force=force):
        pytest.fail("the step ran")


@pytest.mark.parametrize(
    ("name", "kind", "proposed"),
    [
        ("net.pth", "weights", "net.safetensors"),
        ("net", "onnx", "net.onnx"),
        ("net.bin", "openvino", "net.xml"),
        ("net.pt", "checkpoint", "net.pth"),
        ("sheet.jpg", "picture", "sheet.png"),
    ],
)
def test_another_suffix_is_refused_with_the_right_name(name: str, kind: str, proposed: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=f"name it {proposed}"), new_output(tmp_path / name, kind):  # type: ignore[arg-type]
        pytest.fail("the step ran")
    assert _list_names(tmp_path) == []


def test_a_picture_is_written_once(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 3), "red")
    assert write_picture(picture, tmp_path / "sheet.png") == tmp_path / "sheet.png"
    with Image.open(tmp_path / "sheet.png") as written:
        assert (written.size, written.getpixel((0, 0))) == ((4, 3), (255, 0, 0))
    with pytest.raises(OutputError, match="exists already"):
        write_picture(picture, tmp_path / "sheet.png")


@pytest.mark.parametrize("text", ["256x192", "256X192", (256, 192), [256, 192]])
def test_a_size_is_height_and_width(text: str | list[int]) -> None:
    assert parse_size(text) == Size(height=256, width=192)
    assert str(Size(256, 192)) == "256x192"


@pytest.mark.parametrize("text", ["256", "256x", "x192", "0x192", "-1x3", "1.5x2", "256x192x3", "", (256,), "axb"])
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="write HEIGHTxWIDTH"):
        parse_size(text)

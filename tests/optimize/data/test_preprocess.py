from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vtopt.optimize.data.preprocess import (
    crop_window,
    load_labels,
    load_picture,
    prepare_labels,
    prepare_mask,
    prepare_picture,
    restore_picture,
)
from vtopt.optimize.errors import InputError

RED, WHITE, GREY = (255, 0, 0), (255, 255, 255), (128, 128, 128)
ORIENTATION = 0x0112  # the EXIF tag
QUARTER_TURN = 6  # "the top row of the scene is the right column of the file"


def fill(mode: str, colour: int | tuple[int, ...]) -> Image.Image:
    return Image.new(mode, (12, 16), colour)


def palette(**info: object) -> Image.Image:
    picture = fill("P", 1)
    picture.putpalette([*GREY, *RED])
    picture.info.update(info)
    return picture


def sixteen_bit(value: int) -> Image.Image:
    return Image.fromarray(np.full((16, 12), value, np.uint16))


def colour_key() -> Image.Image:
    picture = fill("RGB", RED)
    picture.info["transparency"] = RED
    return picture


KINDS: dict[str, tuple[Callable[[], Image.Image], str, tuple[int, int, int]]] = {
    "RGB stays as it is": (lambda: fill("RGB", RED), "png", RED),
    "grey gets three equal channels": (lambda: fill("L", GREY[0]), "png", GREY),
    "16-bit grey is scaled to 8 bits": (lambda: sixteen_bit(128 * 257), "png", GREY),
    "16-bit grey of a PGM file is scaled to 8 bits": (lambda: sixteen_bit(128 * 257), "pgm", GREY),
    "16-bit grey of a TIFF file is scaled to 8 bits": (lambda: sixteen_bit(128 * 257), "tif", GREY),
    "one bit becomes white": (lambda: fill("1", 1), "png", WHITE),
    "a palette is looked up": (lambda: palette(), "png", RED),
    "a palette's transparent colour is white": (lambda: palette(transparency=1), "png", WHITE),
    "a palette's half transparent colour is mixed with white": (
        lambda: palette(transparency=bytes([255, 51])),
        "png",
        (255, 255 - 51, 255 - 51),
    ),
    "a GIF's transparent colour is white": (lambda: palette(transparency=1), "gif", WHITE),
    "RGB with a transparent colour is white there": (colour_key, "png", WHITE),
    "alpha is composited on white": (lambda: fill("RGBA", (*RED, 51)), "png", (255, 255 - 51, 255 - 51)),
    "grey with alpha is composited on white": (
        lambda: fill("LA", (0, 51)),
        "png",
        (255 - 51, 255 - 51, 255 - 51),
    ),
    "CMYK becomes RGB": (lambda: fill("CMYK", (0, 255, 255, 0)), "jpg", RED),
    "CMYK of a TIFF file becomes RGB": (lambda: fill("CMYK", (0, 255, 255, 0)), "tif", RED),
    "YCbCr of a TIFF file becomes RGB": (lambda: fill("YCbCr", (128, 128, 128)), "tif", GREY),
}


@pytest.mark.parametrize(("make", "suffix", "colour"), KINDS.values(), ids=KINDS.keys())
def test_load_picture(
    make: Callable[[], Image.Image], suffix: str, colour: tuple[int, int, int], tmp_path: Path
) -> None:
    path = tmp_path / f"picture.{suffix}"
    make().save(path)
    picture = load_picture(path)
    assert (picture.mode, picture.size) == ("RGB", (12, 16))
    jpeg_error = 2 if suffix == "jpg" else 0
    np.testing.assert_allclose(np.asarray(picture), np.broadcast_to(colour, (16, 12, 3)), atol=jpeg_error)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_load_picture_turns_upright_by_exif(suffix: str, tmp_path: Path) -> None:
    scene = Image.new("RGB", (32, 48), "white")
    scene.paste((0, 0, 255), (0, 0, 32, 16))  # a blue sky
    exif = Image.Exif()
    exif[ORIENTATION] = QUARTER_TURN
    path = tmp_path / f"phone.{suffix}"
    scene.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    picture = load_picture(path)
    assert picture.size == scene.size
    assert ((np.asarray(picture)[..., 0] > 127) == (np.asarray(scene)[..., 0] > 127)).all()  # red, not in the sky


def encode(format: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, format)
    return stream.getvalue()


def encode_floats() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((4, 3), np.float32)).save(stream, "TIFF")
    return stream.getvalue()


DAMAGED = {
    "a truncated JPEG": (encode("JPEG")[:1500], "cannot be decoded", "intact"),
    "a truncated PNG": (encode("PNG")[:1500], "cannot be decoded", "intact"),
    "a TIFF of floats": (encode_floats(), "floating-point", "8-bit"),
    "text named .jpg": (b"hello, I am a picture\n", "not a picture", "replace it"),
    "an empty file": (b"", "is empty", "replace it"),
}


@pytest.mark.parametrize(("content", "problem", "remedy"), DAMAGED.values(), ids=DAMAGED.keys())
def test_load_picture_refuses(content: bytes, problem: str, remedy: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"damaged\.jpg: .*{problem}.*; .*{remedy}"):
        load_picture(path)


def test_load_picture_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.jpg: .*No such file.*; check its path"):
        load_picture(tmp_path / "absent.jpg")


def test_load_picture_refuses_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{tmp_path.name}: the file cannot be read .*; check its path"):
        load_picture(tmp_path)


def test_load_picture_refuses_a_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.png"
    fill("1", 0).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12 * 16 // 2 - 1)  # PIL raises above twice this
    with pytest.raises(InputError, match=r"bomb\.png: the picture is too large .*; scale it down"):
        load_picture(path)


def ramp(width: int, height: int) -> Image.Image:
    return Image.linear_gradient("L").resize((width, height)).convert("RGB")


SIZES = {
    "a picture of the size itself": (192, 256),
    "a tall picture": (30, 900),
    "a wide picture": (900, 30),
    "one pixel": (1, 1),
    "a column one pixel wide": (1, 500),
    "a row one pixel high": (500, 1),
    "a huge picture": (3000, 4000),
    "odd sides": (191, 257),
}


@pytest.mark.parametrize(("width", "height"), SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("size", [(256, 192), (64, 64), (24, 40), (1, 1)])
def test_prepare_takes_any_picture(width: int, height: int, size: tuple[int, int]) -> None:
    picture = ramp(width, height)
    array, mask = prepare_picture(picture, size), prepare_mask(picture, size)
    assert array.shape == (3, *size)
    assert mask.shape == (1, *size)
    assert array.dtype == mask.dtype == np.float32
    assert array.flags.c_contiguous
    assert -1 <= array.min() <= array.max() <= 1
    assert set(np.unique(mask)) <= {0, 1}


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_prepare_picture_scales_to_plus_and_minus_one() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    array = prepare_picture(Image.fromarray(levels), (16, 16))
    expected = (np.arange(256) - 127.5) / 127.5
    np.testing.assert_allclose(array, np.broadcast_to(expected.reshape(16, 16), (3, 16, 16)), atol=1e-7)
    assert (array.min(), array.max()) == (-1, 1)


@pytest.mark.parametrize(
    ("width", "height"),
    [(192 + 50, 256), (192, 256 + 51), (192, 256)],
    ids=["too wide", "too tall", "as asked"],
)
def test_prepare_picture_crops_about_the_centre(width: int, height: int) -> None:
    pixels = noise(height, width)
    top, left = (height - 256) // 2, (width - 192) // 2
    array = prepare_picture(Image.fromarray(pixels), (256, 192))
    assert (restore_picture(array) == pixels[top : top + 256, left : left + 192]).all()


def test_prepare_picture_averages_on_the_way_down() -> None:
    checks = Image.fromarray(np.indices((640, 480)).sum(0).astype(np.uint8) % 2 * 255)
    array = prepare_picture(checks, (64, 48))
    np.testing.assert_allclose(array, 0, atol=2 / 127.5)


def test_prepare_picture_takes_any_mode() -> None:
    clear = Image.new("RGBA", (12, 16), (0, 0, 0, 0))
    assert (prepare_picture(clear, (16, 12)) == 1).all()


@pytest.mark.parametrize(("grey", "value"), [(0, 0), (127, 0), (128, 1), (255, 1)])
def test_prepare_mask_is_one_above_one_half(grey: int, value: int) -> None:
    assert (prepare_mask(fill("L", grey), (8, 6)) == value).all()


def test_prepare_mask_lies_on_its_picture() -> None:
    picture = Image.new("RGB", (301, 350))
    picture.paste(WHITE, (70, 101, 163, 222))
    mask, array = prepare_mask(picture, (64, 48)), prepare_picture(picture, (64, 48))
    assert (mask == (array[:1] > 0)).all()
    assert 0 < mask.mean() < 1


def test_prepare_labels_keeps_labels_whole_and_lies_on_its_picture() -> None:
    labels = np.zeros((350, 301), np.uint8)
    labels[101:222, 70:163] = 2
    picture, classes = Image.fromarray(labels), (0, 1, 1, 3)
    prepared, mask = (
        prepare_labels(picture, (64, 48), classes),
        prepare_mask(Image.fromarray(np.where(labels == 2, 255, 0).astype(np.uint8)), (64, 48)),
    )
    assert (prepared.shape, prepared.dtype) == ((4, 64, 48), np.float32)
    assert (prepared.sum(0) == 1).all()
    assert (prepared[2:] == 0).all()
    assert np.abs(prepared[1] - mask[0]).mean() < 0.02


def test_prepare_labels_refuses_a_label_without_a_class() -> None:
    with pytest.raises(ValueError, match="label 3 is not known; labels go from 0 to 2"):
        prepare_labels(Image.fromarray(np.full((4, 3), 3, np.uint8)), (4, 3), (0, 1, 2))


@pytest.mark.parametrize("mode", ["P", "L"])
def test_load_labels_takes_the_numbers(mode: str, tmp_path: Path) -> None:
    labels = np.arange(12, dtype=np.uint8).reshape(4, 3)
    picture = Image.fromarray(labels)
    if mode == "P":
        picture.putpalette(noise(16, 16).tobytes())
    picture.save(tmp_path / "labels.png")
    assert Image.open(tmp_path / "labels.png").mode == mode
    assert np.array_equal(np.asarray(load_labels(tmp_path / "labels.png")), labels)


@pytest.mark.parametrize(("mode", "suffix"), [("RGB", "png"), ("L", "jpg")])
def test_load_labels_refuses(mode: str, suffix: str, tmp_path: Path) -> None:
    fill("L", 3).convert(mode).save(tmp_path / f"labels.{suffix}")
    with pytest.raises(InputError, match=rf"labels\.{suffix}: its pixels are colours, no labels; save it as a PNG"):
        load_labels(tmp_path / f"labels.{suffix}")


@pytest.mark.parametrize("size", [(16, 12), (7, 13), (1, 1)])
def test_restore_picture_undoes_prepare_picture(size: tuple[int, int]) -> None:
    pixels = noise(*size)
    array = prepare_picture(Image.fromarray(pixels), size)
    assert (restore_picture(array) == pixels).all()
    assert (restore_picture(array[np.newaxis]) == pixels).all()


def test_restore_picture_clamps_and_rounds() -> None:
    values = np.array([-np.inf, -1.5, -1, (100.4 - 127.5) / 127.5, (100.6 - 127.5) / 127.5, 1, 1.5, np.inf])
    picture = restore_picture(np.broadcast_to(values, (3, 1, 8)))
    assert picture.dtype == np.uint8
    assert picture.shape == (1, 8, 3)
    assert picture[0, :, 0].tolist() == [0, 0, 0, 100, 101, 255, 255, 255]


@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5), (2, 3, 4, 5), (4, 5, 3)])
def test_restore_picture_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(3, H, W\) or \(1, 3, H, W\), not"):
        restore_picture(np.zeros(shape, np.float32))


@pytest.mark.parametrize("size", [(256, 192), (64, 64), (30, 40)])
@pytest.mark.parametrize(("width", "height"), [(192, 256), (1000, 10), (10, 1000), (333, 334), (1, 1), (1, 9)])
def test_crop_window(width: int, height: int, size: tuple[int, int]) -> None:
    left, top, right, bottom = crop_window(width, height, size)
    scale = min(width / size[1], height / size[0])  # the largest that fits
    assert right - left == max(1, round(size[1] * scale))
    assert bottom - top == max(1, round(size[0] * scale))
    assert left == (width - (right - left)) // 2
    assert top == (height - (bottom - top)) // 2

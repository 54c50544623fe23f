from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vtopt.optimize.data import pairs as pairs_module
from vtopt.optimize.data import pictures as pictures_module
from vtopt.optimize.data.pairs import Pair, hash_pairs, open_pairs
from vtopt.optimize.data.pictures import PICTURES, find_picture
from vtopt.optimize.data.preprocess import load_picture, prepare_picture, restore_picture
from vtopt.optimize.data.synthetic import draw_pair, write_pairs
from vtopt.optimize.errors import InputError

SIZE = (32, 24)
VITON = Path(__file__).parents[3] / ".." / "shared" / "viton"


def paint(shade: int) -> NDArray[np.uint8]:
    return np.full((*SIZE, 3), shade, np.uint8)


def make_folder(folder: Path, count: int = 3, *, edge: bool = False, truth: bool = False, hidden: bool = False) -> Path:
    """Pair number n is p{n}.png of the shade n and c{n}.png of the shade 100 + n."""
    folders = ["test_img", "test_clothes", *["test_edge"] * edge, *["test_truth"] * truth]
    folders += ["test_pose", "test_agnostic"] * hidden
    for number in range(count):
        names = {"test_clothes": "c", "test_edge": "c"}
        shades = {
            "test_img": number,
            "test_clothes": 100 + number,
            "test_edge": 255,
            "test_truth": 200 + number,
            "test_pose": 50 + number,
            "test_agnostic": 150 + number,
        }
        for place in folders:
            (folder / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(paint(shades[place])).save(folder / place / f"{names.get(place, 'p')}{number}.png")
    write_list(folder, "".join(f"p{number}.png c{number}.png\n" for number in range(count)))
    return folder


def write_list(folder: Path, text: str) -> None:
    (folder / "test_pairs.txt").write_bytes(text.encode())


def get_shades(pair: Pair) -> tuple[int, int]:
    return int(restore_picture(pair.person)[0, 0, 0]), int(restore_picture(pair.clothes)[0, 0, 0])


def test_open_pairs_reads_a_folder(tmp_path: Path) -> None:
    pairs = open_pairs(make_folder(tmp_path), SIZE)
    assert len(pairs) == 3
    assert [pair.name for pair in pairs] == ["p0-c0", "p1-c1", "p2-c2"]
    assert [get_shades(pair) for pair in pairs] == [(number, 100 + number) for number in range(3)]
    assert (pairs[0].edge, pairs[0].truth) == (None, None)
    assert pairs[-1].name == "p2-c2"
    assert [pair.name for pair in pairs[1:]] == ["p1-c1", "p2-c2"]
    with pytest.raises(IndexError):
        pairs[3]


def test_open_pairs_reads_edges_and_truths(tmp_path: Path) -> None:
    for number, pair in enumerate(open_pairs(make_folder(tmp_path, edge=True, truth=True), SIZE)):
        assert pair.edge is not None
        assert pair.truth is not None
        assert (pair.edge.shape, pair.edge.min()) == ((1, *SIZE), 1)
        assert (restore_picture(pair.truth) == 200 + number).all()


def test_open_pairs_reads_poses_and_agnostic_persons(tmp_path: Path) -> None:
    for number, pair in enumerate(open_pairs(make_folder(tmp_path, hidden=True), SIZE)):
        assert pair.pose is not None
        assert pair.agnostic is not None
        assert (restore_picture(pair.pose) == 50 + number).all()
        assert (restore_picture(pair.agnostic) == 150 + number).all()


def add_labels(folder: Path, place: str, label: int, name: str = "p0.png") -> None:
    (folder / place).mkdir()
    Image.fromarray(np.full(SIZE, label, np.uint8)).convert("P").save(folder / place / name)


def test_open_pairs_reads_further_pictures_when_asked_for(tmp_path: Path) -> None:
    make_folder(tmp_path, 1)
    (tmp_path / "test_densepose").mkdir()
    Image.fromarray(paint(77)).save(tmp_path / "test_densepose" / "p0.png")
    add_labels(tmp_path, "test_parse_agnostic", 9)
    add_labels(tmp_path, "test_parse", 5)
    pair = open_pairs(tmp_path, SIZE)[0]
    for name, place in (("parse_agnostic", 4), ("parse", 2), ("layout", 3)):
        classes = pair.get(name)
        assert classes is not None
        assert classes.shape[1:] == SIZE
        assert (classes.argmax(0) == place).all()
    densepose = pair.get("densepose")
    assert densepose is not None
    assert (restore_picture(densepose) == 77).all()
    assert pair.get("joints") is None
    (tmp_path / "test_densepose" / "p0.png").unlink()
    with pytest.raises(InputError, match=r"test_densepose.p0\.png: .*No such file"):
        pair.get("densepose")


def test_open_pairs_reads_joints_at_their_places_in_the_person(tmp_path: Path) -> None:
    make_folder(tmp_path, 1)
    (tmp_path / "test_joints").mkdir()
    joints = {"people": [{"pose_keypoints_2d": [5.5, 7.5, 1] * 18}]}
    (tmp_path / "test_joints" / "p0_keypoints.json").write_text(json.dumps(joints))
    maps = open_pairs(tmp_path, SIZE)[0].get("joints")
    assert maps is not None
    assert maps.shape == (18, *SIZE)
    assert (maps[:, 7, 5] == 1).all()


def test_open_pairs_prefers_the_labels_of_the_truth(tmp_path: Path) -> None:
    make_folder(tmp_path, 1)
    add_labels(tmp_path, "test_parse", 5)
    add_labels(tmp_path, "test_truth_parse", 14)
    pair = open_pairs(tmp_path, SIZE)[0]
    parse, layout = pair.get("parse"), pair.get("layout")
    assert parse is not None
    assert layout is not None
    assert (parse[4] == 1).all()
    assert (layout[3] == 1).all()


def test_open_pairs_takes_other_endings_of_optional_pictures(tmp_path: Path) -> None:
    make_folder(tmp_path, 1)
    (tmp_path / "test_img" / "p0.png").rename(tmp_path / "test_img" / "p0.jpeg")
    write_list(tmp_path, "p0.jpeg c0.png\n")
    add_labels(tmp_path, "test_parse", 5)
    assert open_pairs(tmp_path, SIZE)[0].get("layout") is not None


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Image.fromarray(paint(3)), r"its pixels are colours, no labels; save it as a PNG with a palette"),
        (Image.fromarray(paint(20)[..., 0]), r"label 20 is not known; .* write the 20 labels of person parsing"),
    ],
    ids=["colours", "a label too high"],
)
def test_pairs_refuse_labels_that_are(picture: Image.Image, message: str, tmp_path: Path) -> None:
    make_folder(tmp_path, 1)
    (tmp_path / "test_parse").mkdir()
    picture.save(tmp_path / "test_parse" / "p0.png")
    with pytest.raises(InputError, match=rf"test_parse.p0\.png: {message}"):
        open_pairs(tmp_path, SIZE)[0].get("layout")


def test_open_pairs_wants_a_further_folder_whole(tmp_path: Path) -> None:
    add_labels(make_folder(tmp_path, 2), "test_parse", 5)
    with pytest.raises(InputError, match=r"1 of 6 pictures are missing: test_parse/p1\.png; add .* out as a whole"):
        open_pairs(tmp_path, SIZE)


def test_hash_pairs_changes_with_further_pictures(tmp_path: Path) -> None:
    before = hash_pairs(make_folder(tmp_path, 1), SIZE)
    add_labels(tmp_path, "test_parse", 5)
    assert hash_pairs(tmp_path, SIZE) != before


@pytest.mark.parametrize(("count", "length"), [(None, 3), (1, 1), (3, 3), (99, 3)])
def test_open_pairs_takes_the_first_of_a_folder(count: int | None, length: int, tmp_path: Path) -> None:
    names = [pair.name for pair in open_pairs(make_folder(tmp_path), SIZE, count)]
    assert names == [f"p{number}-c{number}" for number in range(length)]


LISTS = {
    "Windows line ends": "p0.png c0.png\r\np1.png c2.png\r\n",
    "no line end at the end": "p0.png c0.png\np1.png c2.png",
    "blank lines": "\n\np0.png c0.png\n   \n\t\np1.png c2.png\n\n",
    "comments": "# persons, clothes\np0.png c0.png # the first\n  # none here\np1.png c2.png\n",
    "tabs and extra spaces": "  p0.png\t\tc0.png  \n\tp1.png   c2.png\n",
    "a byte order mark": "\ufeffp0.png c0.png\np1.png c2.png\n",
}


@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS.keys())
def test_open_pairs_tolerates_in_the_list(text: str, tmp_path: Path) -> None:
    write_list(make_folder(tmp_path), text)
    assert [get_shades(pair) for pair in open_pairs(tmp_path, SIZE)] == [(0, 100), (1, 102)]


def test_open_pairs_takes_one_picture_many_times(tmp_path: Path) -> None:
    write_list(make_folder(tmp_path), "p0.png c0.png\np0.png c1.png\np0.png c0.png\n")
    assert [pair.name for pair in open_pairs(tmp_path, SIZE)] == ["p0-c0", "p0-c1", "p0-c0"]


def test_open_pairs_takes_a_hash_inside_a_name(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "test_img" / "p0.png").rename(tmp_path / "test_img" / "p#0.png")
    write_list(tmp_path, "p#0.png c0.png\n")
    assert open_pairs(tmp_path, SIZE)[0].name == "p#0-c0"


BAD_LISTS = {
    "one name": ("p0.png c0.png\n\np1.png\n", r"line 3: 'p1\.png' is not two names; write PERSON CLOTHES"),
    "three names": ("p0.png c0.png 1\n", r"line 1: .* is not two names; write PERSON CLOTHES"),
    "a way up": ("p0.png ../c0.png\n", r"line 1: '\.\./c0\.png' leaves the folder; name a picture inside"),
    "a way up inside": ("a/../../p0.png c0.png\n", r"line 1: .* leaves the folder"),
    "a way up, on Windows": ("p0.png ..\\c0.png\n", r"line 1: .* leaves the folder"),
    "an absolute name": ("p0.png c0.png\n/etc/p1.png c1.png\n", r"line 2: .* leaves the folder"),
    "a drive": ("C:p0.png c0.png\n", r"line 1: .* leaves the folder"),
    "no pair": (
        "# nothing\n\n",
        r"lists no pairs; write a line PERSON CLOTHES per pair into test_pairs\.txt",
    ),
    "nothing": ("", r"lists no pairs; write a line"),
    "a zero byte": ("p0\0.png c0.png\n", r"line 1: .* is not a file name; save the list as UTF-8 text"),
}


@pytest.mark.parametrize(("text", "message"), BAD_LISTS.values(), ids=BAD_LISTS.keys())
def test_open_pairs_refuses_in_the_list(text: str, message: str, tmp_path: Path) -> None:
    write_list(make_folder(tmp_path), text)
    with pytest.raises(InputError, match=message) as caught:
        open_pairs(tmp_path, SIZE)
    assert str(tmp_path) in str(caught.value)


def test_open_pairs_refuses_a_list_that_is_not_text(tmp_path: Path) -> None:
    (make_folder(tmp_path) / "test_pairs.txt").write_bytes("p0.png c0.png\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"test_pairs\.txt: the list cannot be read .*; save it as UTF-8"):
        open_pairs(tmp_path, SIZE)


def test_open_pairs_names_all_missing_pictures(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "test_img" / "p1.png").unlink()
    (tmp_path / "test_clothes" / "c2.png").unlink()
    with pytest.raises(InputError) as caught:
        open_pairs(tmp_path, SIZE, 1)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: 2 of {2 * 3} pictures are missing: ")
    assert "test_img/p1.png, test_clothes/c2.png; add them, or leave their pairs out" in message


def test_open_pairs_counts_many_missing_pictures(tmp_path: Path) -> None:
    make_folder(tmp_path, count=12)
    shutil.rmtree(tmp_path / "test_clothes")
    with pytest.raises(InputError, match=rf"12 of {2 * 12} .*/c0\.png, .*/c4\.png and {12 - 5} more;"):
        open_pairs(tmp_path, SIZE)


@pytest.mark.parametrize("place", ["test_edge/c1.png", "test_truth/p1.png"])
def test_open_pairs_wants_optional_folders_whole(place: str, tmp_path: Path) -> None:
    make_folder(tmp_path, edge=True, truth=True)
    (tmp_path / place).unlink()
    with pytest.raises(InputError, match=rf"missing: {place}; add .* an optional folder out as a whole"):
        open_pairs(tmp_path, SIZE)


def test_open_pairs_refuses_a_folder_that_is_absent(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent: there is no such folder; give one in VITON's layout"):
        open_pairs(tmp_path / "absent", SIZE)


@pytest.mark.parametrize(
    ("size", "count", "seed"),
    [(SIZE, 0, 0), (SIZE, -1, 0), ((0, 24), 1, 0), (SIZE, 1, -1)],
    ids=["no pair", "a negative count", "no height", "a negative seed"],
)
def test_open_pairs_refuses_a_request_of(size: tuple[int, int], count: int, seed: int) -> None:
    with pytest.raises(InputError, match="size and count begin at 1, seed at 0"):
        open_pairs(None, size, count, seed=seed)


def make_stems(folder: Path, persons: list[str], clothes: list[str]) -> Path:
    for place, names in (("test_img", persons), ("test_clothes", clothes)):
        (folder / place).mkdir(parents=True)
        for shade, name in enumerate(names):
            Image.fromarray(paint(shade)).save(folder / place / name)
    return folder


def test_open_pairs_matches_stems_without_a_list(tmp_path: Path) -> None:
    make_stems(tmp_path, ["b.png", "a.png", "a-1.png"], ["a-1.jpg", "a.jpg", "b.jpg"])
    (tmp_path / "test_img" / "Thumbs.db").write_bytes(b"no picture")
    (tmp_path / "test_img" / "._a.png").write_bytes(b"no picture")
    assert [pair.name for pair in open_pairs(tmp_path, SIZE)] == ["a-a", "a-1-a-1", "b-b"]


@pytest.mark.parametrize(
    ("persons", "clothes", "reason"),
    [
        (["a_0.png"], ["a_1.png"], r"without a partner: a_0, a_1"),
        (["a.png", "b.png"], ["b.png"], r"without a partner: a"),
        (["a.png", "a.jpg"], ["a.png"], r"some stems occur twice"),
    ],
    ids=["other stems", "one more person", "two persons of one stem"],
)
def test_open_pairs_wants_a_list_for(persons: list[str], clothes: list[str], reason: str, tmp_path: Path) -> None:
    make_stems(tmp_path, persons, clothes)
    with pytest.raises(InputError, match=rf"no test_pairs\.txt.*\({reason}\); write test_pairs\.txt with"):
        open_pairs(tmp_path, SIZE)


def test_open_pairs_refuses_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"test_img: there is no such folder; .* with test_pairs\.txt"):
        open_pairs(tmp_path, SIZE)


def test_pairs_load_when_asked_for(tmp_path: Path) -> None:
    pairs = open_pairs(make_folder(tmp_path), SIZE)
    (tmp_path / "test_img" / "p1.png").unlink()
    assert pairs[0].name == "p0-c0"
    assert pairs[2].name == "p2-c2"
    with pytest.raises(InputError, match=r"p1\.png: .*No such file"):
        pairs[1]


def test_pairs_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(path: Path) -> Image.Image:
        loaded.append(path.name)
        return load_picture(path)

    monkeypatch.setattr(pictures_module, "load_picture", load)
    pairs = open_pairs(make_folder(tmp_path), SIZE)
    assert loaded == []
    assert pairs[1] is not pairs[1]
    assert loaded == ["p1.png", "c1.png"] * 2


def test_pairs_travel_to_other_processes(tmp_path: Path) -> None:
    pairs = pickle.loads(pickle.dumps(open_pairs(make_folder(tmp_path), SIZE)))
    assert [get_shades(pair) for pair in pairs] == [(number, 100 + number) for number in range(3)]


def test_open_pairs_draws_without_a_folder() -> None:
    pairs = open_pairs(None, SIZE, 2, seed=7)
    assert [pair.name for pair in pairs] == ["drawn-000007", "drawn-000008"]
    for seed, pair in enumerate(pairs, start=7):
        drawn = draw_pair(seed, SIZE)
        assert pair.edge is None
        assert pair.truth is not None
        assert (restore_picture(pair.person) == drawn.person).all()
        assert (restore_picture(pair.clothes) == drawn.clothes).all()
        assert (restore_picture(pair.truth) == drawn.truth).all()


def test_open_pairs_draws_eight_by_default() -> None:
    assert len(open_pairs(None)) == 8
    assert open_pairs(None, SIZE)[-1].name == "drawn-000007"


@pytest.mark.parametrize("size", [(40, 40), (16, 12), (24, 40)], ids=["square", "small", "wide"])
def test_open_pairs_draws_any_size(size: tuple[int, int]) -> None:
    pair = open_pairs(None, size, 1)[0]
    unit = max(-(-size[0] // 4), -(-size[1] // 3), 8)  # 4:3, covering size, no smaller than 32x24
    drawn = Image.fromarray(draw_pair(0, (4 * unit, 3 * unit)).person)
    assert pair.person.shape == (3, *size)
    assert (pair.person == prepare_picture(drawn, size)).all()


def test_written_pairs_open_as_drawn(tmp_path: Path) -> None:
    drawn, written = open_pairs(None, SIZE, 2), open_pairs(write_pairs(tmp_path, 2, size=SIZE), SIZE)
    for left, right in zip(drawn, written, strict=True):
        for name in PICTURES:
            assert (left.get(name) is None) == (right.get(name) is None)
            assert (find_picture(left, name) == find_picture(right, name)).all(), name


def test_hash_pairs_is_of_the_content_not_the_place(tmp_path: Path) -> None:
    one, other = make_folder(tmp_path / "one", edge=True), make_folder(tmp_path / "other", edge=True)
    (other / "test_img" / "unused.png").write_bytes(b"")
    write_list(other, "# the same pairs\r\n" + (one / "test_pairs.txt").read_text())
    assert hash_pairs(one, SIZE, None) == hash_pairs(other, SIZE, 3)
    assert len(hash_pairs(one, SIZE, None)) == 256 // 4


@pytest.mark.parametrize(
    "place",
    [
        *("test_img/p1.png", "test_clothes/c1.png", "test_edge/c1.png"),
        *("test_truth/p1.png", "test_pose/p1.png", "test_agnostic/p1.png"),
    ],
)
def test_hash_pairs_changes_with_a_used_file(place: str, tmp_path: Path) -> None:
    make_folder(tmp_path, edge=True, truth=True, hidden=True)
    before, first = hash_pairs(tmp_path, SIZE), hash_pairs(tmp_path, SIZE, 1)
    with (tmp_path / place).open("ab") as opened:
        opened.write(b"\0")
    assert hash_pairs(tmp_path, SIZE) != before
    assert hash_pairs(tmp_path, SIZE, 1) == first


def test_hash_pairs_changes_with_the_list_the_size_and_the_count(tmp_path: Path) -> None:
    make_folder(tmp_path, count=2)
    hashes = {hash_pairs(tmp_path, SIZE), hash_pairs(tmp_path, (64, 48)), hash_pairs(tmp_path, SIZE, 1)}
    write_list(tmp_path, "p0.png c1.png\np1.png c0.png\n")
    assert len(hashes | {hash_pairs(tmp_path, SIZE)}) == 4


def test_hash_pairs_changes_with_what_is_drawn() -> None:
    requests = [(SIZE, None, 0), (SIZE, 9, 0), (SIZE, 8, 1), ((64, 48), 8, 0)]
    assert len({hash_pairs(None, size, count, seed=seed) for size, count, seed in requests}) == len(requests)
    assert hash_pairs(None, SIZE) == hash_pairs(None, SIZE, 8)


def test_hash_pairs_changes_with_the_drawing_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(pairs_module.__file__).parent
    shutil.copytree(source, tmp_path / "data")
    before = hash_pairs(None, SIZE)
    monkeypatch.setattr(pairs_module, "__file__", str(tmp_path / "data" / "pairs.py"))
    assert hash_pairs(None, SIZE) == before
    (tmp_path / "data" / "drawing" / "body.py").write_text("# redrawn\n")
    assert hash_pairs(None, SIZE) != before


def test_hash_pairs_refuses_what_open_pairs_refuses(tmp_path: Path) -> None:
    (make_folder(tmp_path) / "test_clothes" / "c1.png").unlink()
    with pytest.raises(InputError, match=r"missing: test_clothes/c1\.png"):
        hash_pairs(tmp_path, SIZE, None)


@pytest.mark.skipif(not VITON.is_dir(), reason="the four VITON pairs are not here")
def test_open_pairs_reads_viton() -> None:
    pairs = open_pairs(VITON)
    assert len(pairs) == 4
    for pair in pairs:
        assert pair.edge is not None
        assert pair.person.shape == pair.clothes.shape == (3, 256, 192)
        assert pair.edge.shape == (1, 256, 192)
        garment, background = pair.edge[0] == 1, pair.edge[0] == 0
        assert garment.any()
        assert pair.clothes[:, background].mean() > 0.9  # garments lie on white, and the edge says where
        assert pair.clothes[:, garment].mean() < pair.clothes[:, background].mean()

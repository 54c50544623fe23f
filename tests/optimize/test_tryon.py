"""vtopt tryon: every registered network makes a picture from named files, as from a folder of pairs."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_registered import SMALL, build_small

from vtopt.benchmarks.engines import feeds
from vtopt.benchmarks.engines.engine import infer_picture, open_engine
from vtopt.optimize.cli import tryon_command
from vtopt.optimize.data.pairs import open_pairs
from vtopt.optimize.data.pictures import PICTURES, name_written
from vtopt.optimize.data.preprocess import restore_picture
from vtopt.optimize.data.synthetic import write_pairs
from vtopt.optimize.errors import InputError, UsageError
from vtopt.optimize.tryon import make_tryon, parse_pictures
from vtopt.optimize.weights import describe_network, save_weights

FILES = {name: name_written(kind, "000000_0.png", "000000_1.png") for name, kind in PICTURES.items() if kind.write}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("drawn") / "pairs", 1, size=(64, 48))


def _write_weights(path: Path, name: str) -> Path:
    network = build_small(name)
    save_weights(network.module.state_dict(), path, describe_network(name, network))
    return path


@pytest.mark.parametrize("name", SMALL)
def test_tryon_makes_of_files_what_pairs_give(name: str, folder: Path, tmp_path: Path) -> None:
    model = _write_weights(tmp_path / "net.safetensors", name)
    files = {key: folder / file for key, file in FILES.items() if key not in ("person", "clothes", "truth")}
    clothes = None if name.startswith("completion") else folder / FILES["clothes"]
    made = make_tryon(model, folder / FILES["person"], clothes, tmp_path / "out.png", pictures=files)
    engine = open_engine(model)
    expected = infer_picture(engine, open_pairs(folder, engine.size)[0])
    assert np.array_equal(np.asarray(Image.open(made)), restore_picture(expected))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sdafn_plus_tiny", r"net\.safetensors: is also fed by clothes; pass --clothes FILE$"),
        ("pfafn", r"is also fed by clothes; pass --clothes FILE$"),
        (
            "hrviton_tocg",
            r"is also fed by clothes, parse_agnostic; pass --clothes FILE --picture parse_agnostic=FILE$",
        ),
        (
            "completion",
            r"is also fed by layout, joints; pass --picture layout=FILE --picture joints=FILE$",
        ),
    ],
)
def test_tryon_names_every_picture_to_give(name: str, message: str, folder: Path, tmp_path: Path) -> None:
    model = _write_weights(tmp_path / "net.safetensors", name)
    with pytest.raises(InputError, match=message):
        make_tryon(model, folder / FILES["person"], None, tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_tryon_says_how_to_give_what_the_person_stands_in_for(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    feeds._announce_stand_in.cache_clear()
    model = _write_weights(tmp_path / "net.safetensors", "sdafn_tiny")
    make_tryon(model, folder / FILES["person"], folder / FILES["clothes"], tmp_path / "out.png")
    said = " ".join(capsys.readouterr().err.split())
    assert "wants pose and agnostic, which is not given: the person stands in" in said
    assert "pass --picture pose=FILE --picture agnostic=FILE" in said


def test_an_edge_is_the_same_picture_either_way(folder: Path, tmp_path: Path) -> None:
    model = _write_weights(tmp_path / "net.safetensors", "pfafn")
    person, clothes, edge = folder / FILES["person"], folder / FILES["clothes"], tmp_path / "edge.png"
    Image.fromarray(np.pad(np.full((32, 24), 255, np.uint8), ((16, 16), (12, 12)))).save(edge)
    given = {"option": {"edge": edge}, "picture": {"pictures": {"edge": edge}}, "neither": {}}
    made = {
        way: make_tryon(model, person, clothes, tmp_path / f"{way}.png", **settings).read_bytes()
        for way, settings in given.items()
    }
    assert made["option"] == made["picture"] != made["neither"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["parse"], r"^--picture 'parse': write NAME=FILE"),
        (["=a.png"], r"write NAME=FILE"),
        (
            ["depth=a.png"],
            r"picture 'depth': is not read from a file; choose among person, .*hole$",
        ),
        (["z=a.png"], r"picture 'z': is not read from a file"),
        (["parse=a.png", "parse=b.png"], r"picture 'parse': is given twice"),
    ],
)
def test_pictures_are_refused(texts: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_pictures(texts)


def test_a_picture_with_an_option_of_its_own_is_not_given_twice(small_onnx: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    with pytest.raises(UsageError, match="picture 'edge': is given twice"):
        make_tryon(small_onnx, file, file, tmp_path / "out.png", edge=file, pictures={"edge": file})


def test_pictures_are_read_as_they_are_written() -> None:
    assert parse_pictures(["parse=a=b.png", "joints=c.json"]) == {"parse": Path("a=b.png"), "joints": Path("c.json")}


def test_help_names_every_picture_that_has_no_option() -> None:
    (option,) = inspect.signature(tryon_command, eval_str=True).parameters["picture"].annotation.__metadata__
    for name, kind in PICTURES.items():
        if kind.read and name not in ("person", "clothes", "edge", "truth"):
            assert f"{name}," in option.help or f"{name} " in option.help or f"{name};" in option.help

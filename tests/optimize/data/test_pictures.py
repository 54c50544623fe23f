"""The pictures of a pair: which there are, how they are drawn, and what is made of what."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import get_args

import numpy as np
import pytest
import torch

from vtopt.optimize.data.derived import MARGIN, NEAR_WHITE, derive_edge, find_edge
from vtopt.optimize.data.drawing.scene import open_scene, show_agnostic, show_person_labels
from vtopt.optimize.data.labels import Label
from vtopt.optimize.data.pairs import Pair, open_pairs
from vtopt.optimize.data.pictures import PICTURES, find_picture, stands_in
from vtopt.optimize.errors import InputError
from vtopt.optimize.networks import registry

SIZE = (64, 48)


@cache
def draw(seed: int = 0, size: tuple[int, int] = SIZE) -> Pair:
    return open_pairs(None, size, 1, seed=seed)[0]


def bare() -> Pair:
    """A pair of which only person and clothes are given."""
    return Pair("p-c", draw().person, draw().clothes, None, None)


def test_every_picture_that_an_input_can_name_is_there() -> None:
    assert set(get_args(registry.Picture)) <= set(PICTURES)


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("size", [SIZE, (40, 40)])
def test_every_picture_is_drawn(name: str, size: tuple[int, int]) -> None:
    picture = find_picture(draw(0, size), name)
    assert (picture.shape, picture.dtype) == ((PICTURES[name].channels, *size), np.float32)
    assert np.isfinite(picture).all()
    assert name == "z" or -1 <= picture.min() < picture.max() <= 1
    assert np.array_equal(picture, find_picture(open_pairs(None, size, 1)[0], name))


@pytest.mark.parametrize("name", ["parse_agnostic", "parse", "layout"])
def test_classes_are_one_hot(name: str) -> None:
    picture = find_picture(draw(), name)
    assert set(np.unique(picture)) == {0, 1}
    assert (picture.sum(0) == 1).all()


@pytest.mark.parametrize("seed", range(4))
def test_drawn_agnostic_classes_show_nothing_of_what_is_hidden(seed: int) -> None:
    pair = draw(seed)
    classes, hole = find_picture(pair, "parse_agnostic"), find_picture(pair, "hole")[0] == 1
    assert classes[3].max() == 0  # the garment
    assert 0.1 < hole.mean() < 0.6
    assert (classes[0][hole] == 1).all()
    layout = find_picture(pair, "layout")
    assert layout[3][~hole].max() == 0
    for kept in (1, 4):  # hair, and what is worn below, have the same numbers in both
        assert np.array_equal(layout[kept][~hole], classes[kept][~hole])


def test_drawn_hole_is_where_the_agnostic_person_is_grey() -> None:
    scene = open_scene(3, SIZE)
    grey = (show_agnostic(scene) == 128).all(axis=2)
    hole = find_picture(draw(3), "hole")[0] == 1
    assert not (grey & ~hole).any()
    assert (hole & ~grey).mean() < 0.05  # soft edges


def test_drawn_labels_tell_the_persons_own_left_from_right() -> None:
    labels = show_person_labels(open_scene(0, SIZE))
    columns = np.arange(SIZE[1])
    left, right = (columns[(labels == label).any(axis=0)].mean() for label in (Label.LEFT_ARM, Label.RIGHT_ARM))
    assert right < left


def test_drawn_joints_lie_on_the_person() -> None:
    pair = draw(1)
    joints, layout = find_picture(pair, "joints"), find_picture(pair, "layout")
    seen = [n for n in range(len(joints)) if joints[n].max() > 0]
    assert len(seen) == 14  # knees and ankles are below the picture
    places = {n: np.unravel_index(joints[n].argmax(), SIZE) for n in seen}
    assert all(layout[0][place] == 0 for place in places.values())
    for n in (0, 14, 15):  # nose and eyes
        assert layout[2][places[n]] == 1


def test_densepose_covers_the_body_and_nothing_else() -> None:
    pair = draw(2)
    body = (find_picture(pair, "densepose") > -1).any(axis=0)
    silhouette = find_picture(pair, "representation")[-1] == 1
    assert (body & ~silhouette).mean() < 0.04  # soft edges, and what is between the legs
    assert body.sum() > 0.6 * silhouette.sum()


def test_representation_is_joints_and_silhouette() -> None:
    pair = draw()
    representation = find_picture(pair, "representation")
    assert np.array_equal(representation[:-1], find_picture(pair, "joints"))
    assert np.array_equal(representation[-1], 1 - find_picture(pair, "layout")[0])


def test_painted_layout_is_what_the_shape_stage_paints() -> None:
    import torch

    from vtopt.optimize.networks import build_network

    stage = build_network("completion_shape", {"first": 4, "most": 8}).module
    painted = stage.paint(torch.from_numpy(find_picture(draw(), "layout"))[None])[0]
    np.testing.assert_allclose(find_picture(draw(), "painted_layout"), painted, atol=1e-6)


def test_garments_are_cut_from_the_person_on_black() -> None:
    pair = draw()
    garments, below = find_picture(pair, "garments"), find_picture(pair, "layout")[4] == 1
    np.testing.assert_allclose(garments[:3, below], pair.person[:, below], atol=1e-6)
    assert (garments[:3, ~below] == -1).all()
    assert (garments[3:] == -1).all()  # drawn persons end above the shoes


def test_codes_are_normal_and_differ_between_persons() -> None:
    one, other = find_picture(draw(0), "z"), find_picture(draw(1), "z")
    assert abs(one.mean()) < 0.05
    assert one.std() == pytest.approx(1, abs=0.05)
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.05


def test_hole_is_made_of_the_layout_with_a_margin() -> None:
    layout = np.zeros((8, *SIZE), np.float32)
    layout[0] = 1
    layout[:, 20:30, 10:20] = np.eye(8, dtype=np.float32)[3, :, None, None]
    pair = replace(bare(), load_further={"layout": layout}.get)
    reach = round(MARGIN * SIZE[0])
    expected = np.zeros(SIZE)
    expected[20 - reach : 30 + reach, 10 - reach : 20 + reach] = 1
    assert np.array_equal(find_picture(pair, "hole")[0], expected)


@pytest.mark.parametrize("name", ["pose", "agnostic", "densepose"])
def test_the_person_stands_in_for(name: str) -> None:
    assert stands_in(bare(), name)
    assert find_picture(bare(), name) is bare().person
    assert not stands_in(draw(), name)


@pytest.mark.parametrize(
    ("name", "missing", "folder"),
    [
        ("truth", "truth", "test_truth"),
        ("parse_agnostic", "parse_agnostic", "test_parse_agnostic"),
        ("parse", "parse", "test_parse"),
        ("layout", "layout", "test_parse"),
        ("hole", "layout", "test_parse"),
        ("painted_layout", "layout", "test_parse"),
        ("garments", "layout", "test_parse"),
        ("representation", "joints", "test_joints"),
    ],
)
def test_find_picture_names_the_folder_to_add(name: str, missing: str, folder: str) -> None:
    with pytest.raises(
        InputError, match=rf"^pair p-c: has no '{missing}'; add {folder}/ to the pairs, or take drawn ones$"
    ):
        find_picture(bare(), name)


def test_find_picture_refuses_a_name_that_is_not_known() -> None:
    with pytest.raises(InputError, match="no picture of a pair is called 'depth'; choose among person, clothes, edge"):
        find_picture(bare(), "depth")


def test_further_pictures_are_drawn_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from vtopt.optimize.data.drawing import scene

    drawn: list[object] = []
    monkeypatch.setattr(scene, "label_agnostic", lambda *given: drawn.append(given) or np.zeros(SIZE, np.uint8))
    pair = open_pairs(None, SIZE, 1)[0]
    assert not drawn
    find_picture(pair, "parse_agnostic")
    assert len(drawn) == 1


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 4, 5)], ids=["a picture", "a batch"])
def test_the_edge_of_tensors_is_that_of_arrays(shape: tuple[int, ...]) -> None:
    whites = np.float32([NEAR_WHITE, np.nextafter(np.float32(NEAR_WHITE), np.float32(1)), -1, 1])
    clothes = np.random.default_rng(0).choice(whites, shape, p=[0.3, 0.3, 0.1, 0.3])
    found = find_edge(torch.from_numpy(clothes)).numpy()
    expected = derive_edge(clothes) if len(shape) == 3 else np.stack([derive_edge(each) for each in clothes])
    assert np.array_equal(found, expected) and found.dtype == expected.dtype
    assert 0 < expected.mean() < 1

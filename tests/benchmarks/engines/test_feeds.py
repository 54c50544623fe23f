"""Feeds: which picture goes into which input, and which output is the picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vtopt.benchmarks.engines.engine import Engine
from vtopt.benchmarks.engines.feeds import (
    NEAR_WHITE,
    PICTURE_NAMES,
    _announce_stand_in,
    derive_edge,
    feed_pair,
    fits_shape,
    infer_picture,
    match_pictures,
    take_picture,
    write_shape,
)
from vtopt.benchmarks.engines.runtimes import Shape
from vtopt.optimize.data.pairs import Pair
from vtopt.optimize.errors import InputError

HEIGHT, WIDTH = 8, 6
PICTURE: Shape = (1, 3, HEIGHT, WIDTH)
EDGE: Shape = (1, 1, HEIGHT, WIDTH)


def _make_pair(edge: bool = True) -> Pair:
    generator = np.random.default_rng(0)
    person, clothes = (generator.uniform(-1, 1, (3, HEIGHT, WIDTH)).astype(np.float32) for _ in range(2))
    mask = np.ones((1, HEIGHT, WIDTH), np.float32) if edge else None
    return Pair("p-c", person, clothes, mask, None)


def _make_engine(
    inputs: Mapping[str, Shape],
    pictures: Mapping[str, str] | None = None,
    outputs: Mapping[str, np.ndarray] | None = None,
) -> Engine:
    made = dict(outputs or {"tryon": np.zeros(PICTURE, np.float32)})
    return Engine(
        runtime="onnxruntime",
        inputs=inputs,
        outputs=tuple(made),
        pictures=match_pictures(inputs, pictures or {}),
        run=lambda _: made,
        path=Path("model.onnx"),
    )


@pytest.mark.parametrize("name", sorted(PICTURE_NAMES))
def test_match_pictures_knows_a_name(name: str) -> None:
    assert match_pictures({name: PICTURE}, {}) == {name: PICTURE_NAMES[name]}


def test_match_pictures_does_not_mind_capitals() -> None:
    assert match_pictures({"Person": PICTURE, "CLOTH": PICTURE}, {}) == {"Person": "person", "CLOTH": "clothes"}


def test_match_pictures_believes_the_model_before_the_names() -> None:
    found = match_pictures({"person": PICTURE, "x": PICTURE}, {"person": "clothes", "x": "person"})
    assert found == {"person": "clothes", "x": "person"}


def test_match_pictures_ignores_what_is_declared_of_inputs_that_are_not_there() -> None:
    assert match_pictures({"person": PICTURE}, {"gone": "clothes"}) == {"person": "person"}


def test_match_pictures_takes_two_unknown_pictures_for_person_and_clothes() -> None:
    assert match_pictures({"b": PICTURE, "a": (None, 3, None, None)}, {}) == {"b": "person", "a": "clothes"}


@pytest.mark.parametrize(
    ("inputs", "found"),
    [
        pytest.param({"a": PICTURE}, {}, id="one unknown input"),
        pytest.param({"a": PICTURE, "b": EDGE}, {}, id="a second input that has one channel"),
        pytest.param({"a": PICTURE, "b": PICTURE, "c": PICTURE}, {}, id="three unknown inputs"),
        pytest.param({"a": PICTURE, "b": (1, 3)}, {}, id="a second input that is no picture"),
        pytest.param({"a": PICTURE, "cloth": PICTURE}, {"cloth": "clothes"}, id="one of two has a known name"),
    ],
)
def test_match_pictures_does_not_guess(inputs: Mapping[str, Shape], found: Mapping[str, str]) -> None:
    assert match_pictures(inputs, {}) == found


def test_feed_pair_feeds_every_input_its_picture() -> None:
    pair = _make_pair()
    feeds = feed_pair(_make_engine({"mask": EDGE, "cloth": PICTURE, "person": PICTURE}), pair)
    assert list(feeds) == ["mask", "cloth", "person"]
    np.testing.assert_array_equal(feeds["person"][0], pair.person)
    np.testing.assert_array_equal(feeds["cloth"][0], pair.clothes)
    np.testing.assert_array_equal(feeds["mask"][0], pair.edge)
    assert {array.dtype for array in feeds.values()} == {np.dtype(np.float32)}


def test_feed_pair_feeds_declared_pictures() -> None:
    pair = _make_pair()
    feeds = feed_pair(_make_engine({"a": PICTURE, "b": PICTURE}, {"a": "clothes", "b": "person"}), pair)
    np.testing.assert_array_equal(feeds["a"][0], pair.clothes)
    np.testing.assert_array_equal(feeds["b"][0], pair.person)


def test_feed_pair_repeats_the_person_into_six_channels() -> None:
    pair = _make_pair()
    (fed,) = feed_pair(_make_engine({"person": (1, 6, HEIGHT, WIDTH)}), pair).values()
    np.testing.assert_array_equal(fed, np.concatenate([pair.person, pair.person])[np.newaxis])


@pytest.mark.parametrize(
    ("shape", "fed"),
    [
        pytest.param((4, 3, HEIGHT, WIDTH), (4, 3, HEIGHT, WIDTH), id="a fixed batch is filled"),
        pytest.param((None, 3, None, None), PICTURE, id="a dynamic batch is one"),
        pytest.param((1, None, HEIGHT, WIDTH), PICTURE, id="dynamic channels are the picture's"),
    ],
)
def test_feed_pair_fits_the_batch(shape: Shape, fed: Shape) -> None:
    pair = _make_pair()
    array = feed_pair(_make_engine({"person": shape}), pair)["person"]
    assert array.shape == fed
    assert all((copy == pair.person).all() for copy in array)


def test_feed_pair_derives_an_edge_only_where_the_pair_has_none() -> None:
    engine = _make_engine({"edge": EDGE})
    without, having = _make_pair(edge=False), _make_pair(edge=True)
    np.testing.assert_array_equal(feed_pair(engine, without)["edge"][0], derive_edge(without.clothes))
    np.testing.assert_array_equal(feed_pair(engine, having)["edge"][0], having.edge)


def test_feed_pair_joins_several_pictures_in_their_order() -> None:
    pose, agnostic = (np.full((3, HEIGHT, WIDTH), value, np.float32) for value in (0.25, 0.5))
    pair = replace(_make_pair(), pose=pose, agnostic=agnostic)
    engine = _make_engine({"x": (1, 6, HEIGHT, WIDTH)}, {"x": "pose+agnostic"})
    np.testing.assert_array_equal(feed_pair(engine, pair)["x"][0], np.concatenate([pose, agnostic]))


def test_feed_pair_lets_the_person_stand_in_and_says_so_once(capsys: pytest.CaptureFixture[str]) -> None:
    _announce_stand_in.cache_clear()
    pair = _make_pair()
    engine = _make_engine({"x": (1, 6, HEIGHT, WIDTH)}, {"x": "pose+agnostic"})
    for _ in range(2):
        np.testing.assert_array_equal(feed_pair(engine, pair)["x"][0], np.concatenate([pair.person] * 2))
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("input 'x' wants pose and agnostic, which is not given") == 1
    assert "add test_pose/ and test_agnostic/ to the pairs" in said
    feed_pair(engine, replace(pair, pose=pair.person, agnostic=pair.person))
    assert capsys.readouterr().err == ""


def test_feed_pair_names_only_the_folders_that_are_missing(capsys: pytest.CaptureFixture[str]) -> None:
    _announce_stand_in.cache_clear()
    pair = replace(_make_pair(), agnostic=np.zeros((3, HEIGHT, WIDTH), np.float32))
    feed_pair(_make_engine({"x": (1, 6, HEIGHT, WIDTH)}, {"x": "agnostic+densepose"}), pair)
    said = " ".join(capsys.readouterr().err.split())
    assert "wants densepose, which" in said
    assert "add test_densepose/ to the pairs" in said


def test_feed_pair_makes_pictures_of_others() -> None:
    layout = np.zeros((8, HEIGHT, WIDTH), np.float32)
    layout[4] = 1
    pair = replace(_make_pair(), load_further={"layout": layout}.get)
    feeds = feed_pair(_make_engine({"layout": (1, 8, HEIGHT, WIDTH), "garments": (1, 12, HEIGHT, WIDTH)}), pair)
    np.testing.assert_array_equal(feeds["layout"][0], layout)
    np.testing.assert_allclose(feeds["garments"][0, :3], pair.person, atol=1e-6)


def test_feed_pair_names_the_folder_of_a_picture_that_nothing_stands_in_for() -> None:
    engine = _make_engine({"person": PICTURE, "x": (1, 16, HEIGHT, WIDTH)}, {"x": "parse_agnostic+densepose"})
    with pytest.raises(InputError) as caught:
        feed_pair(engine, _make_pair())
    assert str(caught.value) == (
        "model.onnx: input 'x' cannot be fed: pair p-c: has no 'parse_agnostic'; add test_parse_agnostic/ to the "
        "pairs, or take drawn ones"
    )


def test_feed_pair_names_the_inputs_that_no_picture_is_known_for() -> None:
    engine = _make_engine({"person": PICTURE, "depth": PICTURE, "noise": PICTURE})
    with pytest.raises(InputError) as caught:
        feed_pair(engine, _make_pair())
    assert str(caught.value) == (
        "model.onnx: no picture is known for input 'depth', 'noise' of person, depth, noise; "
        "name the inputs person, clothes and edge when exporting"
    )


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        pytest.param((1, 4, HEIGHT, WIDTH), "has 4 channels, its picture 3; declare another", id="4 channels"),
        pytest.param((1, 3, 16, WIDTH), "is 16x6, pair p-c is 8x6; load the pairs with --size 16x6", id="another size"),
        pytest.param((1, 3, None, 9), r"is \?x9, pair p-c is 8x6", id="another width where the height is dynamic"),
        pytest.param((1, 3), "has the shape 1x3; a picture needs NxCxHxW", id="an input that is no picture"),
    ],
)
def test_feed_pair_refuses_an_input_that_the_picture_does_not_fit(shape: Shape, message: str) -> None:
    with pytest.raises(InputError, match=f"model.onnx: input 'person' {message}"):
        feed_pair(_make_engine({"person": shape}), _make_pair())


def test_derive_edge_is_the_garment_without_its_white_background() -> None:
    clothes = np.ones((3, 2, 2), np.float32)
    clothes[:, 0, 0] = 0  # grey
    clothes[2, 0, 1] = NEAR_WHITE - 0.1  # a little yellow
    clothes[:, 1, 0] = NEAR_WHITE + 0.01  # off white
    edge = derive_edge(clothes)
    assert (edge.shape, edge.dtype) == ((1, 2, 2), np.float32)
    assert edge.tolist() == [[[1, 1], [0, 0]]]


def test_infer_picture_feeds_the_pair_and_takes_the_picture() -> None:
    pair = _make_pair()
    engine = Engine(
        runtime="torch",
        inputs={"person": PICTURE},
        outputs=("tryon",),
        pictures={"person": "person"},
        run=lambda feeds: {"tryon": -feeds["person"]},
    )
    np.testing.assert_array_equal(infer_picture(engine, pair), -pair.person)


def test_take_picture_takes_the_output_named_tryon_else_the_first() -> None:
    flow, picture = np.full(PICTURE, 0.25, np.float32), np.full(PICTURE, 0.5, np.float32)
    named = {"flow": flow, "tryon": picture}
    assert (take_picture(_make_engine({"person": PICTURE}, outputs=named), named) == 0.5).all()
    unnamed = {"out": picture, "flow": flow}
    assert (take_picture(_make_engine({"person": PICTURE}, outputs=unnamed), unnamed) == 0.5).all()


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        pytest.param(1.5, 1, id="too bright is clipped"),
        pytest.param(-7, -1, id="too dark is clipped"),
        pytest.param(0.5, 0.5, id="in between is left alone"),
        pytest.param(np.nan, np.nan, id="NaN stays, so that it is noticed"),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_take_picture_clips(value: float, taken: float, dtype: type) -> None:
    outputs = {"tryon": np.full(PICTURE, value, dtype)}
    picture = take_picture(_make_engine({"person": PICTURE}, outputs=outputs), outputs)
    np.testing.assert_array_equal(picture, np.full(PICTURE[1:], taken, np.float32))
    assert picture.dtype == np.float32


def test_take_picture_takes_the_first_of_a_batch() -> None:
    outputs = {"tryon": np.stack([np.full((3, 4, 3), value, np.float32) for value in (0.5, 0.25)])}
    assert (take_picture(_make_engine({"person": PICTURE}, outputs=outputs), outputs) == 0.5).all()


@pytest.mark.parametrize("shape", [(1, 2, 8, 6), (1, 10), (3, 4)])
def test_take_picture_refuses_what_is_no_picture(shape: tuple[int, ...]) -> None:
    outputs = {"flow": np.zeros(shape, np.float32)}
    with pytest.raises(InputError, match=f"output 'flow' has the shape {write_shape(shape)}, not that of a picture"):
        take_picture(_make_engine({"person": PICTURE}, outputs=outputs), outputs)


@pytest.mark.parametrize(
    ("given", "wanted", "fits"),
    [
        pytest.param((1, 3, 8, 6), (1, 3, 8, 6), True, id="equal sides"),
        pytest.param((7, 3, 8, 6), (None, 3, None, 6), True, id="any side where it is dynamic"),
        pytest.param((1, 3, 8, 5), (1, 3, 8, 6), False, id="another side"),
        pytest.param((3, 8, 6), (None, None, None, None), False, id="fewer axes"),
    ],
)
def test_fits_shape(given: tuple[int, ...], wanted: Shape, fits: bool) -> None:
    assert fits_shape(given, wanted) == fits


def test_write_shape_has_question_marks_for_dynamic_sides() -> None:
    assert write_shape((None, 3, 256, 192)) == "?x3x256x192"

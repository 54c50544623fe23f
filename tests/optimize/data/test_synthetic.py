"""The drawn try-on pairs: the same for the same seed, varied, and true to body and clothes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vtopt.optimize.data.drawing.body import POSES, Body, pick_body
from vtopt.optimize.data.drawing.canvas import Canvas, quantize
from vtopt.optimize.data.drawing.garment import HEM_LENGTHS, NECKLINES, SLEEVE_LENGTHS, Garment, pick_garment
from vtopt.optimize.data.drawing.person import draw_figure, locate_cloth
from vtopt.optimize.data.drawing.pose import draw_agnostic, draw_pose
from vtopt.optimize.data.synthetic import (
    draw_contact_sheet,
    draw_outfits,
    draw_pair,
    draw_placed_outfits,
    draw_placed_pair,
    write_pairs,
)

SMALL = (128, 96)


def _pick_body(seed: int) -> Body:
    return pick_body(np.random.default_rng(seed))


def _pick_garments(count: int) -> list[Garment]:
    return [pick_garment(np.random.default_rng(seed)) for seed in range(count)]


@pytest.mark.parametrize("size", [(64, 48), SMALL, (256, 192)])
def test_pictures_have_the_asked_shape(size: tuple[int, int]) -> None:
    for picture in draw_pair(3, size):
        assert picture.shape == (*size, 3)
        assert picture.dtype == np.uint8


def test_size_must_be_four_to_three() -> None:
    with pytest.raises(ValueError, match="4:3"):
        draw_pair(0, (128, 128))


def test_same_seed_draws_the_same() -> None:
    first, second = draw_pair(11, SMALL), draw_pair(11, SMALL)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_seeds_differ() -> None:
    drawn = {draw_pair(seed, (64, 48)).truth.tobytes() for seed in range(30)}
    assert len(drawn) == 30


def test_garments_vary() -> None:
    garments = _pick_garments(40)
    assert {garment.sleeve for garment in garments} == set(SLEEVE_LENGTHS)
    assert {garment.neckline for garment in garments} == set(NECKLINES)
    assert {garment.hem for garment in garments} == set(HEM_LENGTHS)
    assert len({garment.pattern for garment in garments}) >= 6
    assert len({garment.colors[0] for garment in garments}) >= 15


def test_bodies_vary() -> None:
    bodies = [_pick_body(seed) for seed in range(60)]
    assert {pose for body in bodies for pose in body.poses} == set(POSES)
    assert len({body.hair_style for body in bodies}) >= 5
    assert {body.bottom for body in bodies} == {"trousers", "skirt"}


@pytest.mark.parametrize("seed", range(6))
def test_person_and_truth_agree_outside_garments(seed: int) -> None:
    pair = draw_pair(seed, SMALL)
    head = slice(0, 24)
    assert np.array_equal(pair.person[head, 30:66], pair.truth[head, 30:66])
    same = (pair.person == pair.truth).all(axis=2)
    assert 0.4 < same.mean() < 0.98


def test_wanted_garment_leaves_the_person_and_the_backdrop_alone() -> None:
    body = _pick_body(5)
    worn, first, second = _pick_garments(3)
    one, other = draw_outfits(body, worn, first, SMALL), draw_outfits(body, worn, second, SMALL)
    assert np.array_equal(one.person, other.person)
    assert np.array_equal(one.truth[:, :2], other.truth[:, :2])
    assert np.array_equal(one.truth[:16], other.truth[:16])
    assert not np.array_equal(one.truth, other.truth)


def test_wearing_the_same_garment_changes_nothing() -> None:
    garment = _pick_garments(1)[0]
    pair = draw_outfits(_pick_body(2), garment, garment, SMALL)
    assert np.array_equal(pair.person, pair.truth)


@pytest.mark.parametrize("seed", range(8))
def test_color_of_the_clothes_appears_in_the_truth(seed: int) -> None:
    pair = draw_pair(seed, SMALL)
    laid = pair.clothes[(pair.clothes.min(axis=2) < 225) | (np.ptp(pair.clothes, axis=2) > 12)]
    common, counts = np.unique(laid // 24, axis=0, return_counts=True)
    dominant = common[counts.argmax()].astype(int) * 24 + 12
    middle = pair.truth[30:110, 20:76].reshape(-1, 3).astype(int)
    assert (np.abs(middle - dominant).max(axis=1) < 36).sum() > 100


def test_small_picture_is_the_large_one_scaled_down() -> None:
    large = Image.fromarray(draw_pair(7).truth).resize(SMALL[::-1], Image.Resampling.BOX)
    gap = np.abs(np.asarray(large, int) - draw_pair(7, SMALL).truth.astype(int))
    assert gap.mean() < 4.0


def test_pairs_are_written_in_vitons_layout(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "pairs", 3, seed=4, size=(64, 48))
    lines = (folder / "test_pairs.txt").read_text(encoding="ascii").splitlines()
    assert len(lines) == 3
    for seed, line in enumerate(lines, start=4):
        person, clothes = line.split()
        drawn = draw_pair(seed, (64, 48))
        hidden = draw_placed_outfits(seed, (64, 48))[0][-2:]
        places = (
            *(("test_img", person), ("test_clothes", clothes), ("test_truth", person)),
            *(("test_pose", person), ("test_agnostic", person)),
        )
        for (place, name), picture in zip(places, (*drawn, *hidden), strict=True):
            assert np.array_equal(np.asarray(Image.open(folder / place / name)), picture)
    again = write_pairs(tmp_path / "again", 3, seed=4, size=(64, 48))
    for path in sorted(folder.rglob("*.*")):
        assert path.read_bytes() == (again / path.relative_to(folder)).read_bytes()


def test_contact_sheet_holds_every_triple() -> None:
    sheet = np.asarray(draw_contact_sheet(range(4), (64, 48)))
    pair = draw_pair(0, (64, 48))
    gap, wide_gap = 2, 6
    assert np.array_equal(sheet[wide_gap : wide_gap + 64, wide_gap : wide_gap + 48], pair.person)
    left = wide_gap + 2 * (48 + gap)
    assert np.array_equal(sheet[wide_gap : wide_gap + 64, left : left + 48], pair.truth)
    assert sheet.shape[0] == 2 * (64 + wide_gap) + wide_gap


def test_outfits_are_the_pair_of_the_seed_and_more() -> None:
    outfits, place = draw_placed_outfits(11, SMALL)
    pair, pair_place = draw_placed_pair(11, SMALL)
    assert all(np.array_equal(one, other) for one, other in zip(outfits, pair, strict=False))
    assert np.array_equal(place, pair_place)
    assert {picture.shape for picture in outfits} == {(*SMALL, 3)}
    assert {picture.dtype for picture in outfits} == {np.dtype(np.uint8)}
    assert outfits.worn.tobytes() != outfits.clothes.tobytes()


@pytest.mark.parametrize("size", [(64, 48), SMALL])
@pytest.mark.parametrize("seed", range(12))
def test_agnostic_person_hides_every_bit_of_every_garment(seed: int, size: tuple[int, int]) -> None:
    body, canvas = _pick_body(seed), Canvas(*size)
    figure = draw_figure(body, canvas)
    plain = draw_agnostic(figure, canvas)
    marked = draw_agnostic(replace(figure, below=np.full_like(figure.below, 9.0)), canvas)
    shown = np.abs(marked - plain).max(axis=2) > 1e-4  # what of the picture below is seen
    for garment in (replace(each, sleeve="long", hem="long", loose=1.0) for each in _pick_garments(4)):
        assert not (shown & (locate_cloth(figure, garment)[..., 2] > 0)).any()


def test_agnostic_person_is_the_person_elsewhere() -> None:
    outfits, place = draw_placed_outfits(0, (256, 192))
    hidden = (outfits.agnostic == 128).all(axis=2)
    assert 0.15 < hidden.mean() < 0.5
    assert (place[2][~hidden] > 0.5).sum() < 0.002 * hidden.size  # the edges of what is on top
    gap = np.abs(outfits.agnostic.astype(int) - outfits.truth)[~hidden]
    assert (gap.max(axis=1) > 40).mean() < 0.02


@pytest.mark.parametrize("seed", range(6))
def test_pose_shows_where_the_arms_are(seed: int) -> None:
    body, canvas = _pick_body(seed), Canvas(256, 192)
    figure = draw_figure(body, canvas)
    drawn = quantize(draw_pose(body, canvas)).max(axis=2) > 128
    assert 0.01 < drawn.mean() < 0.08
    for arm in figure.arms:
        middle = (np.abs(arm.across) < 1.0) & (arm.along > 4) & (arm.along < 112) & (arm.distance < 0)
        assert drawn[arm.window.rows, arm.window.columns][middle].mean() > 0.97

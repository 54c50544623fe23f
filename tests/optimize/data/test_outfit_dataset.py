"""Outfits as tensors: the lessons of a distillation, by seed and position alone."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from vtopt.optimize.data.outfit_dataset import (
    LESSONS,
    OutfitDataset,
    OutfitPairs,
    choose_lesson,
    find_hidden,
    plain_garment,
)
from vtopt.optimize.data.pairs import Pair, open_pairs
from vtopt.optimize.data.synthetic import draw_placed_outfits

SIZE = (64, 48)


def _make_pairs(count: int = 4) -> list[Pair]:
    """Pair n: person n / 10 left and -n / 10 right of the middle, clothes n / 100."""
    halves = np.where(np.arange(6) < 3, 1, -1).astype(np.float32)
    pairs = []
    for n in range(count):
        truth = np.broadcast_to(halves * (n / 10), (3, 8, 6)).astype(np.float32)
        agnostic = truth.copy()
        agnostic[:, :2] = 0.9
        pairs.append(Pair(str(n), truth, np.full((3, 8, 6), n / 100, np.float32), None, truth, truth, agnostic))
    return pairs


@pytest.mark.parametrize(
    ("position", "lesson"),
    [(0, "foreground"), (4, "foreground"), (5, "plain"), (7, "plain"), (8, "variety"), (10**6, "variety")],
)
def test_lessons_follow_one_another(position: int, lesson: str) -> None:
    assert choose_lesson(position, (5, 8)) == lesson


@pytest.mark.parametrize(("ends", "lesson"), [((0, 0), "variety"), ((0, 3), "plain"), ((3, 3), "foreground")])
def test_lessons_without_steps_are_left_out(ends: tuple[int, int], lesson: str) -> None:
    assert choose_lesson(0, ends) == lesson


def test_outfits_are_those_of_the_seed() -> None:
    sample = OutfitDataset([7], SIZE)[0]
    drawn, place = draw_placed_outfits(7, SIZE)
    for name, picture in drawn._asdict().items():
        assert sample[name].dtype == torch.float32
        assert np.array_equal(((sample[name].numpy() + 1) * 127.5).round(), picture.transpose(2, 0, 1))
    assert np.array_equal(sample["place"], place)
    assert torch.equal(sample["judged"], torch.ones(1, *SIZE))


def test_lessons_change_the_other_garment_and_what_is_judged() -> None:
    samples = dict(zip(LESSONS, OutfitDataset([7, 7, 7], SIZE, ends=(1, 2)), strict=False))
    assert torch.equal(samples["foreground"]["judged"], samples["variety"]["place"][2:])
    assert torch.equal(samples["plain"]["judged"], samples["variety"]["judged"])
    assert torch.equal(samples["foreground"]["worn"], samples["plain"]["worn"])
    assert torch.equal(samples["plain"]["worn"], plain_garment(samples["variety"]["worn"]))
    for name in ("truth", "clothes", "person", "pose", "agnostic"):
        assert torch.equal(samples["foreground"][name], samples["variety"][name])


def test_a_plain_garment_is_of_one_colour_on_the_same_white() -> None:
    clothes = torch.full((3, 4, 4), 0.95)
    clothes[:, 1, 1] = torch.tensor([0.5, -0.5, 0.0])
    clothes[:, 2, 1] = torch.tensor([-0.5, -0.5, 1.0])
    plain = plain_garment(clothes)
    for place in ((1, 1), (2, 1)):
        torch.testing.assert_close(plain[:, *place], torch.tensor([0.0, -0.5, 0.5]))
    assert int((plain != clothes).any(0).sum()) == 2
    nothing = torch.ones(3, 4, 4)
    assert torch.equal(plain_garment(nothing), nothing)


def test_pairs_wear_the_garment_of_another() -> None:
    dataset = OutfitPairs(_make_pairs(), seed=3)
    worn, given = [], []
    for position in range(40):
        sample = dataset[position]
        worn.append(round(100 * float(sample["worn"].mean())))
        given.append(round(100 * float(sample["clothes"].mean())))
        assert round(10 * float(sample["truth"].abs().max())) == given[-1]
    assert all(one != other for one, other in zip(worn, given, strict=True))
    assert [sorted(given[start : start + 4]) for start in range(0, 40, 4)] == [[0, 1, 2, 3]] * 10
    assert len(set(zip(given, worn, strict=True))) > 8


def test_pairs_depend_on_seed_and_position_alone() -> None:
    first, again, other = (OutfitPairs(_make_pairs(), seed) for seed in (3, 3, 4))
    positions = (9, 0, 5)
    for position in positions:
        assert all(torch.equal(tensor, again[position][name]) for name, tensor in first[position].items())
    assert any(not torch.equal(first[position]["worn"], other[position]["worn"]) for position in range(8))
    carried = pickle.loads(pickle.dumps(first))
    assert torch.equal(carried[5]["worn"], first[5]["worn"])


@pytest.mark.parametrize(("pose", "expected"), [(False, {True, False}), (True, {True})])
def test_all_pictures_of_a_sample_are_mirrored_together_but_never_a_pose(pose: bool, expected: set[bool]) -> None:
    pairs = _make_pairs()
    dataset = OutfitPairs(pairs if pose else [replace(pair, pose=None) for pair in pairs], seed=0)
    seen = set()
    for position in range(16):
        sample = dataset[position]
        assert ("pose" in sample) is pose
        sides = {bool(sample[name][0, -1, 0] > 0) for name in ("truth", "agnostic")}
        if sample["truth"].abs().max() > 0:
            assert len(sides) == 1
            seen |= sides
    assert seen == expected


def test_foreground_of_pairs_is_what_the_agnostic_person_hides() -> None:
    sample = OutfitPairs(_make_pairs(), seed=0, ends=(99, 99))[0]
    assert torch.equal(sample["judged"], find_hidden(sample["truth"], sample["agnostic"]))
    assert sample["judged"][0, :, 0].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    without = [replace(pair, pose=None, agnostic=None) for pair in _make_pairs()]
    sample = OutfitPairs(without, seed=0, ends=(99, 99))[0]
    assert sample.keys() == {"truth", "clothes", "worn", "judged"}
    assert bool((sample["judged"] == 1).all())


def test_drawn_pairs_serve_as_given_ones() -> None:
    sample = OutfitPairs(open_pairs(None, SIZE, 3), seed=0)[0]
    assert {name: tuple(tensor.shape) for name, tensor in sample.items()} == {
        **dict.fromkeys(("truth", "clothes", "worn", "pose", "agnostic"), (3, *SIZE)),
        "judged": (1, *SIZE),
    }

"""Batches: which pairs a step sees depends on seed and step alone, and processes share them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from small_registered import build_small

from vtopt.optimize.artifacts import Size
from vtopt.optimize.data.drawn_dataset import DrawnDataset
from vtopt.optimize.data.pairs import Pair, open_pairs
from vtopt.optimize.data.pictures import find_picture
from vtopt.optimize.errors import InputError, NetworkError
from vtopt.optimize.networks import NETWORKS, InputSpec
from vtopt.optimize.training.batches import (
    HELD_OUT_SEEDS,
    PairDataset,
    Stage,
    feed_batch,
    list_pictures,
    load_batches,
    open_drawn,
    pair_to_batch,
)

STAGES = (Stage(Size(32, 24), 5, 4), Stage(Size(64, 48), 3, 2))


def _list_seeds(monkeypatch: pytest.MonkeyPatch, seed: int, start: int = 0, **shares: int) -> list[list[int]]:
    """The seeds of each batch."""
    with monkeypatch.context() as patch:
        patch.setattr(DrawnDataset, "__getitem__", lambda self, index: {"seed": self.seeds[index]})
        batches = load_batches(partial(open_drawn, seed), STAGES, start, workers=0, **shares)
        return [batch["seed"].tolist() for batch in batches]


@pytest.mark.parametrize("start", [0, 2, 5, 7, 8])
def test_the_pairs_of_a_step_depend_on_seed_and_step_alone(start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = _list_seeds(monkeypatch, 0)
    assert [len(batch) for batch in batches] == [4] * 5 + [2] * 3
    assert len({seed for batch in batches for seed in batch}) == 5 * 4 + 3 * 2
    assert _list_seeds(monkeypatch, 0, start) == batches[start:]


@pytest.mark.parametrize("start", [0, 6])
def test_processes_share_each_batch(start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = [_list_seeds(monkeypatch, 0, start, process=process, processes=2) for process in range(2)]
    assert [one + other for one, other in zip(*shares, strict=True)] == _list_seeds(monkeypatch, 0, start)


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_held_out_seeds_are_never_drawn(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {seed for batch in _list_seeds(monkeypatch, seed) for seed in batch}
    assert drawn.isdisjoint(HELD_OUT_SEEDS)
    assert min(drawn) == HELD_OUT_SEEDS.stop + seed * 10_000_000


def _make_pairs(count: int) -> list[Pair]:
    """Pairs told apart by the brightness of all their pictures, which rises from left to right."""

    def make(index: int) -> Pair:
        picture = np.full((3, 2, 4), index, np.float32) + np.linspace(0, 0.5, 4, dtype=np.float32)
        return Pair(str(index), picture, picture, picture[:1], picture)

    return [make(index) for index in range(count)]


def _list_samples(dataset: PairDataset, epoch: int) -> list[int]:
    count = len(dataset)
    return [int(dataset[epoch * count + index]["person"].min()) for index in range(count)]


def test_every_epoch_has_every_pair_in_another_order() -> None:
    dataset = PairDataset(_make_pairs(20), seed=0)
    first, second = _list_samples(dataset, 0), _list_samples(dataset, 1)
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    assert first == _list_samples(PairDataset(_make_pairs(20), seed=0), 0)
    assert first != _list_samples(PairDataset(_make_pairs(20), seed=1), 0)


def test_all_pictures_of_a_pair_are_mirrored_alike_and_about_half_of_the_pairs() -> None:
    dataset = PairDataset(_make_pairs(40), seed=0)
    mirrored = 0
    for position in range(40):
        sample = dataset[position]
        assert sample.keys() == {"person", "clothes", "edge", "truth"}
        falls = [bool(picture[0, 0, 0] > picture[0, 0, -1]) for picture in sample.values()]
        assert len(set(falls)) == 1
        mirrored += falls[0]
    assert 10 < mirrored < 30


def test_pairs_with_a_pose_are_never_mirrored() -> None:
    posed = [replace(pair, pose=pair.person) for pair in _make_pairs(20)]
    dataset = PairDataset(posed, seed=0)
    assert {
        bool(dataset[position]["person"][0, 0, 0] > dataset[position]["person"][0, 0, -1]) for position in range(20)
    } == {False}


@pytest.mark.parametrize(("name", "mirrored"), [("layout", True), ("parse", False), ("representation", False)])
def test_pairs_fed_with_what_tells_left_from_right_are_never_mirrored(name: str, mirrored: bool) -> None:
    maps = np.zeros((18, 2, 4), np.float32)
    further = {"layout": maps[:8], "parse": maps[:7], "joints": maps}
    pairs = [replace(pair, load_further=further.get) for pair in _make_pairs(20)]
    dataset = PairDataset(pairs, 0, [name])
    samples = [dataset[position] for position in range(20)]
    assert all(name in sample for sample in samples)
    falls = {bool(sample["person"][0, 0, 0] > sample["person"][0, 0, -1]) for sample in samples}
    assert falls == {mirrored, False}


def test_without_truth_a_sample_has_none() -> None:
    assert PairDataset(_make_pairs(1), seed=0, truth=False)[0].keys() == {"person", "clothes", "edge"}


def _make_batch(**more: Any) -> dict[str, torch.Tensor]:
    clothes = torch.ones(1, 3, 2, 2)
    clothes[..., 0] = 0
    return {"person": torch.zeros(1, 3, 2, 2), "clothes": clothes, **more}


def test_a_picture_is_repeated_and_an_edge_derived() -> None:
    fed = feed_batch((InputSpec("reference", 6, picture="person"), InputSpec("edge", 1)), _make_batch())
    assert fed[0].shape == (1, 6, 2, 2)
    assert fed[1].tolist() == [[[[1, 0], [1, 0]]]]


def test_pictures_of_one_input_are_joined() -> None:
    batch = _make_batch(pose=torch.ones(1, 3, 2, 2))
    (fed,) = feed_batch((InputSpec("reference", 6, picture=("pose", "person")),), batch)
    assert torch.equal(fed, torch.cat([batch["pose"], batch["person"]], 1))


def test_the_edge_of_a_pair_is_preferred() -> None:
    edge = torch.full((1, 1, 2, 2), 0.25)
    (fed,) = feed_batch((InputSpec("mask", 1, picture="edge"),), _make_batch(edge=edge))
    assert torch.equal(fed, edge)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (InputSpec("pose", 18), r"input 'pose' is fed by 'pose', and the pairs have no pose; add .* or declare"),
        (
            InputSpec("ref", 6, picture=("pose", "agnostic")),
            r"input 'ref' is fed by 'pose\+agnostic', and the pairs have no pose and no agnostic",
        ),
        (InputSpec("person", 4), r"input 'person' has 4 channels, its picture 'person' 3"),
    ],
    ids=["no such picture", "two pictures of one input", "channels that do not fit"],
)
def test_an_input_that_no_pair_can_feed_is_refused(spec: InputSpec, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        feed_batch((spec,), _make_batch())


def test_what_a_pair_lacks_is_not_in_its_batch() -> None:
    (pair,) = _make_pairs(1)
    bare = Pair(pair.name, pair.person, pair.clothes, None, None)
    assert pair_to_batch(bare).keys() == {"person", "clothes"}


def test_a_batch_has_what_a_network_is_fed_with() -> None:
    (pair,) = _make_pairs(1)
    layout = np.zeros((8, 2, 4), np.float32)
    pair = replace(pair, edge=None, load_further={"layout": layout}.get)
    batch = pair_to_batch(pair, ["edge", "hole", "densepose"])
    assert batch.keys() == {"person", "clothes", "truth", "edge", "hole", "densepose"}
    assert torch.equal(batch["densepose"], batch["person"])
    with pytest.raises(InputError, match=r"has no 'parse'; add test_parse/"):
        pair_to_batch(pair, ["parse"])


def test_the_edge_of_a_sample_is_the_one_that_is_derived_when_feeding() -> None:
    pair = open_pairs(None, Size(32, 24), 1)[0]
    batches = [pair_to_batch(pair, pictures) for pictures in ([], ["edge"])]
    fed = [feed_batch((InputSpec("edge", 1),), {k: v[None] for k, v in batch.items()})[0] for batch in batches]
    assert torch.equal(*fed)


@pytest.mark.parametrize("name", NETWORKS)
def test_pictures_of_a_network_are_drawn_as_pairs_have_them(name: str) -> None:
    pictures = list_pictures(build_small(name))
    drawn = open_drawn(0, Size(32, 24), pictures=pictures)
    pair = open_pairs(None, Size(32, 24), 1, seed=drawn.seeds[0])[0]
    sample = drawn[0]
    for picture in pictures:
        assert np.array_equal(sample[picture], find_picture(pair, picture)), picture


def test_drawn_outfits_are_the_drawn_pairs_and_more() -> None:
    plain, outfits = (open_drawn(0, Size(32, 24), outfits=outfits)[0] for outfits in (False, True))
    assert plain.keys() == {"person", "clothes", "truth", "place"}
    assert outfits.keys() == plain.keys() | {"worn", "pose", "agnostic"}
    assert all(torch.equal(plain[name], outfits[name]) for name in plain)

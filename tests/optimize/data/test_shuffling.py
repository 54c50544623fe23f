"""The order of pairs: each once a time around, another order each time, by seed and position alone."""

from __future__ import annotations

from vtopt.optimize.data.shuffling import shuffle_pairs


def _list_pairs(seed: int, first: int = 0) -> list[int]:
    return [int(order[place]) for order, place, _ in (shuffle_pairs(first + step, 10, seed) for step in range(10))]


def test_each_pair_comes_once_a_time_around() -> None:
    assert sorted(_list_pairs(0)) == sorted(_list_pairs(0, first=10)) == list(range(10))


def test_orders_differ_by_seed_and_time_around_alone() -> None:
    assert _list_pairs(0) == _list_pairs(0)
    assert _list_pairs(0) != _list_pairs(1)
    assert _list_pairs(0) != _list_pairs(0, first=10)


def test_a_position_has_draws_of_its_own() -> None:
    draws = [shuffle_pairs(position, 10, 0)[2].random() for position in (3, 3, 4, 13)]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3

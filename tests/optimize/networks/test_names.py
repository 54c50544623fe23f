"""Published names become the network's."""

from __future__ import annotations

import pytest

from vtopt.optimize.errors import NetworkError
from vtopt.optimize.networks.names import rename_entries


def test_patterns_are_replaced_one_after_the_other() -> None:
    renamed = rename_entries({"a.old.x": 1, "b.x": 2}, {r"\bold\b": "new", r"\.x$": ".y"})
    assert renamed == {"a.new.y": 1, "b.y": 2}


def test_without_aliases_names_stay() -> None:
    assert rename_entries({"a.b": 1}, {}) == {"a.b": 1}


def test_two_names_that_become_one_are_refused() -> None:
    with pytest.raises(NetworkError, match=r"a\.old and another entry are both a\.new"):
        rename_entries({"a.new": 1, "a.old": 2}, {"old": "new"})

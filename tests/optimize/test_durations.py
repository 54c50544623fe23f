"""Durations as people write them."""

from __future__ import annotations

import pytest
import typer

from vtopt.optimize.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("90", 90),
        (" 10m ", 600),
        ("10 M", 600),
        ("1.5h", 5400),
        (".5m", 30),
        ("2.h", 7200),
        ("0.25", 0.25),
        (90, 90),
        (1.5, 1.5),
    ],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "0", "0m", "-5m", "1d", "ten", "1h30m", "1e3", "nan", "inf", "5 5s", "."])
def test_what_is_not_one_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a duration"):
        parse_duration(text)

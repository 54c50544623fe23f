"""Numbers as people read them, and unrounded beside."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from vtopt.benchmarks.page.number_text import keep_value, show_times, write_db, write_mib, write_ms


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        pytest.param(write_ms, 9.876, "9.88 ms", id="below 100 ms three digits count"),
        pytest.param(write_ms, 1234.5, "1,234 ms", id="above 100 ms no part of one does"),
        pytest.param(write_mib, 9.876, "9.88 MiB", id="small files have two decimals"),
        pytest.param(write_mib, 1234.56, "1,234.6 MiB", id="large files have one"),
        pytest.param(write_db, 38.04, "38.0 dB", id="a PSNR has one decimal"),
        pytest.param(write_db, math.inf, "equal", id="a PSNR without end is of equal pictures"),
        pytest.param(write_db, -math.inf, "broken", id="below every number pictures are broken"),
        pytest.param(write_db, math.nan, "broken", id="and where it is no number"),
    ],
)
def test_a_number_is_written_for_people(write: Callable[[float], str], value: float, text: str) -> None:
    assert write(value) == text


def test_a_shown_number_keeps_its_value() -> None:
    assert show_times(1.26789) == '<data value="1.26789">1.27×</data>'
    assert (keep_value(True), keep_value("text"), keep_value(1e-7)) == (None, None, "1e-07")

"""What a browser shows of a page's figures, compared with those of its JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from vtopt.benchmarks.page.operations import take_top

__all__ = ["require_report"]

Rows = Sequence[Mapping[str, Any]]


def require_report(browser: Any, rows: Rows, op_times: Rows) -> None:
    """Assert that table, summary, charts and bars of the open page show the figures that the JSON has."""
    _require_figures(browser, rows)
    _require_summary(browser, rows)
    _require_scatter(browser, rows)
    _require_bars(browser, op_times)


def _require_shown(text: str, value: Any) -> None:
    """Assert that a text shows a value of the JSON, with as many digits as it has."""
    number = float(value)
    if not math.isfinite(number):
        assert text in (("equal", "inf") if number > 0 else ("broken", "-inf"))
        return
    found = re.match(r"-?[\d,]+(\.\d+)?(e[+-]\d+)?", text)
    assert found, text
    shown = Decimal(found[0].replace(",", ""))
    assert abs(float(shown) - number) <= 0.5 * 10.0 ** int(shown.as_tuple().exponent) * 1.0001, (text, number)


def _is_number(value: object) -> bool:
    return isinstance(value, float | int) or value in ("inf", "-inf")


def _read_texts(browser: Any, selector: str) -> list[str]:
    return browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(each => each.textContent)", selector
    )


def _require_figures(browser: Any, rows: Rows) -> None:
    """Assert that the cells show what the JSON has, and keep it unrounded."""
    columns = _read_texts(browser, "#figures thead th")
    texts = _read_texts(browser, "#figures tbody tr > *")
    kept = browser.execute_script(
        "return [...document.querySelectorAll('#figures tbody tr > *')].map(cell => cell.dataset.value)"
    )
    wanted: list[Any] = [row.get(column) for row in rows for column in columns]
    assert len(texts) == len(wanted) > 0
    for text, value, known in zip(texts, kept, wanted, strict=True):
        if _is_number(known):
            assert float(value) == float(known)
            _require_shown(text, known)
        else:
            assert (text, value) == (known or "-", None)


def _find_distance(row: Mapping[str, Any]) -> Any:
    """Return a row's worst pair; the reference has none, and is equal to itself."""
    return "inf" if row.get("worst dB") is None else row["worst dB"]


def _require_summary(browser: Any, rows: Rows) -> None:
    """Assert that the recommended model's figures are those of its row, and that every text is of its value."""
    (choice,) = _read_texts(browser, "#summary .choice")
    (chosen,) = [row for row in rows if f"{row['model']} on {row.get('runtime')}" == choice]
    shown = _read_texts(browser, "#summary .figures dd > data")
    wanted = [chosen["speed x"], chosen["median ms"], chosen["size MiB"], _find_distance(chosen)]
    for text, value in zip(shown, wanted, strict=True):
        _require_shown(text, value)
    pairs = browser.execute_script(
        "return [...document.querySelectorAll('#summary data, #trade-off .key data')]"
        ".map(each => [each.textContent, each.value])"
    )
    for text, value in pairs:
        _require_shown(text, value)


def _require_scatter(browser: Any, rows: Rows) -> None:
    """Assert that each dot of both charts says its row's figures, and that all names stand beside them."""
    timed = [row for row in rows if row.get("median ms") is not None]
    known = {f"{row['model']} on {row['runtime']}": row for row in timed}
    for chart in (".wide", ".narrow"):
        told = dict(text.rsplit(": ", 1) for text in _read_texts(browser, f"#trade-off {chart} circle > title"))
        assert told.keys() == known.keys()
        for name, text in told.items():
            row = known[name]
            values = row["median ms"], _find_distance(row), row["size MiB"]
            for part, value in zip(text.split(", "), values, strict=True):
                _require_shown(part, value)
    several = len({row["runtime"] for row in timed}) > 1
    names = [row["model"] + (f" · {row['runtime']}" if several else "") for row in timed]
    shown = _read_texts(browser, "#trade-off .wide .name")
    assert len(shown) == len(names)
    for name in names:
        assert any(re.fullmatch(re.escape(text).replace("…", ".*"), name) for text in shown)


def _require_bars(browser: Any, op_times: Rows) -> None:
    """Assert that each profile's table shows its operations' times, their shares, and bars of one scale."""
    tables = browser.execute_script(
        "return [...document.querySelectorAll('.operations')].map(each => [...each.querySelectorAll('tbody tr')].map("
        "row => [...[...row.cells].map(cell => cell.textContent), row.querySelector('rect').getAttribute('width')]))"
    )
    tops = [take_top(each["by_op"]) for each in op_times]
    longest = max(time for top in tops for _, time in top)
    for rows, top, each in zip(tables, tops, op_times, strict=True):
        for (name, _, text, share, width), (operation, time) in zip(rows, top, strict=True):
            assert name == operation
            _require_shown(text, time)
            _require_shown(share.rstrip("%"), 100 * time / sum(each["by_op"].values()))
            _require_shown(width.rstrip("%"), 100 * time / longest)

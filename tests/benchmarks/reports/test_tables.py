"""Tables: aligned Markdown for reading, unrounded CSV and strict JSON for programs."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass

import numpy as np
import pytest

from vtopt.benchmarks.reports.tables import format_table, to_json_value
from vtopt.optimize.errors import InputError


def _read_cells(table: str, column: int = 0) -> list[str]:
    """Return a Markdown table's column below the rule; cells hold no pipes."""
    return [line.split("|")[column + 1].strip() for line in table.splitlines()[2:]]


def test_format_table_aligns_text_left_and_numbers_right() -> None:
    rows = [{"model": "fp32", "params": 1234567}, {"model": "int8 static", "params": None}]
    assert format_table(rows, ["model", "params"]).splitlines() == [
        "| model       |    params |",
        "| ----------- | --------: |",
        "| fp32        | 1,234,567 |",
        "| int8 static |         - |",
    ]


def test_format_table_makes_every_line_equally_wide_and_ends_with_a_line_break() -> None:
    table = format_table([{"a": "x", "b": 0.5}, {"a": "long name", "b": 12.25}], ["a", "b"])
    assert len({len(line) for line in table.splitlines()}) == 1
    assert table.endswith("|\n")


def test_format_table_without_rows_is_a_header_and_a_rule() -> None:
    assert format_table([], ["a", "b"]) == "| a   | b   |\n| --- | --- |\n"


def test_format_table_leaves_out_what_is_not_a_column_and_keeps_their_order() -> None:
    assert format_table([{"b": "2", "a": "1", "c": "3"}], ["b", "a"], "csv") == "b,a\n2,1\n"


@pytest.mark.parametrize(
    ("values", "written"),
    [
        pytest.param([12345.678, 0.5], ["12,346", "0"], id="from 10,000 on no decimals, with separators"),
        pytest.param([1234.56, 2.0], ["1,234.6", "2.0"], id="from 1,000 on one decimal"),
        pytest.param([35.123, 0.004], ["35.12", "0.00"], id="from 1 on two decimals, also for the small ones"),
        pytest.param([0.98765, 0.1], ["0.9877", "0.1000"], id="from 0.01 on four decimals"),
        pytest.param([0.00123, 0.000045], ["1.2e-03", "4.5e-05"], id="below that powers of ten"),
        pytest.param([-20.0, 3.0], ["-20.00", "3.00"], id="a negative number counts by its absolute value"),
        pytest.param([math.inf, 40.0], ["inf", "40.00"], id="infinity is written and does not set the decimals"),
        pytest.param([-math.inf, math.nan], ["-inf", "nan"], id="minus infinity and NaN are written"),
        pytest.param([0.0, None], ["0.00", "-"], id="zero has two decimals and None is a dash"),
        pytest.param([1000000, 7], ["1,000,000", "7"], id="whole numbers have separators and no decimals"),
        pytest.param([True, False], ["yes", "no"], id="truth values are yes and no"),
        pytest.param([np.float32(0.5), np.int64(1234)], ["0.5000", "1,234"], id="numpy's numbers are as Python's"),
    ],
)
def test_format_table_writes_a_column_of_numbers(values: list[object], written: list[str]) -> None:
    assert _read_cells(format_table([{"x": value} for value in values], ["x"])) == written


def test_format_table_writes_a_dash_for_a_missing_key() -> None:
    assert _read_cells(format_table([{"a": 1}, {}], ["a"])) == ["1", "-"]


def test_format_table_escapes_pipes_and_line_breaks_in_markdown() -> None:
    lines = format_table([{"a|b": "x | y\nz"}], ["a|b"]).splitlines()
    assert lines[0] == r"| a\|b     |"
    assert lines[2] == r"| x \| y z |"


def test_format_table_leaves_pipes_alone_in_csv_and_json() -> None:
    rows = [{"a": "x | y"}]
    assert format_table(rows, ["a"], "csv") == "a\nx | y\n"
    assert json.loads(format_table(rows, ["a"], "json")) == rows


def test_format_table_csv_is_unrounded_and_quotes_what_needs_it() -> None:
    third = 1 / 3
    rows = [{"name": 'a, "b"', "x": third, "n": 1234567}, {"name": "c", "x": math.inf, "n": None}]
    table = format_table(rows, ["name", "x", "n"], "csv")
    assert list(csv.reader(io.StringIO(table))) == [
        ["name", "x", "n"],
        ['a, "b"', repr(third), "1234567"],
        ["c", "inf", ""],
    ]
    assert "\r" not in table


def test_format_table_json_is_strict_and_unrounded() -> None:
    third = 1 / 3
    table = format_table([{"x": third, "y": math.inf}, {"x": -math.inf}], ["x", "y"], "json")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(table, parse_constant=refuse) == [{"x": third, "y": "inf"}, {"x": "-inf", "y": None}]
    assert [float(row["x"]) for row in json.loads(table)] == [third, -math.inf]


def test_format_table_writes_latex_that_needs_no_package() -> None:
    rows = [{"model_a": "50 % & more", "x": 1.5}, {"model_a": "a\\b~", "x": None}]
    assert format_table(rows, ["model_a", "x"], "latex").splitlines() == [
        r"\begin{tabular}{lr}",
        r"\hline",
        r"model\_a & x \\",
        r"\hline",
        r"50 \% \& more & 1.50 \\",
        r"a\textbackslash{}b\textasciitilde{} & - \\",
        r"\hline",
        r"\end{tabular}",
    ]


def test_format_table_names_the_formats_it_knows() -> None:
    with pytest.raises(InputError, match=r"format 'html' is not known; choose one of md, csv, json"):
        format_table([], ["a"], "html")  # pyright: ignore[reportArgumentType]


@dataclass
class Score:
    psnr: float
    pairs: tuple[str, ...]


def test_to_json_value_turns_dataclasses_tuples_and_numpy_numbers_to_plain_ones() -> None:
    value = {1: Score(math.inf, ("a", "b")), "n": np.int64(3), "ok": np.bool_(True), "nan": math.nan}
    assert to_json_value(value) == {"1": {"psnr": "inf", "pairs": ["a", "b"]}, "n": 3, "ok": True, "nan": "nan"}


@pytest.mark.parametrize("value", [None, True, 3, 0.25, "text"])
def test_to_json_value_leaves_what_json_holds_alone(value: object) -> None:
    assert to_json_value(value) is value

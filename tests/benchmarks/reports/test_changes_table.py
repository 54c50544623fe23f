"""Changes as text: what was noticed, the table, what is assumed and how small a change would be seen."""

from __future__ import annotations

import json
import re

import pytest
from bench_results import make_entry, make_results

from vtopt.benchmarks.reports.changes_table import COLUMNS, format_changes
from vtopt.benchmarks.run.compare import compare_results

TIMES = {"fp32": 20.0, "int8": 10.0}


def test_notices_come_first_and_what_is_assumed_last() -> None:
    old, new = make_results(TIMES), make_results(TIMES | {"fp16": 12.0})
    text = format_changes(compare_results(old, new))
    assert text.startswith("- **only in the new file: fp16**\n- **the time of fp32 itself is not judged: ")
    last = text.splitlines()[-1]
    assert last.startswith("Assumed: from run to run a ratio of two models moves by 1.5% (standard deviation) beyond")
    assert re.search(r"called one from (\d+\.\d)% on, and found 19 times of 20 from (\d+\.\d)% on; with ", last)
    assert (
        "for its row alone; its verdict tells whether 1 lies outside. Of equal models at most 5% of such tables call "
        "any speed or time changed. Pictures are the same within: PSNR dB 0.1, "
    ) in last
    assert last.endswith("and distances of sets 2%.")


def test_the_spread_of_times_is_told_where_they_are_judged() -> None:
    entries = tuple(make_entry(name, time, waited=0) for name, time in TIMES.items())
    results = make_results(TIMES, entries=entries)
    changes = compare_results(results, results)
    assert "A time by itself moves by 20% from run to run: a longer one is called so from " in format_changes(changes)
    conditions = json.loads(format_changes(changes, "json"))["conditions"]
    assert (conditions["spread of times"], conditions["judged together"]) == (0.2, 2)
    assert 1.5 < conditions["times called from"] < conditions["times found 19 times of 20 from"] < 4


def test_of_several_ratios_the_relation_to_their_intervals_is_told() -> None:
    results = make_results(TIMES | {"fp16": 12.0})
    text = format_changes(compare_results(results, results))
    assert "the verdicts are of all 2 ratios together (Holm): what is called worse or better has 1 outside" in text


def test_json_has_what_is_assumed_beside_the_rows() -> None:
    old = make_results(TIMES)
    data = json.loads(format_changes(compare_results(old, old), "json"))
    assert data.keys() == {"rows", "conditions", "notices"}
    conditions = data["conditions"]
    assert (conditions["spread between runs"], conditions["judged together"]) == (0.015, 1)
    assert 1.04 < conditions["called from"] < conditions["found 19 times of 20 from"] < 1.3
    assert list(data["rows"][0]) == list(COLUMNS)


def test_csv_is_the_table_alone() -> None:
    old = make_results(TIMES)
    assert format_changes(compare_results(old, old), "csv").startswith("model,runtime,threads,batch,what,")


def test_nothing_is_said_of_what_was_not_judged() -> None:
    old = make_results({"fp32": 20.0})
    assert "Assumed" not in format_changes(compare_results(old, old))


@pytest.mark.parametrize("luck", [(1.0,)])
def test_one_round_alone_sees_no_change(luck: tuple[float, ...]) -> None:
    entries = tuple(make_entry(name, time, luck=luck) for name, time in TIMES.items())
    lone = tuple(
        type(entry)(
            *entry.key, tuple(type(sample)(**{**vars(sample), "rounds": sample.rounds[:1]}) for sample in entry.samples)
        )
        for entry in entries
    )
    results = make_results(TIMES, entries=lone)
    text = format_changes(compare_results(results, results))
    assert "called one from no size on" in text

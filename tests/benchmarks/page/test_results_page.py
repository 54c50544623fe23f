"""The page of a results file: its points, what it reads beside the file, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bench_pages import make_view
from bench_results import make_entry, make_quality, make_results

from vtopt.benchmarks.page.content import Page
from vtopt.benchmarks.page.document import format_page
from vtopt.benchmarks.page.results_page import make_results_page
from vtopt.benchmarks.reports.command import report_command
from vtopt.benchmarks.run.entry_figures import make_figures
from vtopt.benchmarks.run.results import Comparison, Entry, OperationTimes, Results, Shown, write_results
from vtopt.optimize.errors import InputError, OutputError, UsageError

TIMES = {"fp32": 20.0, "int8": 10.0}


def _make_page(folder: Path, results: Results, baseline: str | None = None) -> Page:
    return make_results_page(results, folder / "results.json", baseline)


def _make_shown(picture: str, model: str = "int8", psnr: float = 38.0, runtime: str = "onnxruntime") -> Shown:
    return Shown(model, runtime, "worst", "pair-0", psnr, picture, "reference.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two pictures beside the results, and one above it."""
    place = tmp_path / "place"
    place.mkdir()
    view = make_view()
    view.picture.save(place / "picture.png")
    view.reference.save(place / "reference.png")
    view.picture.save(tmp_path / "outside.png")
    return place


def test_points_have_figures_and_intervals(tmp_path: Path) -> None:
    results = make_results(TIMES)
    page = _make_page(tmp_path, results)
    first, second = page.points
    assert (page.title, page.reference, page.baseline) == ("results", first.key, ("fp32", "onnxruntime"))
    assert (first.worst_db, second.worst_db, second.speed) == (math.inf, 38.0, pytest.approx(2.0))
    figures = make_figures(results.entries[1], results.entries[0])
    assert second.interval == (figures["median_low_ms"], figures["median_high_ms"])
    assert second.speed_interval == (figures["speed_low"], figures["speed_high"])
    assert (first.speed_interval, first.within_noise, second.within_noise) == ((1.0, 1.0), None, False)


def test_one_round_has_no_interval(tmp_path: Path) -> None:
    entries = tuple(make_entry(name, time, luck=(1.0,)) for name, time in TIMES.items())
    once = tuple(
        replace(entry, samples=(replace(entry.samples[0], rounds=entry.samples[0].rounds[:1]),)) for entry in entries
    )
    assert [point.interval for point in _make_page(tmp_path, make_results(TIMES, entries=once)).points] == [None, None]


def test_points_are_of_the_first_threads(tmp_path: Path) -> None:
    entries = tuple(make_entry(name, 10.0 / threads, threads=threads) for threads in (1, 2) for name in TIMES)
    page = _make_page(tmp_path, make_results(TIMES, entries=entries))
    assert [(point.model, point.median_ms) for point in page.points] == [
        (name, pytest.approx(10.0, rel=0.01)) for name in TIMES
    ]
    assert len(page.table.rows) == 4


def test_intervals_are_of_the_threads_that_were_timed_first(tmp_path: Path) -> None:
    """The settings name 1 thread, with which nothing was timed."""
    entries = tuple(make_entry(name, time, threads=2) for name, time in TIMES.items())
    entries = (*(replace(entry, threads=1, samples=()) for entry in entries), *entries)
    page = _make_page(tmp_path, make_results(TIMES, entries=entries))
    assert [(point.model, point.within_noise) for point in page.points] == [("fp32", None), ("int8", False)]
    for point, entry in zip(page.points, entries[2:], strict=True):
        figures = make_figures(entry, None)
        assert point.interval == (figures["median_low_ms"], figures["median_high_ms"])


def _make_entry(name: str, *rounds_ms: float) -> Entry:
    """Return an entry whose three processes each have these rounds of one run."""
    entry = make_entry(name, 20.0)
    rounds = tuple(((time, 0.0),) for time in rounds_ms)
    return replace(entry, samples=tuple(replace(sample, rounds=rounds) for sample in entry.samples))


def test_page_and_table_tell_noise_alike(tmp_path: Path) -> None:
    """The fastest rounds differ by half, the medians do not."""
    entries = _make_entry("fp32", 18.0, 20.0, 20.0), _make_entry("int8", 12.0, 20.0, 20.0)
    page = _make_page(tmp_path, make_results(TIMES, entries=entries))
    assert [point.within_noise for point in page.points] == [None, False]
    assert page.points[1].speed == pytest.approx(1.5)
    summary, _, rest = format_page(page).partition("How this was chosen")
    assert "by the fastest rounds of each process, its median" in summary
    assert "within the noise" not in summary
    assert "within the noise of" not in rest


def test_a_model_without_a_speed_is_no_point(tmp_path: Path) -> None:
    """The two never ran in one process, and nothing ran with both."""
    first, second = (make_entry(name, time) for name, time in TIMES.items())
    apart = replace(second, samples=tuple(replace(each, process=each.process + 10) for each in second.samples))
    page = _make_page(tmp_path, make_results(TIMES, entries=(first, apart)))
    assert [point.model for point in page.points] == ["fp32"]
    assert len(page.table.rows) == 2


def test_a_baseline_without_times_is_replaced_by_the_first_that_has(tmp_path: Path) -> None:
    first, second = (make_entry(name, time) for name, time in TIMES.items())
    page = _make_page(tmp_path, make_results(TIMES, entries=(replace(first, samples=()), second)))
    assert (page.baseline, page.points[0].speed) == (("int8", "onnxruntime"), 1.0)
    assert "Use <b>int8</b>, " in format_page(page)


def test_another_baseline_is_none_of_the_pictures(tmp_path: Path) -> None:
    page = _make_page(tmp_path, make_results(TIMES), "int8")
    assert (page.baseline, page.reference) == (("int8", "onnxruntime"), ("fp32", "onnxruntime"))
    assert page.points[0].speed == 1.0
    with pytest.raises(InputError, match="baseline 'fp16' is not among the models"):
        _make_page(tmp_path, make_results(TIMES), "fp16")


def test_pictures_are_read_beside_the_file(folder: Path) -> None:
    page = _make_page(folder, make_results(TIMES, shown=(_make_shown("picture.png"),)))
    (view,) = page.views
    assert (view.picture.getpixel((0, 0)), view.reference.getpixel((0, 0))) == ((104, 90, 60), (100, 90, 60))


@pytest.mark.parametrize("name", ["gone.png", "../outside.png", "text.png", "."])
def test_what_is_no_picture_beside_the_file_is_told(name: str, folder: Path) -> None:
    (folder / "text.png").write_text("no picture")
    page = _make_page(folder, make_results(TIMES, shown=(_make_shown(name),)))
    assert page.views == ()
    assert page.notices[-1] == "the pictures of int8 are not beside the results, or damaged: they are not shown"


def test_a_model_is_shown_where_it_is_worst_and_the_reference_where_it_differs(folder: Path) -> None:
    shown = (
        _make_shown("picture.png", psnr=40.0),
        _make_shown("picture.png", psnr=38.0, runtime="openvino"),
        _make_shown("picture.png", "fp32", psnr=110.0, runtime="openvino"),
    )
    views = _make_page(folder, make_results(TIMES, shown=shown)).views
    assert [(view.model, view.runtime) for view in views] == [("int8", "openvino")]


def test_results_without_pictures_or_times_are_a_page_too(tmp_path: Path) -> None:
    path = write_results(make_results(TIMES, quality=()), tmp_path / "results.json")
    report_command([path], format="html", output=tmp_path / "a.html")
    assert "No model is recommended" in (tmp_path / "a.html").read_text()
    untimed = tuple(replace(entry, samples=()) for entry in make_results(TIMES).entries)
    path = write_results(make_results(TIMES, entries=untimed, complete=False), path)
    report_command([path], format="html", output=tmp_path / "b.html")
    assert "the run was interrupted" in (tmp_path / "b.html").read_text()


def test_broken_pictures_are_a_page_too(tmp_path: Path) -> None:
    quality = (*make_results(TIMES).quality[:1], Comparison("int8", "onnxruntime", make_quality(-math.inf)))
    path = write_results(make_results(TIMES, quality=quality), tmp_path / "results.json")
    report_command([path], format="html", output=tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text()
    assert ", broken, " in text
    assert "<strong>fp32</strong> on onnxruntime</p>" in text  # though int8 is faster
    assert "their pictures are broken" in text


def test_the_command_prints_what_it_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times = (OperationTimes("int8", "onnxruntime", 1, {"Conv": 2.0}),)
    path = write_results(make_results(TIMES, op_times=times), tmp_path / "results.json")
    report_command([path], format="html")
    printed = capsys.readouterr().out
    report_command([path], format="html", output=tmp_path / "page.html")
    assert printed == (tmp_path / "page.html").read_text()
    assert capsys.readouterr().out == ""
    assert printed.startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        pytest.param({"output": "page.md"}, "the suffix must be .html; name it page.html", id="another suffix"),
        pytest.param({"output": "there.html"}, "exists already; choose another name or pass --force", id="exists"),
        pytest.param({"table": "final"}, "the page has all columns and the operations; leave --table out", id="table"),
    ],
)
def test_what_cannot_be_written_is_refused(asked: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = write_results(make_results(TIMES), tmp_path / "results.json")
    (tmp_path / "there.html").write_text("kept")
    if "output" in asked:
        asked = {"output": tmp_path / asked["output"]}
    with pytest.raises((OutputError, UsageError), match=said):
        report_command([path], format="html", **asked)
    assert (tmp_path / "there.html").read_text() == "kept"
    if asked.get("output"):
        report_command([path], format="html", output=tmp_path / "there.html", force=True)
        assert (tmp_path / "there.html").read_text() != "kept"

"""Measurements are kept over an interruption, and done without where they cannot be kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from vtopt.optimize.int8.measurements import open_measurements

QUESTION = {"source": "abc", "ranges": "auto", "versions": {"onnx": "1"}}


def test_they_survive_reopening() -> None:
    known = open_measurements(QUESTION)
    assert (known.found, known.get("a")) == (0, None)
    known.put("a", {"error": "inf", "flow_px": None})
    known.put("b", {"error": "0.1"})
    known.put("a", {"error": "0.2"})
    again = open_measurements(dict(reversed(QUESTION.items())))
    assert (again.found, again.get("a"), again.get("b")) == (2, {"error": "0.2"}, {"error": "0.1"})


def test_numbers_come_back_as_they_were() -> None:
    error = 1 / 3 * 1e-7
    open_measurements(QUESTION).put("a", {"error": str(error)})
    kept = open_measurements(QUESTION).get("a")
    assert kept is not None
    assert float(kept["error"]) == error


@pytest.mark.parametrize("half", ['["b", {"err', "[1, 2]", "5", '"x"', '["b", [[1]]]', "\0\0", '["b"'])
def test_a_line_that_is_not_whole_is_passed_over(half: str) -> None:
    known = open_measurements(QUESTION)
    known.put("a", {"error": "1"})
    assert known.path is not None
    with known.path.open("a") as stream:
        stream.write(half)
    again = open_measurements(QUESTION)
    assert (again.found, again.get("a"), again.get("b")) == (1, {"error": "1"}, None)


def test_what_follows_a_line_that_was_cut_short_is_kept() -> None:
    known = open_measurements(QUESTION)
    known.put("a", {"error": "1"})
    assert known.path is not None
    with known.path.open("a") as stream:
        stream.write('["b", {"err')
    again = open_measurements(QUESTION)
    again.put("b", {"error": "2"})
    again.put("c", {"error": "3"})
    last = open_measurements(QUESTION)
    assert (last.get("b"), last.get("c")) == ({"error": "2"}, {"error": "3"})


def test_a_cache_that_cannot_be_written_to_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    known = open_measurements(QUESTION)
    known.put("a", {"error": "1"})
    assert (known.get("a"), known.path) == ({"error": "1"}, None)
    known.put("b", {"error": "2"})
    assert open_measurements(QUESTION).found == 0


@pytest.mark.parametrize("other", [{**QUESTION, "source": "abd"}, {**QUESTION, "versions": {"onnx": "2"}}, {}])
def test_another_question_has_a_file_of_its_own(other: dict) -> None:
    open_measurements(QUESTION).put("a", {"error": "1"})
    known = open_measurements(other)
    assert known.get("a") is None
    assert known.path != open_measurements(QUESTION).path


def test_they_lie_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = open_measurements(QUESTION).path
    assert path is not None
    assert path.parent == tmp_path / "vtopt" / "measurements"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard has such a path ignored
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = open_measurements(QUESTION).path
    assert path is not None
    assert path.parent == tmp_path / "home" / ".cache" / "vtopt" / "measurements"

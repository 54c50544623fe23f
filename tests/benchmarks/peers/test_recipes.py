"""Recipes as peers: what they report, what it took, and that the user's last run stays the last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vtopt.benchmarks.peers.recipes import RECIPES, run_shipped
from vtopt.optimize import runner
from vtopt.optimize.recipe import Recipe, Stage
from vtopt.optimize.run_state import recall_run, remember_run
from vtopt.recipes import list_recipes

SECONDS = {"export": 1.0, "fp32": 2.0, "int8": 4.0, "fp16": 8.0}
PLAN = Recipe(
    "",
    (
        Stage("export", {}, "export", None),
        Stage("rewrite", {}, "fp32", "export"),
        Stage("quantize", {}, "int8", "fp32"),
        Stage("quantize", {}, "fp16", "fp32"),
    ),
    report=("fp32", "int8", "fp16"),
)


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> runner.RunResult:
    made = tuple(
        runner.Artifact(name, "step", tmp_path / name, seconds, False, "too far" if name == "fp16" else "", None)
        for name, seconds in SECONDS.items()
    )
    result = runner.RunResult(PLAN, tmp_path, made, ())

    def run(recipe: str, *, output: Path, **given: Any) -> runner.RunResult:
        remember_run(output)
        if recipe == "missed":
            raise runner.RunBudgetError("too far", result)
        return result

    monkeypatch.setattr(runner, "run_recipe", run)
    return result


def test_recipes_are_shipped() -> None:
    assert set(RECIPES) <= set(list_recipes())


@pytest.mark.parametrize("name", ["met", "missed"])
def test_an_artifact_took_what_its_own_steps_took(result: runner.RunResult, tmp_path: Path, name: str) -> None:
    made = run_shipped(name, tmp_path / "weights", None, tmp_path / "out")
    took = {each.name: each.seconds for each in made}
    assert took == {"fp32": 1.0 + 2.0, "int8": 1.0 + 2.0 + 4.0, "fp16": 1.0 + 2.0 + 8.0}
    assert [each.source for each in made] == [None, tmp_path / "fp32", tmp_path / "fp32"]
    assert [each.note for each in made] == ["", "", "too far"]


def test_the_users_last_run_stays_the_last(result: runner.RunResult, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (tmp_path / "out").mkdir()
    remember_run(mine)
    run_shipped("met", tmp_path / "weights", None, tmp_path / "out")
    assert recall_run() == mine

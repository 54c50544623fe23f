"""vtopt's shipped recipes, run as a user runs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...optimize.runner import RunResult

__all__ = ["RECIPES", "Reported", "run_shipped"]

RECIPES: Mapping[str, str] = {
    "cpu-fp16": "onnxruntime",
    "cpu-int8": "onnxruntime",
    "openvino-int8": "openvino",
}
"""Recipe -> the runtime that it is for."""


@dataclass(frozen=True)
class Reported:
    """An artifact that a recipe reports."""

    name: str
    path: Path
    seconds: float
    """What it took with all steps before it, their checks included."""
    source: Path | None
    """The first of the reported, which the others are compared with; None for itself."""
    note: str
    """What its step said of a budget that it missed."""


def run_shipped(name: str, weights: Path, pairs: Path | None, output: Path) -> list[Reported]:
    """Run a recipe into the folder `output`, and return what it reports, the float model first.

    What a later `vtopt bench report` takes for the last run is left as it was. Raises as `run_recipe` does, but for
    budgets that were missed.
    """
    from ...optimize.runner import RunBudgetError, run_recipe

    with _keep_last_run():
        try:
            result = run_recipe(name, weights=weights, network=None, pairs=pairs, output=output)
        except RunBudgetError as error:
            result = error.result
    return _list_reported(result)


def _list_reported(result: RunResult) -> list[Reported]:
    artifacts = {artifact.name: artifact for artifact in result.artifacts}
    parents = {stage.name: stage.source for stage in result.recipe.stages}
    first = artifacts[result.recipe.report[0]].path

    def add_up(name: str | None) -> float:
        return artifacts[name].seconds + add_up(parents[name]) if name else 0.0

    return [
        Reported(name, made.path, add_up(name), None if made.path == first else first, made.missed)
        for name in result.recipe.report
        for made in (artifacts[name],)
    ]


@contextmanager
def _keep_last_run() -> Iterator[None]:
    from ...optimize.run_state import recall_run, remember_run

    last = recall_run()
    try:
        yield
    finally:
        if last:
            remember_run(last)

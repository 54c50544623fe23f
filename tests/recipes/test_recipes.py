from __future__ import annotations

from pathlib import Path

import pytest

from vtopt.optimize.artifacts import Kind
from vtopt.optimize.errors import RecipeError
from vtopt.optimize.recipe import load_recipe
from vtopt.optimize.steps import STEPS
from vtopt.recipes import find_recipe, list_recipes

SHIPPED = list_recipes()


def test_list_recipes_has_every_yaml_of_the_folder() -> None:
    assert ", ".join(SHIPPED) == (
        "all-formats, completion, cpu-fp16, cpu-int8, hrviton, openvino-int8, pfafn, pruned-int8, qat-int8"
    )
    assert all(path.is_file() for path in SHIPPED.values())


@pytest.mark.parametrize("start", ["checkpoint", "weights"])
@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_loads_and_its_steps_chain(name: str, start: Kind) -> None:
    recipe = load_recipe(SHIPPED[name], start_kind=start)
    assert recipe.description.endswith(".")
    assert recipe.report[0] == "fp32"
    assert all(stage.step in STEPS for stage in recipe.stages)


def test_find_recipe_finds_a_shipped_one_by_name() -> None:
    assert find_recipe("cpu-fp16") == SHIPPED["cpu-fp16"]


def test_find_recipe_takes_a_path_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("steps: [strip]")
    assert find_recipe(str(path)) == path


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        pytest.param("cpu-fp61", "did you mean 'cpu-fp16'?", id="a misspelt name"),
        pytest.param("none/at.yaml", "no such recipe or file; shipped are all-formats", id="a path to nothing"),
        pytest.param(".", "no such recipe or file", id="a folder"),
        pytest.param("", "no such recipe or file", id="an empty name"),
    ],
)
def test_find_recipe_names_what_there_is(name: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        find_recipe(name)
    assert hint in str(caught.value)

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Annotated, Any, Literal

import pytest
import typer

from vtopt.optimize.artifacts import Reads, Size, SizeOption, Writes
from vtopt.optimize.errors import RecipeError
from vtopt.optimize.recipe import Recipe, Stage, check_recipe, convert_setting, load_recipe, read_shape

Onnx = Annotated[Path, Reads(("onnx",))]
OnnxMade = Annotated[Path, Writes("onnx")]


def strip(
    source: Annotated[Path, Reads(("checkpoint", "weights"))],
    output: Annotated[Path, Writes("weights")],
    *,
    force: bool = False,
) -> Path:
    return output


def export(
    source: Annotated[Path, Reads(("weights", "checkpoint"))],
    output: OnnxMade,
    *,
    size: SizeOption = None,
    opset: int = 16,
    network: str | None = None,
    force: bool = False,
) -> Path:
    return output


def quantize(
    source: Onnx,
    output: OnnxMade,
    *,
    fp16: bool = False,
    int8: bool = False,
    target: Literal["avx2", "vnni"] = "avx2",
    count: Annotated[int, typer.Option(min=1, max=64)] = 8,
    ratio: float = 0.5,
    pairs: Path | None = None,
    force: bool = False,
) -> Path:
    return output


def convert(source: Onnx, output: Annotated[Path, Writes("openvino")], *, force: bool = False) -> Path:
    return output


def prune(source: Onnx, output: OnnxMade, *, ratio: float, force: bool = False) -> Path:
    return output


def finetune(
    source: Annotated[Path, Reads(("weights", "checkpoint"))],
    output: Annotated[Path, Writes("weights")],
    *,
    teacher: Annotated[Path, Reads(("weights", "checkpoint"))],
    force: bool = False,
) -> Path:
    return output


STEPS: dict[str, str | Callable[..., Path]] = {
    "strip": strip,
    "export": export,
    "quantize": quantize,
    "convert": convert,
    "prune": prune,
    "finetune": finetune,
}


def write_recipe(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(dedent(text))
    return path


def load(folder: Path, text: str) -> Recipe:
    return load_recipe(write_recipe(folder, text), start_kind="checkpoint", steps=STEPS)


def read_problems(folder: Path, text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load(folder, text)
    return str(caught.value)


def test_load_recipe_reads_stages_in_order(tmp_path: Path) -> None:
    recipe = load(
        tmp_path,
        """
        description: Half the size.
        steps:
          - strip:
          - export: {size: 256x192}
            name: fp32
          - quantize: {fp16: true}
            name: fp16
          - convert
          - quantize: {int8: true}
            name: int8
            from: fp32
        report: [fp32, int8]
        """,
    )
    assert recipe == Recipe(
        "Half the size.",
        (
            Stage("strip", {}, "strip", None),
            Stage("export", {"size": "256x192"}, "fp32", "strip"),
            Stage("quantize", {"fp16": True}, "fp16", "fp32"),
            Stage("convert", {}, "convert", "fp16"),
            Stage("quantize", {"int8": True}, "int8", "fp32"),
        ),
        ("fp32", "int8"),
    )


def test_load_recipe_reports_the_first_onnx_and_every_last_artifact_by_default(tmp_path: Path) -> None:
    recipe = load(
        tmp_path,
        """
        steps:
          - export:
          - quantize: {fp16: true}
          - convert:
          - convert:
            name: fp32-ir
            from: export
        """,
    )
    assert recipe.report == ("export", "convert", "fp32-ir")


def test_load_recipe_lists_all_problems_at_once(tmp_path: Path) -> None:
    message = read_problems(
        tmp_path,
        """
        descripton: a
        steps:
          - strip:
          - quantise:
          - export: {opset: sixteen, force: true}
          - export:
            from: strp
          - quantize: {fp61: true}
            name: ../fp16
        report: [fp23]
        """,
    )
    assert message.splitlines() == [
        f"{tmp_path}/recipe.yaml: 9 problems",
        "  unknown key 'descripton'; did you mean 'description'? keys are description, network, steps, report",
        "  step 2 'quantise': no such step; did you mean 'quantize'? "
        "steps are strip, export, quantize, convert, prune, finetune",
        "  step 3 'export': setting 'opset': should be a valid integer, not \"sixteen\"",
        "  step 3 'export': 'force' is for the run to set, not for a recipe; remove it",
        "  step 4 'export': a second 'export'; give it another 'name:'",
        "  step 4 'export': 'from: strp' names no earlier step; did you mean 'strip'? "
        "earlier are strip, quantise, export",
        "  step 5 'quantize': name '../fp16' is no file name; use letters, digits, '.', '_' and '-'",
        "  step 5 'quantize': has no setting 'fp61'; did you mean 'fp16'? "
        "settings are fp16, int8, target, count, ratio, pairs",
        "  report: no step is named 'fp23'; names are strip, quantise, export, ../fp16",
    ]


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        pytest.param(
            "[strip, {name: again}]",
            "step 2: names no step; write '- STEP:', one of strip, export, quantize, convert, prune",
            id="a row without a step",
        ),
        pytest.param("[[strip]]", "step 1: names no step", id="a list where a row should be"),
        pytest.param("[3]", "step 1: names no step", id="a number where a row should be"),
        pytest.param("[]", "steps: lists no step", id="an empty list of steps"),
        pytest.param("export", "steps: lists no step", id="a text where the list should be"),
        pytest.param(
            "[{export: , strip: }]",
            "step 1 'export': 'strip' is a step too; give it a '-' of its own",
            id="two steps in one row",
        ),
        pytest.param(
            "[{export: , size: 256x192}]",
            "step 1 'export': unknown key 'size'; settings stand under 'export:', indented",
            id="a setting beside its step",
        ),
        pytest.param(
            "[{export: {name: fp32}}]",
            "step 1 'export': has no setting 'name'; write 'name:' beside 'export:', not under it",
            id="a name under its step",
        ),
        pytest.param(
            "[{export: , name: 16}]", "'name: 16' is not text; put it in quotes", id="a name that is a number"
        ),
        pytest.param(
            "[export, {quantize: , from: [export]}]",
            "'from: ['export']' is not text; put it in quotes",
            id="a from that is a list",
        ),
        pytest.param("[{export: 17}]", "settings are written KEY: VALUE, not 17", id="settings that are a number"),
        pytest.param(
            "[{export: {size: 256}}]",
            "setting 'size': '256' is not a size; write HEIGHTxWIDTH",
            id="a size without its width",
        ),
        pytest.param(
            "[export, {quantize: {fp16: 'yes'}}]",
            "setting 'fp16': should be a valid boolean, not \"yes\"",
            id="a text for a switch",
        ),
        pytest.param(
            "[export, {quantize: {count: true}}]",
            "setting 'count': should be a valid integer, not true",
            id="a switch for a number",
        ),
        pytest.param(
            "[export, {quantize: {count: 0}}]",
            "setting 'count': should be greater than or equal to 1, not 0",
            id="a number below the option's least",
        ),
        pytest.param(
            "[export, {quantize: {target: neon}}]",
            "setting 'target': should be 'avx2' or 'vnni', not \"neon\"",
            id="a word that is no choice",
        ),
        pytest.param(
            "[export, {quantize: {output: x.onnx}}]",
            "'output' is for the run to set",
            id="an output set by the recipe",
        ),
        pytest.param(
            "[export, prune]",
            "step 2 'prune': needs the setting 'ratio'",
            id="a setting without a default left out",
        ),
        pytest.param(
            "[export, {convert: {fp16: true}}]",
            "has no setting 'fp16'; settings are none",
            id="a setting for a step that takes none",
        ),
        pytest.param(
            "[export, {quantize: , name: fp16}, {export: , name: again}]",
            "step 3 'export': reads weights or checkpoint, but 'fp16' gives onnx",
            id="kinds that do not chain",
        ),
        pytest.param(
            "[quantize]",
            "step 1 'quantize': reads onnx, but the run starts from checkpoint",
            id="a first step that cannot read what the run starts from",
        ),
        pytest.param(
            "[{export: , from: export}]",
            "'from: export' names no earlier step; earlier are none",
            id="a step that reads itself",
        ),
        pytest.param("[export]\nreport: fp32", "report: is not a list of names", id="a report that is a text"),
        pytest.param(
            "[export]\nnetwork: pfafn_algned",
            "network: 'pfafn_algned' is not registered; did you mean 'pfafn_aligned'?",
            id="a network that is not registered",
        ),
        pytest.param("[export]\nnetwork: [pfafn]", "network: '['pfafn']' is not registered", id="two networks"),
    ],
)
def test_load_recipe_names_the_problem(steps: str, problem: str, tmp_path: Path) -> None:
    message = read_problems(tmp_path, f"steps: {steps}")
    assert problem in message
    assert "\n" not in message  # it is the only one


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("steps:\n  - strip:\n - export:\n", ", line 3: not YAML: ", id="wrong indentation"),
        pytest.param(
            "description: for a CPU: fast\n",
            ", line 1: not YAML: mapping values are not allowed here; put text that holds ': ' in quotes",
            id="a colon inside a text",
        ),
        pytest.param("steps: []\nsteps: []", ", line 2: not YAML: 'steps' is there twice", id="a key twice"),
        pytest.param("steps: !!python/name:os.getcwd", ", line 1: not YAML: could not", id="a tag for code"),
        pytest.param("steps: [2026-99-99]", ": not YAML: month must be in 1..12", id="a date that is none"),
        pytest.param("steps: \0", ": not YAML: ", id="a zero byte"),
        pytest.param("", "is not a recipe; it holds 'steps:'", id="an empty file"),
        pytest.param("- export", "is not a recipe; it holds 'steps:'", id="a list without 'steps'"),
    ],
)
def test_load_recipe_refuses_what_is_no_recipe(text: str, problem: str, tmp_path: Path) -> None:
    assert problem in read_problems(tmp_path, text)


def test_load_recipe_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.yaml: cannot be read: No such file"):
        load_recipe(tmp_path / "none.yaml", steps=STEPS)


def test_load_recipe_leaves_the_first_kind_open_when_no_start_is_given(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, "steps: [quantize]")
    assert load_recipe(path, steps=STEPS).report == ("quantize",)


@pytest.mark.parametrize("start", ["checkpoint", "weights"])
def test_check_recipe_lets_a_leading_strip_read_either_kind(start: Any) -> None:
    recipe = Recipe("", (Stage("strip", {}, "strip", None), Stage("export", {}, "export", "strip")))
    assert check_recipe(recipe, start, STEPS) == []


def test_check_recipe_does_not_blame_what_follows_an_unknown_step() -> None:
    recipe = Recipe("", (Stage("fold", {}, "fold", None), Stage("quantize", {}, "quantize", "fold")))
    (problem,) = check_recipe(recipe, "checkpoint", STEPS)
    assert problem.startswith("step 1 'fold': no such step; steps are")


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        pytest.param("256x192", SizeOption, Size(256, 192), id="a size through its parser"),
        pytest.param(None, SizeOption, None, id="nothing for an optional size"),
        pytest.param("a/b", Path | None, Path("a/b"), id="a text for a path"),
        pytest.param(1, float, 1.0, id="a whole number for a float"),
        pytest.param([1, 2], tuple[int, int], (1, 2), id="a list for a tuple"),
        pytest.param(64, Annotated[int | None, typer.Option(min=1, max=64)], 64, id="a number at its most"),
        pytest.param("a", Annotated[str, typer.Option(parser=str.upper)], "A", id="a text through any parser"),
    ],
)
def test_convert_setting(value: Any, annotation: Any, expected: Any) -> None:
    assert convert_setting(value, annotation) == expected


def test_load_recipe_reads_an_exponent_without_a_point_as_a_number(tmp_path: Path) -> None:
    recipe = load(tmp_path, "steps: [export, {quantize: {ratio: 1e-3}}]")
    assert recipe.stages[1].settings == {"ratio": 10**-3}


def test_read_shape_lists_what_a_recipe_may_set() -> None:
    shape = read_shape(export)
    assert (shape.reads, shape.writes) == (("weights", "checkpoint"), "onnx")
    assert list(shape.settings) == ["size", "opset", "network"]
    assert shape.owned == ("source", "output", "force")


def test_read_shape_names_a_parameter_without_its_kind() -> None:
    def bare(source: Path, output: OnnxMade, *, force: bool = False) -> Path:
        return output

    with pytest.raises(TypeError, match="'source' of a step is not annotated with Reads"):
        read_shape(bare)


def test_settings_at_odds_are_found_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text("steps: [export, {quantize: {dynamic: true}, name: a}, {quantize: , name: b, from: export}]")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(caught.value).count("choose --fp16, --int8, or both") == 2


def test_a_setting_that_is_a_file_names_an_earlier_step(tmp_path: Path) -> None:
    recipe = load(
        tmp_path,
        """
        steps:
          - strip:
          - finetune: {teacher: strip}
            name: recovered
          - export:
        """,
    )
    assert recipe.stages[1] == Stage("finetune", {"teacher": "strip"}, "recovered", "strip")
    assert read_shape(finetune).files == {"teacher": ("weights", "checkpoint")}


def test_a_step_that_a_later_one_learns_from_ends_no_branch(tmp_path: Path) -> None:
    recipe = load(
        tmp_path,
        """
        steps:
          - strip:
          - strip:
            name: other
          - finetune: {teacher: other}
            from: strip
          - export:
        """,
    )
    assert recipe.report == ("export",)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("finetune: {teacher: strap}", "setting 'teacher': names no earlier step, 'strap'; did you mean 'strip'?"),
        ("finetune: {teacher: finetune}", "setting 'teacher': names no earlier step, 'finetune'"),
        ("finetune: {teacher: later}", "setting 'teacher': names no earlier step, 'later'"),
        ("finetune: {teacher: 3}", "setting 'teacher': names no earlier step, 3"),
        ("finetune: {teacher: [strip]}", "setting 'teacher': names no earlier step, ['strip']"),
        ("finetune: {teacher: /tmp/x.safetensors}", "setting 'teacher': names no earlier step"),
        ("finetune: {teacher: fp32}", "setting 'teacher': takes weights or checkpoint, but 'fp32' gives onnx"),
        ("finetune:", "needs the setting 'teacher'"),
    ],
)
def test_a_setting_that_is_a_file_and_names_no_such_step(row: str, message: str, tmp_path: Path) -> None:
    text = f"""
        steps:
          - strip:
          - export:
            name: fp32
          - {row}
            from: strip
          - strip:
            name: later
            from: strip
        """
    assert message in read_problems(tmp_path, text)


def test_a_setting_whose_name_is_pythons_own_is_written_without_its_underscore() -> None:
    from vtopt.optimize.strip import strip_checkpoint

    assert read_shape(strip_checkpoint).settings["with"].name == "with_"
    stage = Stage("strip", {"with": ["gen.pth"]}, "strip", None)
    assert check_recipe(Recipe("", (stage,)), "checkpoint") == []
    (problem,) = check_recipe(Recipe("", (replace(stage, settings={"with_": ["gen.pth"]}),)), "checkpoint")
    assert "no setting 'with_'; did you mean 'with'?" in problem

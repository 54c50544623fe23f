"""Recipes: YAML lists of steps with their settings, checked against the steps' signatures before any work.

description: Float16 ONNX for onnxruntime on a CPU.
network: sdafn_plus_3       # whose weights these are, where neither they nor the user say; default: none
steps:
  - strip:
  - export: {size: 256x192}
  - simplify:
    name: fp32              # the artifact's name; default: the step's
  - quantize: {fp16: true}
    name: fp16
    from: fp32              # an earlier name; default: the one before
report: [fp32, fp16]        # what the report compares; default: the first ONNX and all that end a branch
"""

from __future__ import annotations

import difflib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import yaml
from pydantic import Field, TypeAdapter, ValidationError
from typer.models import OptionInfo

from .artifacts import Kind, Reads, Writes
from .errors import RecipeError, UsageError
from .networks import NETWORKS
from .steps import STEPS, load_step

__all__ = [
    "Recipe",
    "Stage",
    "StepShape",
    "StepTable",
    "check_recipe",
    "convert_setting",
    "find_step",
    "load_recipe",
    "read_shape",
]

StepTable = Mapping[str, str | Callable[..., Path]]
"""Step name -> a row of STEPS, or the function itself."""

FILLED = ("network", "pairs", "with")
"""Parameters that a run fills with its own where a recipe does not set them."""

_KEYS = ("description", "network", "steps", "report")
_BESIDE = ("name", "from")
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_Mark = TypeVar("_Mark")
_Given = Mapping[str | None, Kind | None]


@dataclass(frozen=True)
class Stage:
    """One row of a recipe; `source` names the earlier stage it reads, None the run's weights."""

    step: str
    settings: Mapping[str, Any]
    name: str
    source: str | None


@dataclass(frozen=True)
class Recipe:
    """Stages in the order they run, and the names the report compares, the reference first."""

    description: str
    stages: tuple[Stage, ...]
    report: tuple[str, ...] = ()
    network: str | None = None
    """Whose weights it takes, where neither they nor the user say."""


@dataclass(frozen=True)
class StepShape:
    """What a step's signature says: the kinds of its files, and the parameters a recipe may set."""

    reads: tuple[Kind, ...]
    writes: Kind
    settings: Mapping[str, inspect.Parameter]
    """By name; one that is a word of Python's own, such as with_, is written without its underscore."""
    files: Mapping[str, tuple[Kind, ...]]
    """Those settings that are files too, such as a teacher, and their kinds: a recipe names an earlier step."""
    owned: tuple[str, ...]
    check: Callable[..., None] | None
    """The step's module's own `check_settings`, if it has one: raises UsageError for settings at odds.

    It is given the kind of the source beside them, None where that is not known.
    """


def load_recipe(path: Path, *, start_kind: Kind | None = None, steps: StepTable = STEPS) -> Recipe:
    """Read a recipe and check it, also against the kind of file the run starts from where that is given.

    Raises RecipeError that lists every problem found.
    """
    problems: list[str] = []
    recipe = _parse_recipe(_read_yaml(path), steps, problems)
    problems += check_recipe(recipe, start_kind, steps)
    if problems:
        listed = problems if len(problems) == 1 else [f"{len(problems)} problems", *problems]
        raise RecipeError(f"{path}: " + "\n  ".join(listed))
    return replace(recipe, report=recipe.report or _choose_report(recipe, steps))


def check_recipe(recipe: Recipe, start_kind: Kind | None, steps: StepTable = STEPS) -> list[str]:
    """Return every problem that would keep the recipe from running."""
    problems = []
    given: dict[str | None, Kind | None] = {None: start_kind}
    for place, stage in enumerate(recipe.stages, start=1):
        shape = read_shape(find_step(stage.step, steps)) if stage.step in steps else None
        found = [] if shape or not stage.step else [f"no such step; {_among(stage.step, 'steps', steps)}"]
        found += [*_check_place(stage, shape, given), *_check_settings(stage, shape, given)]
        problems += [f"step {place} '{stage.step}': {text}" for text in found]
        given.setdefault(stage.name, shape.writes if shape else None)
    names = dict.fromkeys(stage.name for stage in recipe.stages)
    for name in recipe.report:
        if name not in names:
            problems.append(f"report: no step is named '{name}'; {_among(name, 'names', names)}")
    return problems


def find_step(name: str, steps: StepTable = STEPS) -> Callable[..., Path]:
    """Return the step's function."""
    row = steps[name]
    return load_step(name) if isinstance(row, str) else row


def read_shape(function: Callable[..., Path]) -> StepShape:
    """Read from a step's signature the kinds of its files and its settings."""
    source, output, *rest = inspect.signature(function, eval_str=True).parameters.values()
    settings = {parameter.name.rstrip("_"): parameter for parameter in rest if parameter.name != "force"}
    marks = {name: _list_marks(parameter, Reads) for name, parameter in settings.items()}
    return StepShape(
        reads=_find_mark(source, Reads).kinds,
        writes=_find_mark(output, Writes).kind,
        settings=settings,
        files={name: found[0].kinds for name, found in marks.items() if found},
        owned=(source.name, output.name, "force"),
        check=getattr(sys.modules[function.__module__], "check_settings", None),
    )


def convert_setting(value: Any, annotation: Any) -> Any:
    """Turn a value of a recipe into what the parameter takes; raises ValueError that says what is wrong."""
    marks = getattr(annotation, "__metadata__", ())
    option = next((mark for mark in marks if isinstance(mark, OptionInfo)), OptionInfo())
    text = json.dumps(value, default=str)
    if option.parser and value is not None:
        try:
            return option.parser(str(value))
        except typer.BadParameter as error:
            raise ValueError(str(error)) from error
    bounds = Field(ge=option.min, le=option.max)
    bounded: Any = Annotated[annotation, bounds]  # pyright: ignore[reportInvalidTypeForm]
    try:
        return TypeAdapter(bounded).validate_json(text, strict=True)
    except ValidationError as error:
        raise ValueError(f"{error.errors()[0]['msg'].removeprefix('Input ')}, not {text}") from error


def _find_mark(parameter: inspect.Parameter, kind: type[_Mark]) -> _Mark:
    if marks := _list_marks(parameter, kind):
        return marks[0]
    raise TypeError(f"parameter '{parameter.name}' of a step is not annotated with {kind.__name__}(...)")


def _list_marks(parameter: inspect.Parameter, kind: type[_Mark]) -> list[_Mark]:
    return [mark for mark in getattr(parameter.annotation, "__metadata__", ()) if isinstance(mark, kind)]


def _check_place(stage: Stage, shape: StepShape | None, given: _Given) -> Iterator[str]:
    """Check the stage's name, and that what it reads is given before and of a kind it reads."""
    if stage.name in given:
        yield f"a second '{stage.name}'; give it another 'name:'"
    if stage.step and not _SAFE_NAME.fullmatch(stage.name):
        yield f"name '{stage.name}' is no file name; use letters, digits, '.', '_' and '-'"
    if stage.source is not None and stage.source not in given:
        names = [name for name in given if name is not None]
        yield f"'from: {stage.source}' names no earlier step; {_among(stage.source, 'earlier', names)}"
    kind = given.get(stage.source)
    if shape and kind and kind not in shape.reads:
        origin = f"'{stage.source}' gives" if stage.source else "the run starts from"
        yield f"reads {' or '.join(shape.reads)}, but {origin} {kind}"


def _check_settings(stage: Stage, shape: StepShape | None, given: _Given) -> Iterator[str]:
    if shape is None:
        return
    for key, value in stage.settings.items():
        if key in shape.owned:
            yield f"'{key}' is for the run to set, not for a recipe; remove it"
        elif key in shape.files:
            yield from _check_file(key, value, shape.files[key], given)
        elif key in shape.settings:
            try:
                convert_setting(value, shape.settings[key].annotation)
            except ValueError as error:
                yield f"setting '{key}': {error}"
        elif key in _BESIDE:
            yield f"has no setting '{key}'; write '{key}:' beside '{stage.step}:', not under it"
        else:
            yield f"has no setting '{key}'; {_among(key, 'settings', shape.settings)}"
    for key, parameter in shape.settings.items():
        if parameter.default is parameter.empty and key not in (*stage.settings, *FILLED):
            yield f"needs the setting '{key}'"
    if shape.check and set(stage.settings) <= set(shape.settings):
        try:
            shape.check(**stage.settings, source_kind=given.get(stage.source))
        except UsageError as error:
            yield str(error)


def _check_file(key: str, value: Any, kinds: tuple[Kind, ...], given: _Given) -> Iterator[str]:
    """Check that a setting which is a file names an earlier step that gives one of its kinds."""
    names = [name for name in given if name is not None]
    if not isinstance(value, str) or value not in names:
        yield f"setting '{key}': names no earlier step, {value!r}; {_among(value, 'earlier', names)}"
    elif (kind := given[value]) and kind not in kinds:
        yield f"setting '{key}': takes {' or '.join(kinds)}, but '{value}' gives {kind}"


def _choose_report(recipe: Recipe, steps: StepTable) -> tuple[str, ...]:
    """Name the first ONNX artifact and all that no later stage reads."""
    read = {stage.source for stage in recipe.stages}
    for stage in recipe.stages:
        read.update(stage.settings.get(key) for key in read_shape(find_step(stage.step, steps)).files)
    last = [stage.name for stage in recipe.stages if stage.name not in read]
    onnx = [s.name for s in recipe.stages if read_shape(find_step(s.step, steps)).writes == "onnx"]
    return tuple(dict.fromkeys([*onnx[:1], *last]))


def _parse_recipe(content: Any, steps: StepTable, problems: list[str]) -> Recipe:
    """Read what can be read and add to `problems` what cannot."""
    if not isinstance(content, dict):
        problems.append("is not a recipe; it holds 'steps:' and a list under it")
        return Recipe("", ())
    for key in content:
        if key not in _KEYS:
            problems.append(f"unknown key '{key}'; {_among(key, 'keys', _KEYS)}")
    rows, report = content.get("steps"), content.get("report") or []
    if not (isinstance(rows, list) and rows):
        problems.append("steps: lists no step; write '- export:' and the like under it")
        rows = []
    if not (isinstance(report, list) and all(isinstance(name, str) for name in report)):
        problems.append("report: is not a list of names; write it like [fp32, fp16]")
        report = []
    stages: list[Stage] = []
    for place, row in enumerate(rows, start=1):
        stages.append(_parse_stage(row, place, stages[-1].name if stages else None, steps, problems))
    network = content.get("network")
    if network is not None and not (isinstance(network, str) and network in NETWORKS):
        problems.append(f"network: '{network}' is not registered; {_among(network, 'registered', NETWORKS)}")
    return Recipe(str(content.get("description") or ""), tuple(stages), tuple(report), network)


def _parse_stage(row: Any, place: int, before: str | None, steps: StepTable, problems: list[str]) -> Stage:
    row = {row: None} if isinstance(row, str) else row
    keys = [key for key in row if key not in _BESIDE] if isinstance(row, dict) else []
    if not keys:
        problems.append(f"step {place}: names no step; write '- STEP:', one of {', '.join(steps)}")
        return Stage("", {}, f"step {place}", before)
    step = next((key for key in keys if key in steps), keys[0])
    label = f"step {place} '{step}'"
    for key in keys:
        if key in steps and key != step:
            problems.append(f"{label}: '{key}' is a step too; give it a '-' of its own")
        elif key != step:
            hint = f"settings stand under '{step}:', indented; {_among(key, 'beside it', _BESIDE)}"
            problems.append(f"{label}: unknown key '{key}'; {hint}")
    for key in _BESIDE:
        if not isinstance(row.get(key, ""), str):
            problems.append(f"{label}: '{key}: {row.pop(key)}' is not text; put it in quotes")
    settings = {} if row[step] is None else row[step]
    if not isinstance(settings, dict):
        problems.append(f"{label}: settings are written KEY: VALUE, not {settings!r}")
        settings = {}
    settings = {str(key): value for key, value in settings.items()}
    return Stage(str(step), settings, row.get("name", str(step)), row.get("from", before))


class _Loader(yaml.SafeLoader):
    """Safe YAML where a key may stand once only, and 1e-3 is a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                problem = f"'{key.value}' is there twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, None)


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.load(path.read_bytes(), _Loader)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        hint = "; put text that holds ': ' in quotes" if "mapping values" in str(error) else ""
        raise RecipeError(f"{path}{line}: not YAML: {error.problem or error.context}{hint}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"{path}: not YAML: {error}") from error


def _among(word: object, label: str, known: Iterable[str]) -> str:
    """Return the known word that is nearest, if one is near, and all of them."""
    close = difflib.get_close_matches(str(word), list(known), n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}{label} are {', '.join(known) or 'none'}"

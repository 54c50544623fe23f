"""Running a recipe: one artifact per stage in one folder; what is there and would come out the same is kept.

`run.json` in that folder says what each artifact was made from. It holds no times, and is written after each
finished stage, so a run that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from ..recipes import find_recipe
from .artifacts import SUFFIXES, detect_kind, hash_artifact
from .cpu_target import detect_target
from .data.pairs import hash_pairs, open_pairs
from .errors import BudgetError, InputError, OutputError, UsageError, VtoptError
from .networks import NETWORKS
from .provenance import NETWORK, Record, list_versions, read_history, read_metadata
from .recipe import FILLED, Recipe, Stage, StepTable, convert_setting, find_step, load_recipe, read_shape
from .run_state import STATE_FILE, RunState, StageState, read_run, remember_run, write_run
from .steps import STEPS
from .weights import load_weights

__all__ = [
    "Artifact",
    "Phase",
    "RunBudgetError",
    "RunResult",
    "run_recipe",
]

Phase = Literal["start", "done", "skipped", "missed"]
"""What progress is told of a stage: that it starts, then how it ended."""

HARNESS = ("engines/engine.py", "engines/feeds.py", "engines/runtimes.py", "quality/pictures.py")
"""What steps take from the benchmarks: how pairs are fed, and pictures compared."""

Step = Callable[..., Path]
Progress = Callable[[int, int, Stage, Phase], object]
Paths = Mapping[str | None, Path]


@dataclass(frozen=True)
class Artifact:
    """What one stage gave; `missed` is what its step said of a budget it did not meet."""

    name: str
    step: str
    path: Path
    seconds: float
    skipped: bool
    missed: str
    record: Record | None

    @property
    def phase(self) -> Phase:
        return "skipped" if self.skipped else "missed" if self.missed else "done"


@dataclass(frozen=True)
class RunResult:
    """The artifacts of a run in the order they were made, and what the user should know of it."""

    recipe: Recipe
    output: Path
    artifacts: tuple[Artifact, ...]
    notices: tuple[str, ...]


class RunBudgetError(BudgetError):
    """Stages missed their budgets; every artifact was kept and is in `result`."""

    def __init__(self, message: str, result: RunResult) -> None:
        super().__init__(message)
        self.result = result


def run_recipe(
    recipe: Path | str,
    *,
    weights: Path,
    network: str | None,
    pairs: Path | None,
    output: Path,
    with_: Sequence[Path] = (),
    force: bool = False,
    progress: Progress | None = None,
    steps: StepTable = STEPS,
) -> RunResult:
    """Run a recipe's stages, from `weights` on, into the folder `output`.

    `with_` are further files of weights, for the step that joins them. A recipe's own network is taken where
    `network` is None and the weights do not say theirs.

    A stage is skipped when its artifact is there, whole, and made from the same: input, settings, pairs,
    network argument, package versions and source code. `force` makes every stage again,
    and overwrites files that no run made.

    Raises RecipeError before any work for a recipe that cannot run, UsageError for files that no step joins,
    OutputError for a folder with files of someone else's making, a stage's own error with its place in front,
    and, after all stages, RunBudgetError where budgets were missed.
    """
    path = find_recipe(str(recipe))
    plan = load_recipe(path, start_kind=detect_kind(weights), steps=steps)
    if with_ and not any("with" in read_shape(find_step(stage.step, steps)).settings for stage in plan.stages):
        raise UsageError(f"{path}: has no step that joins files of weights; leave --with out")
    if plan.network and network is None and (with_ or not _names_network(weights)):
        network = plan.network
    if pairs:
        open_pairs(pairs)  # a folder that cannot be used is named now, not after minutes of work
    paths = _name_files(plan, weights, output, steps)
    earlier, notices = _open_folder(plan, paths, output, (weights, *with_), force)
    state = RunState(
        format="vtopt run 1",
        recipe=str(recipe),
        report=plan.report,
        weights=str(weights.absolute()),
        network=network,
        pairs=str(pairs.absolute()) if pairs else None,
        earlier={} if force else earlier,
    )
    filled = {"network": network, "pairs": pairs, "with": list(with_) or None}
    run = _Run(steps, paths, output, filled, state, hashes={None: hash_artifact(weights)})
    tell = progress or (lambda *_: None)
    artifacts, missed, total = [], [], len(plan.stages)
    for number, stage in enumerate(plan.stages, start=1):
        named = "" if stage.name == stage.step else f" '{stage.name}'"
        place = f"step {number} of {total}, {stage.step}{named}"
        tell(number, total, stage, "start")
        with _place_errors(place):
            artifacts.append(run.make_stage(stage))
        if artifacts[-1].missed:
            missed.append(f"{place}: {artifacts[-1].missed}")
        tell(number, total, stage, artifacts[-1].phase)
    remember_run(output)
    result = RunResult(plan, output, tuple(artifacts), notices)
    if missed:
        raise RunBudgetError("\n".join(missed), result)
    return result


def _names_network(weights: Path) -> bool:
    """Tell whether a file of weights says of which network they are."""
    if detect_kind(weights) != "checkpoint":
        return NETWORK in read_metadata(weights)
    try:
        return NETWORK in load_weights(weights)[1]
    except InputError:  # the step that reads it knows more, which of several sets is meant for instance
        return False


@dataclass
class _Run:
    """A run under way: its own arguments, what it has finished, and the hashes of the artifacts so far."""

    steps: StepTable
    paths: Paths
    output: Path
    filled: Mapping[str, Any]
    state: RunState
    hashes: dict[str | None, str]

    def make_stage(self, stage: Stage) -> Artifact:
        """Make the stage's artifact, or find that it is there, and write that down."""
        function = find_step(stage.step, self.steps)
        source, target = self.paths[stage.source], self.paths[stage.name]
        arguments = self.bind_arguments(function, stage)
        key = _make_key(function, stage.step, arguments, self.hashes[stage.source])
        began = time.perf_counter()
        found = self.state.earlier.get(target.name)
        skipped = found is not None and found.key == key and _is_intact(target, found)
        if found is None or not skipped:
            missed = _call_step(function, source, target, arguments)
            found = StageState(stage.name, key, hash_artifact(target), missed)
        seconds = time.perf_counter() - began
        self.hashes[stage.name] = found.sha256
        self.write_down(target.name, found)
        return Artifact(stage.name, stage.step, target, seconds, skipped, found.missed, _read_record(target))

    def bind_arguments(self, function: Step, stage: Stage) -> dict[str, Any]:
        """Return the step's keyword arguments: the recipe's settings, the run's own, the defaults."""
        arguments = {}
        shape = read_shape(function)
        for name, parameter in shape.settings.items():
            if name in shape.files and name in stage.settings:
                value = self.paths[stage.settings[name]]
            elif name in stage.settings:
                value = convert_setting(stage.settings[name], parameter.annotation)
            elif name in FILLED and (self.filled[name] is not None or parameter.default is parameter.empty):
                value = self.filled[name]
            else:
                value = parameter.default
            arguments[parameter.name] = value
        return arguments

    def write_down(self, file: str, stage: StageState) -> None:
        earlier = {name: other for name, other in self.state.earlier.items() if name != file}
        self.state = replace(self.state, stages={**self.state.stages, file: stage}, earlier=earlier)
        write_run(self.state, self.output)


def _call_step(function: Step, source: Path, target: Path, arguments: Mapping[str, Any]) -> str:
    """Call the step; return what it says of a missed budget, empty when it met it or has none."""
    try:
        function(source, target, **arguments, force=True)
    except BudgetError as error:
        if not target.exists():
            raise
        return str(error)
    return ""


@contextmanager
def _place_errors(place: str) -> Iterator[None]:
    """Put the stage's place in front of the message of what is raised inside, and keep its class."""
    try:
        yield
    except VtoptError as error:
        error.args = (f"{place}: {error}", *error.args[1:])
        raise
    except Exception as error:
        error.add_note(place)
        raise


def _make_key(function: Step, step: str, arguments: Mapping[str, Any], source_sha256: str) -> str:
    """Hash all that the step's output depends on, as far as it can be told."""
    facts = {
        "step": step,
        "source": source_sha256,
        "arguments": {name: _identify(name, value) for name, value in arguments.items()},
        "code": _hash_code(sys.modules[function.__module__]),
        "versions": list_versions(),
        "cpu": detect_target(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _identify(name: str, value: Any) -> Any:
    """Return what stands for an argument in a key: pictures and files count by content, not by place."""
    if name == "pairs":
        return hash_pairs(value)
    if name == "network" and value is not None and value not in NETWORKS:
        return value, _hash_factory(value)
    if isinstance(value, list):
        return [_identify(name, entry) for entry in value]
    return hash_artifact(value) if isinstance(value, Path) and value.is_file() else value


def _hash_code(module: ModuleType) -> str:
    """Hash the step's module and, of vtopt's own, all that it is built of: this folder, and what feeds and compares."""
    own = Path(inspect.getfile(module))
    total = hashlib.sha256(own.read_bytes())
    if module.__package__ == __package__:
        harness = own.parents[1] / "benchmarks"
        for file in (*sorted(own.parent.rglob("*.py")), *(harness / name for name in HARNESS)):
            total.update(file.read_bytes())
    return total.hexdigest()


def _hash_factory(network: str) -> str:
    """Hash the file of a user's own package.module:factory; empty where it cannot be told without importing it."""
    module = Path(*network.partition(":")[0].split("."))
    candidates = (module.with_suffix(".py"), module / "__init__.py")
    found = (Path(folder) / name for folder in ("", *sys.path) for name in candidates)
    file = next((path for path in found if path.is_file()), None)
    return hashlib.sha256(file.read_bytes()).hexdigest() if file else ""


def _is_intact(target: Path, found: StageState) -> bool:
    return target.is_file() and hash_artifact(target) == found.sha256


def _name_files(plan: Recipe, weights: Path, output: Path, steps: StepTable) -> Paths:
    """Return stage name -> path of its artifact, and None -> the weights."""
    paths: dict[str | None, Path] = {None: weights}
    for number, stage in enumerate(plan.stages, start=1):
        suffix = SUFFIXES[read_shape(find_step(stage.step, steps)).writes]
        paths[stage.name] = output / f"{number:02d}-{stage.name}{suffix}"
    return paths


def _open_folder(
    plan: Recipe, paths: Paths, output: Path, read: Sequence[Path], force: bool
) -> tuple[dict[str, StageState], tuple[str, ...]]:
    """Return what earlier runs made in the folder, and notices; raises OutputError for files of others."""
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output}: is a file; name a folder")
    made, notices = {}, []
    if (output / STATE_FILE).exists():
        try:
            state = read_run(output)
            made = {**state.earlier, **state.stages}
        except InputError as error:
            (output / STATE_FILE).replace(output / f"{STATE_FILE}.old")
            notices.append(f"{error}; it is {STATE_FILE}.old now, and every stage is made again")
    for stage in plan.stages:
        target, source = paths[stage.name], paths[stage.source]
        if target.resolve() in {path.resolve() for path in read}:
            raise OutputError(f"{target}: the run reads it and would overwrite it; choose another folder")
        if target.exists() and target.name not in made and not force and not _is_made_from(target, source):
            raise OutputError(f"{target}: no run made it here; choose another folder or pass --force")
    planned = {path.name for path in paths.values()}
    stale = [file for file in made if file not in planned and (output / file).exists()]
    notices += [f"{output / file}: an earlier run left it, this recipe does not make it" for file in stale]
    return {file: stage for file, stage in made.items() if file in planned}, tuple(notices)


def _is_made_from(target: Path, source: Path) -> bool:
    """Tell whether the file itself says so; a run that was killed had perhaps not written it down."""
    record = _read_record(target)
    return record is not None and source.exists() and record.parent_sha256 == hash_artifact(source)


def _read_record(path: Path) -> Record | None:
    try:
        return read_history(path)[-1]
    except (InputError, IndexError, ValueError, TypeError):
        return None

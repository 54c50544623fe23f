"""What a run's folder says of it, and which folder was the last run's."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from .errors import InputError, OutputError

__all__ = ["STATE_FILE", "RunState", "StageState", "read_run", "recall_run", "remember_run", "write_run"]

STATE_FILE = "run.json"


@dataclass(frozen=True)
class StageState:
    """A finished stage: `key` hashes all that its artifact depends on, `sha256` the artifact."""

    name: str
    key: str
    sha256: str
    missed: str


@dataclass(frozen=True)
class RunState:
    """What run.json holds: file name -> stage, for the latest run, and for what earlier ones left behind.

    A stage of an earlier run is among `earlier` until the latest run comes to it.
    """

    format: Literal["vtopt run 1"]
    recipe: str
    report: tuple[str, ...]
    weights: str
    network: str | None
    pairs: str | None
    stages: Mapping[str, StageState] = field(default_factory=dict)
    earlier: Mapping[str, StageState] = field(default_factory=dict)

    @property
    def reported(self) -> dict[str, str]:
        """Name -> file name of what the report compares, the reference first, as far as it is finished."""
        files = {stage.name: file for file, stage in self.stages.items()}
        return {name: files[name] for name in self.report if name in files}


def write_run(state: RunState, output: Path) -> None:
    """Write run.json, all of it or nothing; raises OutputError where it cannot be written."""
    path, draft = output / STATE_FILE, output / f".vtopt-{STATE_FILE}"
    try:
        draft.write_text(json.dumps(asdict(state), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}; choose another folder") from error


def read_run(output: Path) -> RunState:
    """Return what run.json in the folder says; raises InputError when it is not there or not vtopt's."""
    path = output / STATE_FILE
    try:
        return TypeAdapter(RunState).validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{output}: holds no run; run a recipe into it first") from error
    except (OSError, ValidationError) as error:
        raise InputError(f"{path}: is damaged, or not of a run's making") from error


def remember_run(output: Path) -> None:
    """Note the folder as that of the last run, for commands that are given none."""
    try:
        path = _find_pointer()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(output.absolute()))
    except (OSError, RuntimeError):
        pass  # it is a convenience; a home that is missing or read-only must not end a run


def recall_run() -> Path | None:
    """Return the folder of the last run, None where there is none or it is gone."""
    try:
        output = Path(os.fsdecode(_find_pointer().read_bytes()))
    except (OSError, RuntimeError):
        return None
    return output if output.is_dir() else None


def _find_pointer() -> Path:
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (state if state.is_absolute() else Path.home() / ".local/state") / "vtopt/last_run"

"""Olive by its command line, which lives in an environment of its own: its requirements do not touch vtopt's.

Its `optimize --precision int8` calibrates on English text whatever the model; static int8 of pictures needs a
workflow file for `olive run`, in which all but the calibration data is left as it comes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...optimize.errors import MissingExtraError, VtoptError
from ...optimize.onnx_files import save_onnx
from ...optimize.provenance import read_metadata

if TYPE_CHECKING:
    from ..studies.int8_tools import Samples

__all__ = ["OliveCommand", "find_olive_version", "list_olive_commands"]

SILENT = {"OLIVE_DISABLE_TELEMETRY": "1"}
MADE = "made"
"""The folder that Olive writes to."""


@dataclass(frozen=True)
class OliveCommand:
    """A command of Olive, as its user types it."""

    settings: str
    arguments: Callable[[Path, Samples, Path], list[str]]
    """From the model, the calibration samples and the folder that it runs in."""
    executable: str
    seconds: float

    def run(self, plain: Path, samples: Samples, path: Path) -> None:
        """Write to `path` what the command makes of the plain model.

        Raises MissingExtraError where Olive is not there, VtoptError with its own reason where it fails.
        """
        import onnx

        executable = _find_olive(self.executable)
        with tempfile.TemporaryDirectory(prefix="vtopt-olive-") as folder:
            place = Path(folder)
            _call([executable, *self.arguments(plain.absolute(), samples, place)], place, self.seconds)
            made = place / MADE / "model.onnx"
            if not made.is_file():
                raise VtoptError("olive wrote no model.onnx; another version of it may")
            save_onnx(onnx.load(made), path, read_metadata(plain))


def list_olive_commands(executable: str, seconds: float) -> list[OliveCommand]:
    """Return the commands of Olive that take an ONNX model of pictures; one alone where Olive is not there."""

    def optimize(*options: str) -> OliveCommand:
        return _name_model(" ".join(("optimize", *options)), executable, seconds)

    commands = [
        optimize(),
        optimize("--precision", "fp16"),
        _name_model("quantize --implementation ort", executable, seconds),
        OliveCommand("run, OnnxStaticQuantization", _write_workflow, executable, seconds),
    ]
    return commands if shutil.which(executable) else commands[:1]


def _name_model(command: str, executable: str, seconds: float) -> OliveCommand:
    def write(plain: Path, samples: Samples, place: Path) -> list[str]:
        return [*command.split(), "--model_name_or_path", str(plain), "--output_path", MADE]

    return OliveCommand(command, write, executable, seconds)


def _write_workflow(plain: Path, samples: Samples, place: Path) -> list[str]:
    """Write the samples and a workflow that calibrates on them; return the command that runs it."""
    for number, sample in enumerate(samples):
        for name, array in sample.items():
            file = place / "samples" / name / f"{number:05d}.bin"
            file.parent.mkdir(parents=True, exist_ok=True)
            array.astype(np.float32).tofile(file)
    data = {
        "data_dir": "samples",
        "input_names": list(samples[0]),
        "input_shapes": [list(array.shape) for array in samples[0].values()],
    }
    cpu = {"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}
    workflow = {
        "input_model": {"type": "OnnxModel", "model_path": str(plain)},
        "systems": {"here": {"type": "LocalSystem", "accelerators": [cpu]}},
        "data_configs": [{"name": "pairs", "type": "RawDataContainer", "load_dataset_config": data}],
        "passes": {"int8": {"type": "OnnxStaticQuantization", "data_config": "pairs"}},
        "host": "here",
        "target": "here",
        "output_dir": MADE,
    }
    (place / "workflow.json").write_text(json.dumps(workflow, indent=1), encoding="utf-8")
    return ["run", "--config", "workflow.json"]


def _find_olive(executable: str) -> str:
    found = shutil.which(executable)
    if found is None:
        raise MissingExtraError(
            f"'{executable}' is not to be found; pip install olive-ai onnxruntime requests in an environment "
            "of its own, and pass --olive PATH_TO_OLIVE"
        )
    return str(Path(found).absolute())


def _call(command: list[str], place: Path, seconds: float) -> None:
    try:
        subprocess.run(
            [*command, "--disable_telemetry"],
            cwd=place,
            env={**os.environ, **SILENT},
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise VtoptError(f"olive took more than {seconds:g} s") from error
    except subprocess.CalledProcessError as error:
        lines = [line.strip() for line in error.stdout.splitlines() if line.strip()]
        raise VtoptError(f"olive fails: {lines[-1] if lines else f'exit code {error.returncode}'}") from error
    except OSError as error:
        raise VtoptError(f"olive cannot be started: {error.strerror}") from error


def find_olive_version(executable: str) -> str:
    """Return Olive's version, as the Python beside its executable knows it; absent where there is none."""
    found = shutil.which(executable)
    if found is None:
        return "absent"
    ask = "from importlib.metadata import version; print(version('olive-ai'))"
    try:
        told = subprocess.run(
            [Path(found).with_name("python"), "-c", ask], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return told.stdout.strip()

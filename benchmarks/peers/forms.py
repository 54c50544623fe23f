"""Every form of one network: as each tool makes it with its own defaults, and as vtopt's recipes do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ...optimize.artifacts import hash_artifact
from ...optimize.progress import track
from ..engines.engine import feed_pair, open_engine
from ..host import take_reason
from ..studies.network_forms import ONNX_RUNTIMES, slim_plainly
from ..studies.plain_warp import simplify_plainly
from . import tools
from .olive import OliveCommand, list_olive_commands
from .recipes import RECIPES, run_shipped
from .task import ChosenPairs, PeersTask

if TYPE_CHECKING:
    from ...optimize.data.pairs import Pair
    from ..studies.int8_tools import Samples

__all__ = ["PLAIN", "Form", "describe_failure", "make_forms"]

PLAIN = "torch.onnx + onnxsim"
"""What the others are made of, and their times are a ratio to."""

LONGEST_REASON = 300


@dataclass(frozen=True)
class Form:
    """One tool's model on one runtime."""

    tool: str
    settings: str
    """What was asked of the tool; no two forms of a network and a runtime have the same."""
    runtime: str
    path: Path | None = None
    """None where it could not be made."""
    seconds: float | None = None
    """What making it took, from the weights on."""
    source: Path | None = None
    """The float model that its flow is compared with."""
    note: str = ""
    """Why it could not be made, or what else is to be known of it."""

    @property
    def key(self) -> tuple[str, str]:
        return f"{self.tool}: {self.settings}", self.runtime


@dataclass(frozen=True)
class _Maker:
    tool: str
    settings: str
    runtimes: Sequence[str]
    make: Callable[[Path], object]
    suffix: str = ".onnx"


@dataclass(frozen=True)
class _Source:
    """The plain model, whose flow a peer's is compared with, and the seconds that what it starts from took."""

    path: Path
    seconds: float


def make_forms(task: PeersTask, weights: Path, pairs: ChosenPairs, folder: Path) -> list[Form]:
    """Write every form of a network to `folder`; the first is the plain one on onnxruntime.

    A form that cannot be made has a note in place of a path: a tool that fails does not end the others.

    Raises VtoptError when the plain form cannot be made.
    """
    began = time.perf_counter()
    traced = tools.export_by_torch(task.network)
    exported = time.perf_counter() - began
    plain = folder / "plain.onnx"
    save = partial(tools.save_model_of, task.network)
    save(simplify_plainly(traced), plain)
    source = _Source(plain, time.perf_counter() - began)
    forms = [Form(PLAIN, "export, simplify", runtime, plain, source.seconds, plain) for runtime in ONNX_RUNTIMES]
    slim = _Maker("torch.onnx + onnxslim", "export, slim", ONNX_RUNTIMES, lambda path: save(slim_plainly(traced), path))
    samples = _feed_samples(task, plain, pairs.calibration)
    jobs: list[Callable[[], list[Form]]] = [
        partial(_make, slim, _Source(plain, exported), folder),
        *(partial(_make, maker, source, folder) for maker in _list_tools(plain, samples)),
        *(partial(_make, maker, _Source(plain, 0), folder) for maker in _list_torch_tools(task, plain, samples)),
        *(partial(_make, maker, source, folder) for maker in _list_olive(task, plain, samples)),
        *(partial(_make_recipe, task, name, weights, source, folder) for name in RECIPES),
    ]
    for job in track(jobs, f"{task.network.name}: forms", total=len(jobs)):
        forms += job()
    return _drop_twins(forms)


def _feed_samples(task: PeersTask, plain: Path, pairs: Sequence[Pair]) -> Samples:
    engine = open_engine(plain, threads=task.threads)
    return [feed_pair(engine, pair) for pair in pairs]


def _drop_twins(forms: Sequence[Form]) -> list[Form]:
    """Leave out the same file of the same tool for the same runtime: the float model of a second recipe."""
    seen: dict[tuple[str, str, object], Form] = {}
    for number, form in enumerate(forms):
        seen.setdefault((form.tool, form.runtime, hash_artifact(form.path) if form.path else number), form)
    return list(seen.values())


def _list_tools(plain: Path, samples: Samples) -> list[_Maker]:
    from ..studies import int8_tools

    by_onnxruntime = partial(int8_tools.quantize_by_onnxruntime, plain, samples)
    by_nncf = partial(int8_tools.quantize_ir_by_nncf, plain, samples, fp16=True)
    return [
        _Maker("OpenVINO", "convert_model, save_model", ("openvino",), partial(tools.convert_plainly, plain), ".xml"),
        _Maker("onnxruntime", "quantize_static", ONNX_RUNTIMES, by_onnxruntime),
        _Maker("NNCF", "quantize, of ONNX", ("onnxruntime",), partial(int8_tools.quantize_by_nncf, plain, samples)),
        _Maker("NNCF", "quantize, of OpenVINO's model", ("openvino",), by_nncf, ".xml"),
    ]


def _list_torch_tools(task: PeersTask, plain: Path, samples: Samples) -> list[_Maker]:
    """Return the tools that start from the network in torch; the plain model only says what it is of."""
    from ..studies import int8_tools

    given = (task.network, plain, samples)
    of_public_code = partial(tools.quantize_public_code, *given)
    of_own_warps = partial(int8_tools.quantize_by_neural_compressor, *given)
    return [
        _Maker("neural-compressor", "StaticQuantConfig", ONNX_RUNTIMES, of_public_code),
        _Maker("neural-compressor", "StaticQuantConfig, with vtopt's warps", ONNX_RUNTIMES, of_own_warps),
    ]


def _list_olive(task: PeersTask, plain: Path, samples: Samples) -> list[_Maker]:
    def wrap(command: OliveCommand) -> _Maker:
        return _Maker("Olive", command.settings, ONNX_RUNTIMES, partial(command.run, plain, samples))

    return [wrap(command) for command in list_olive_commands(task.olive, task.olive_seconds)]


def _make(maker: _Maker, source: _Source, folder: Path) -> list[Form]:
    name = "".join(sign if sign.isalnum() else "-" for sign in f"{maker.tool}-{maker.settings}")
    path: Path | None = folder / f"{name}{maker.suffix}"
    note, seconds, began = "", None, time.perf_counter()
    try:
        maker.make(path)
        seconds = source.seconds + time.perf_counter() - began
    except Exception as error:  # other tools raise anything, and one of them must not end the others
        note, path = describe_failure(error, path), None
    made = (path, seconds, source.path, note)
    return [Form(maker.tool, maker.settings, runtime, *made) for runtime in maker.runtimes]


def _make_recipe(task: PeersTask, name: str, weights: Path, source: _Source, folder: Path) -> list[Form]:
    """Return the reported artifacts of a shipped recipe; the float one is compared with the plain form's flow."""
    runtime = RECIPES[name]
    output = folder / name
    try:
        made = run_shipped(name, weights, task.pairs, output)
    except Exception as error:  # a recipe that fails must not end the others either
        return [Form("vtopt", name, runtime, note=describe_failure(error, output))]
    return [
        Form(
            "vtopt",
            f"{name}: {artifact.name}",
            runtime,
            artifact.path,
            artifact.seconds,
            artifact.source or source.path,
            artifact.note,
        )
        for artifact in made
    ]


def describe_failure(error: BaseException, path: Path) -> str:
    """Return an error as one short sentence, without the path of a file that is gone by then."""
    reason = take_reason(error).replace(f"{path}: ", "").replace(str(path), path.name)
    return reason if len(reason) <= LONGEST_REASON else f"{reason[: LONGEST_REASON - 1].rstrip()}…"

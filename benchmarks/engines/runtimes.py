"""Load a model into one of the three runtimes, and run it on numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...optimize.errors import InputError, VtoptError
from ..host import need, take_reason
from .signal_stack import drop_signal_stack

if TYPE_CHECKING:
    import onnxruntime

__all__ = [
    "DEFAULT_SIZE",
    "GPU_RUNTIMES",
    "RUNTIMES",
    "Arrays",
    "Feeds",
    "Loaded",
    "Opener",
    "Settings",
    "Shape",
    "list_gpu_runtimes",
    "load_model",
    "make_session_options",
]

Shape = tuple[int | None, ...]
Arrays = dict[str, np.ndarray]
Feeds = Mapping[str, np.ndarray]

DEFAULT_SIZE = (256, 192)
"""Height and width taken where a model leaves them open."""

CPU_PROVIDER = "CPUExecutionProvider"

_LOG_ERRORS_ONLY = 3

_ONNX_TYPES: Mapping[str, str] = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


class Loaded(NamedTuple):
    """A model in its runtime: what goes in, what comes out, and the function between."""

    inputs: dict[str, Shape]
    outputs: tuple[str, ...]
    run: Callable[[Feeds], Arrays]
    pictures: Mapping[str, str] = {}
    size: tuple[int, int] | None = None


class Settings(NamedTuple):
    """How to load a model; each runtime takes of it what it knows."""

    threads: int
    network: str | None = None
    precise: bool = False
    after_run: Callable[[Any], None] | None = None
    """OpenVINO profiles its nodes then, and gives its request to this after each run."""


class Opener(NamedTuple):
    """How a runtime loads a file: the kinds it takes, and the function that loads one."""

    kinds: tuple[str, ...]
    load: Callable[[Path, Settings], Loaded]


def _load_torch(path: Path, settings: Settings) -> Loaded:
    """Load weights or a checkpoint into its network, in float32."""
    torch = need("torch")
    from ...optimize.weights import load_network

    loaded = load_network(path, settings.network)
    names = tuple(spec.name for spec in loaded.inputs)

    def run(feeds: Feeds) -> Arrays:
        before = torch.get_num_threads()
        torch.set_num_threads(settings.threads)
        try:
            with torch.inference_mode():
                made = loaded.module(*(torch.tensor(feeds[name], dtype=torch.float32) for name in names))
        finally:
            torch.set_num_threads(before)
        return _name_outputs(made, loaded.outputs)

    return Loaded(
        inputs={spec.name: (None, spec.channels, None, None) for spec in loaded.inputs},
        outputs=tuple(loaded.outputs),
        run=run,
        pictures={spec.name: spec.fed_by for spec in loaded.inputs},
        size=loaded.size,
    )


def _name_outputs(made: Any, names: Sequence[str]) -> Arrays:
    """Name what a module returned: a tensor, several in order, or a mapping, by its own names if they fit."""
    if isinstance(made, Mapping):
        values = [made[name] for name in names] if all(name in made for name in names) else [*made.values()]
    else:
        values = [*made] if isinstance(made, list | tuple) else [made]
    return {name: value.float().numpy() for name, value in zip(names, values, strict=False)}


def make_session_options(threads: int, *, precise: bool = False) -> onnxruntime.SessionOptions:
    """Return how every model is run on onnxruntime: sequential, all graph optimisations.

    Its threads stop spinning when a run ends, so that they do not slow down another engine that is
    measured next. `precise` keeps Q/DQ around float kernels.
    """
    ort = need("onnxruntime")
    options = ort.SessionOptions()
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    levels = ort.GraphOptimizationLevel
    # The basic level keeps Q/DQ around float kernels. The session entry made for this,
    # session.x64quantprecision, fails to load where two convolutions share their int8 weights (1.31).
    options.graph_optimization_level = levels.ORT_ENABLE_BASIC if precise else levels.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _load_onnxruntime(path: Path, settings: Settings, provider: str = CPU_PROVIDER) -> Loaded:
    """Load ONNX into a provider of onnxruntime (see `make_session_options`); operations that it lacks run on the CPU.

    Raises InputError where onnxruntime could not start the provider: it then runs all of the model on the CPU.
    """
    ort = need("onnxruntime")
    options = make_session_options(settings.threads, precise=settings.precise)
    session = ort.InferenceSession(str(path), options, providers=list(dict.fromkeys([provider, CPU_PROVIDER])))
    if provider not in session.get_providers()[:1]:
        raise InputError(
            f"{path}: onnxruntime could not start {provider}, and would run all of it on the CPU; install the driver "
            "and libraries that it needs, or choose another --runtime"
        )
    types = {node.name: np.dtype(_ONNX_TYPES.get(node.type, "float32")) for node in session.get_inputs()}
    outputs = tuple(node.name for node in session.get_outputs())

    def run(feeds: Feeds) -> Arrays:
        made = session.run(outputs, {name: _cast(feeds[name], dtype) for name, dtype in types.items()})
        return {name: _to_float32(value) for name, value in zip(outputs, made, strict=True)}

    shapes = {
        node.name: tuple(side if isinstance(side, int) else None for side in node.shape)
        for node in session.get_inputs()
    }
    return Loaded(inputs=shapes, outputs=outputs, run=run)


def _load_openvino(path: Path, settings: Settings, device: str = "CPU") -> Loaded:
    """Load OpenVINO IR or ONNX into a plugin of OpenVINO: float32, one stream, tuned for latency."""
    ov = need("openvino")
    options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    if device == "CPU":
        options["INFERENCE_NUM_THREADS"] = settings.threads
    if settings.precise:
        options["EXECUTION_MODE_HINT"] = "ACCURACY"
    if settings.after_run:
        options["PERF_COUNT"] = True
    core = ov.Core()
    model = core.read_model(path)
    compiled = core.compile_model(model, device, options)
    drop_signal_stack()
    request = compiled.create_infer_request()
    names = [_name_port(port) for port in compiled.inputs]
    types = [np.dtype(port.get_element_type().to_dtype()) for port in compiled.inputs]
    outputs = tuple(_name_port(port) for port in compiled.outputs)

    checked: set[tuple[Shape, ...]] = set()

    def run(feeds: Feeds) -> Arrays:
        arrays = {
            index: _cast(feeds[name], dtype) for index, (name, dtype) in enumerate(zip(names, types, strict=True))
        }
        fed = tuple(array.shape for array in arrays.values())
        if model.is_dynamic() and fed not in checked:
            # With one thread OpenVINO 2026.4 hides that shapes do not fit, and gives empty or stale pictures.
            model.clone().reshape({index: list(shape) for index, shape in enumerate(fed)})
            checked.add(fed)
        made = request.infer(arrays)
        if settings.after_run:
            settings.after_run(request)
        return {name: _to_float32(made[index]) for index, name in enumerate(outputs)}

    shapes = {
        name: tuple(side.get_length() if side.is_static else None for side in port.partial_shape)
        for name, port in zip(names, compiled.inputs, strict=True)
    }
    return Loaded(inputs=shapes, outputs=outputs, run=run)


def _name_port(port: Any) -> str:
    """Return a port's tensor name; of several, the node's own: compiling adds those of tensors merged into it."""
    names, node = port.get_names(), port.get_node().get_friendly_name().split("/sink_port")[0]
    return node if node in names or not names else min(names)


def _cast(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return np.ascontiguousarray(array, dtype)


def _to_float32(array: np.ndarray) -> np.ndarray:
    return np.asarray(array).astype(np.float32, copy=False)


RUNTIMES: Mapping[str, Opener] = {
    "torch": Opener(("weights", "checkpoint"), _load_torch),
    "onnxruntime": Opener(("onnx",), _load_onnxruntime),
    "openvino": Opener(("openvino", "onnx"), _load_openvino),
}
"""Runtime -> the kinds of file it loads and how; a kind's default runtime is the first that takes it."""


GPU_RUNTIMES: Mapping[str, Opener] = {
    "onnxruntime-cuda": Opener(("onnx",), partial(_load_onnxruntime, provider="CUDAExecutionProvider")),
    "onnxruntime-directml": Opener(("onnx",), partial(_load_onnxruntime, provider="DmlExecutionProvider")),
    "openvino-gpu": Opener(("openvino", "onnx"), partial(_load_openvino, device="GPU")),
}
"""The same where there is a GPU (see `list_gpu_runtimes`); never a default."""


@cache
def list_gpu_runtimes() -> tuple[str, ...]:
    """Return those of `GPU_RUNTIMES` that this installation and this machine have."""
    there: set[str] = set()
    with suppress(Exception):  # a runtime that is not installed, or a driver that fails
        providers = need("onnxruntime").get_available_providers()
        names = {"onnxruntime-cuda": "CUDAExecutionProvider", "onnxruntime-directml": "DmlExecutionProvider"}
        there |= {name for name, provider in names.items() if provider in providers}
    with suppress(Exception):
        if any(device.startswith("GPU") for device in need("openvino").Core().available_devices):
            there.add("openvino-gpu")
    return tuple(name for name in GPU_RUNTIMES if name in there)


def load_model(path: Path, runtime: str, settings: Settings) -> Loaded:
    """Load a file into a runtime; raises InputError with the first telling line of the runtime's message."""
    try:
        opener = RUNTIMES.get(runtime) or GPU_RUNTIMES[runtime]
        loaded = opener.load(path, settings)
    except VtoptError:
        raise
    except Exception as error:  # each runtime has exceptions of its own
        raise InputError(
            f"{path}: {runtime} cannot load it: {take_reason(error)}; make it again from its parent, "
            "or open it with another --runtime"
        ) from error
    if not loaded.inputs or not loaded.outputs:
        raise InputError(f"{path}: has {len(loaded.inputs)} inputs and {len(loaded.outputs)} outputs; export again")
    return loaded

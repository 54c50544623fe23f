"""One way to run any artifact: weights in torch, ONNX in onnxruntime or OpenVINO, IR in OpenVINO."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...optimize.errors import InputError
from ..host import count_cpus, take_reason
from .feeds import feed_pair, fits_shape, infer_picture, match_pictures, write_shape
from .runtimes import (
    DEFAULT_SIZE,
    GPU_RUNTIMES,
    RUNTIMES,
    Arrays,
    Feeds,
    Settings,
    Shape,
    list_gpu_runtimes,
    load_model,
)

__all__ = ["Engine", "feed_pair", "infer_picture", "open_engine"]


@dataclass(frozen=True)
class Engine:
    """A loaded model that runs on numpy arrays."""

    runtime: str
    inputs: Mapping[str, Shape]
    """Name -> shape, None where dynamic."""
    outputs: tuple[str, ...]
    """Names; the first is the try-on picture unless one is called "tryon"."""
    pictures: Mapping[str, str]
    """Input name -> "person", "clothes" or "edge"; inputs that nothing is known of are absent."""
    run: Callable[[Feeds], Arrays]
    """Arrays by input name to float32 arrays by output name; inputs are cast to the model's types."""
    size: tuple[int, int] = DEFAULT_SIZE
    """Height and width of the picture inputs."""
    threads: int = 1
    path: Path | None = None


def open_engine(
    path: Path,
    *,
    runtime: str | None = None,
    threads: int | None = None,
    network: str | None = None,
    precise: bool = False,
) -> Engine:
    """Load an artifact into a runtime, ready to run.

    `runtime` defaults to torch for weights and checkpoints, onnxruntime for ONNX, openvino for IR; ONNX
    also runs on openvino. `threads` defaults to the cores this process may use. `network` names the
    architecture of weights that do not say it. `precise` trades speed for exact int8 sums where a runtime
    offers it (onnxruntime: QDQ models on float kernels, so nothing saturates on x64 without VNNI). It shows
    what quantisation itself costs; the pictures that this machine ships, and its times, are those without.

    Raises InputError for a file that is missing, damaged, or of a kind the runtime does not load.
    """
    from ...optimize.artifacts import detect_kind
    from ...optimize.provenance import read_pictures

    path = Path(path)
    kind = detect_kind(path)
    runtime = _choose_runtime(path, kind, runtime)
    threads = count_cpus() if threads is None else threads
    if threads < 1:
        raise InputError(f"threads: {threads} is too few; give 1 or more")
    loaded = load_model(path, runtime, Settings(threads, network, precise))
    return Engine(
        runtime=runtime,
        inputs=loaded.inputs,
        outputs=loaded.outputs,
        pictures=match_pictures(loaded.inputs, loaded.pictures or read_pictures(path)),
        run=_guard_run(path, runtime, loaded.inputs, loaded.run),
        size=loaded.size or _find_size(loaded.inputs),
        threads=threads,
        path=path,
    )


def _choose_runtime(path: Path, kind: str, runtime: str | None) -> str:
    able = [name for name, opener in RUNTIMES.items() if kind in opener.kinds]
    if runtime is None:
        return able[0]
    if runtime in GPU_RUNTIMES and runtime in list_gpu_runtimes() and kind in GPU_RUNTIMES[runtime].kinds:
        return runtime
    if runtime not in RUNTIMES:
        raise InputError(f"{path}: runtime '{runtime}' is not known; choose one of {', '.join(RUNTIMES)}")
    if runtime not in able:
        raise InputError(f"{path}: {runtime} does not run a file of kind {kind}; choose {' or '.join(able)}")
    return runtime


def _find_size(inputs: Mapping[str, Shape]) -> tuple[int, int]:
    """Return the height and width of the first picture input whose both are fixed, else the default."""
    sizes = (shape[2:] for shape in inputs.values() if len(shape) == 4)
    return next(((h, w) for h, w in sizes if h is not None and w is not None), DEFAULT_SIZE)


def _guard_run(
    path: Path,
    runtime: str,
    inputs: Mapping[str, Shape],
    run: Callable[[Feeds], Arrays],
) -> Callable[[Feeds], Arrays]:
    """Wrap a runtime's run: what does not fit, or fails, is an InputError that names the file."""

    def guarded(feeds: Feeds) -> Arrays:
        for name, shape in inputs.items():
            if name not in feeds:
                raise InputError(f"{path}: input '{name}' was not given; it takes {', '.join(inputs)}")
            if not fits_shape(feeds[name].shape, shape):
                given, wanted = write_shape(feeds[name].shape), write_shape(shape)
                raise InputError(f"{path}: input '{name}' is {wanted}, it was given {given}; feed it {wanted}")
        try:
            return run(feeds)
        except Exception as error:  # each runtime has exceptions of its own
            raise InputError(
                f"{path}: {runtime} fails to run it: {take_reason(error)}; try another --runtime"
            ) from error

    return guarded

"""One network in the forms that are compared: in torch, exported plainly, by other tools, and rewritten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...optimize.errors import VtoptError
from ...optimize.progress import track
from ..host import need, take_reason
from .plain_warp import simplify_plainly, trace_plainly

if TYPE_CHECKING:
    from onnx import ModelProto

    from ...optimize.networks import Network

__all__ = ["ALL", "EAGER", "ONNX_RUNTIMES", "PLAIN", "Variant", "build_seeded", "make_variants", "slim_plainly"]

EAGER = "torch eager"
"""The network in torch, with the warps of the public code."""
PLAIN = "plain"
"""What torch.onnx and onnxsim make of it: the form that the others are compared with."""
ALL = "all rewrites"

OnnxRuntime = Literal["onnxruntime", "openvino"]
ONNX_RUNTIMES: tuple[OnnxRuntime, ...] = ("onnxruntime", "openvino")

SEED = 0


@dataclass(frozen=True)
class Variant:
    """A form of a network, the runtime it is for, and its file."""

    form: str
    runtime: str
    path: Path


def build_seeded(name: str) -> Network:
    """Return a network with random weights from a fixed seed; the demo's network with its trained ones."""
    import torch

    from ...checkpoints import DEMO_CHECKPOINT
    from ...optimize.networks import build_network
    from ...optimize.weights import load_network

    if name == DEMO_CHECKPOINT.stem:
        return load_network(DEMO_CHECKPOINT)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return build_network(name)


def make_variants(
    network: Network, folder: Path, *, size: tuple[int, int], batch: int, notices: list[str]
) -> list[Variant]:
    """Write every form of a network to `folder`, for pictures of `size` and a fixed batch.

    A form that cannot be made is left out, and `notices` says why; it also has what the steps had to say.

    Raises VtoptError when the plain form cannot be made: there is nothing to compare with then.
    """
    from ...optimize.onnx_files import save_onnx
    from ...optimize.provenance import read_history
    from ...optimize.weights import describe_network, save_weights

    metadata = describe_network(network.name, network)
    weights, plain = folder / "weights.safetensors", folder / "plain.onnx"
    save_weights(network.module.state_dict(), weights, metadata)
    traced = trace_plainly(network, size, batch)
    save_onnx(simplify_plainly(traced), plain, metadata)
    variants = [Variant(EAGER, "torch", weights), *(Variant(PLAIN, runtime, plain) for runtime in ONNX_RUNTIMES)]

    def slim(path: Path) -> None:
        save_onnx(slim_plainly(traced), path, metadata)

    makers: list[tuple[str, tuple[str, ...], Callable[[Path], object]]] = [
        ("onnxslim", ONNX_RUNTIMES, slim),
        ("export", ONNX_RUNTIMES, partial(_export, network, weights, size, batch)),
        *((form, (runtime,), make) for form, runtime, make in _list_rewrites(plain)),
    ]
    label = f"{network.name} batch {batch}: forms"
    for form, runtimes, make in track(makers, label, total=len(makers)):
        path = folder / f"{form.replace(' ', '-')}-{'-'.join(runtimes)}.onnx"
        where = f"{network.name} batch {batch}: {form} for {' and '.join(runtimes)}"
        try:
            make(path)
        except VtoptError as error:
            notices.append(f"{where} is left out: {error}".replace(f"{path}: ", ""))
            continue
        notices += [f"{where}: {notice}" for record in read_history(path) for notice in record.notices]
        variants += [Variant(form, runtime, path) for runtime in runtimes]
    return variants


def slim_plainly(model: ModelProto) -> ModelProto:
    """Return what onnxslim makes of a model; raises VtoptError when it fails."""
    onnxslim = need("onnxslim")
    try:
        return onnxslim.slim(model)
    except Exception as error:  # it has no exceptions of its own
        raise VtoptError(f"onnxslim fails ({take_reason(error)}); another version of it may not") from error


def _export(network: Network, weights: Path, size: tuple[int, int], batch: int, path: Path) -> None:
    """Export as vtopt does; a batch other than one is exported as dynamic and then fixed."""
    from ...optimize.artifacts import Size
    from ...optimize.export import export_onnx

    export_onnx(weights, path, network=network.name, size=Size(*size), dynamic_batch=batch > 1, pair_count=1)
    if batch > 1:
        _fix_batch(path, batch)


def _fix_batch(path: Path, batch: int) -> None:
    from ...optimize.onnx_files import load_onnx, save_onnx
    from ...optimize.provenance import read_metadata

    model = load_onnx(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    save_onnx(model, path, read_metadata(path))


def _list_rewrites(plain: Path) -> Iterator[tuple[str, OnnxRuntime, Callable[[Path], Path]]]:
    """Yield each rewrite alone, then all of them, for each runtime: the form, the runtime, and its maker."""
    from ...optimize.rewrite import rewrite_onnx
    from ...optimize.rewrites import REWRITES

    chosen: list[tuple[str, list[str] | None]] = [*((name, [name]) for name in REWRITES), (ALL, None)]
    for form, only in chosen:
        for runtime in ONNX_RUNTIMES:
            yield form, runtime, partial(rewrite_onnx, plain, runtime=runtime, only=only)

"""Export a network to ONNX, and prove the graph against the network."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .artifacts import (
    Force,
    NetworkName,
    OnnxOut,
    PairCount,
    PairsFolder,
    Size,
    SizeOption,
    WeightsIn,
    new_output,
)
from .errors import InputError, VtoptError
from .networks import Network
from .onnx_files import check_onnx, save_onnx
from .provenance import add_record, read_metadata
from .rounding import require_export_close
from .verify import compare_artifacts
from .weights import describe_network, load_network

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import Tensor

__all__ = ["MAX_RELATIVE_DIFFERENCE", "check_size", "export_onnx", "make_example", "trace_dynamo"]

MAX_RELATIVE_DIFFERENCE = 1e-4
"""Largest difference to the torch network, as a share of the output's largest value."""


def export_onnx(
    source: WeightsIn,
    output: OnnxOut,
    *,
    network: NetworkName = None,
    size: SizeOption = None,
    opset: Annotated[int, typer.Option(min=16, max=19, help="20 and later rename GridSample's mode.")] = 17,
    dynamic_batch: Annotated[bool, typer.Option(help="Let the batch size vary.")] = False,
    exporter: Annotated[
        Literal["auto", "dynamo", "torchscript"],
        typer.Option(help="auto: dynamo, and TorchScript with a notice where that fails."),
    ] = "auto",
    pairs: PairsFolder = None,
    pair_count: PairCount = 2,
    force: Force = False,
) -> Path:
    """Export a network to ONNX with named inputs and outputs.

    Every form of repeat_interleave is rewritten to operators that all runtimes have; the graph keeps no
    traces of source paths, so equal weights give equal bytes. The graph is checked, and run on pairs
    against the torch network.

    Raises InputError for a size the network's pyramid cannot halve, NetworkError for weights that do not
    fit, DifferenceError when a picture is not finite, or differs by more than 1e-4 of its largest value and the
    network itself is steadier than that (see `require_export_close`); nothing is written then.
    """
    built = load_network(source, network)
    size = size or Size(*built.size)
    check_size(size, built, source)
    notices: list[str] = []
    with new_output(output, "onnx", force=force) as temporary:
        model = _trace(built, size, opset, dynamic_batch, exporter, notices)
        metadata = read_metadata(source) | describe_network(built.name, built)
        save_onnx(model, temporary, metadata)
        check_onnx(temporary, full=True)
        asked = {"pairs": pairs, "pair_count": pair_count, "size": size, "network": network}
        difference = compare_artifacts(source, temporary, **asked)
        if unsteady := require_export_close(difference, MAX_RELATIVE_DIFFERENCE, source, output, **asked):
            notices.append(unsteady)
        settings = {
            "network": network,
            "size": str(size),
            "opset": opset,
            "dynamic_batch": dynamic_batch,
            "exporter": exporter,
            "pairs": pairs,
            "pair_count": pair_count,
        }
        figures = {"nodes": len(model.graph.node), **difference.to_figures()}
        metadata = add_record(metadata, "export", source, settings=settings, figures=figures, notices=tuple(notices))
        save_onnx(model, temporary, metadata)
    return output


def check_size(size: Size, network: Network, source: Path) -> None:
    """Raise InputError for a size that the network's pyramid cannot halve."""
    step = network.multiple_of
    if size.height % step or size.width % step:
        fitting = Size(*(max(step, round(side / step) * step) for side in size))
        raise InputError(
            f"{source}: size {size} cannot be halved as often as the network's pyramid needs; "
            f"height and width must be multiples of {step}: use --size {fitting}"
        )


def _trace(
    network: Network, size: Size, opset: int, dynamic_batch: bool, exporter: str, notices: list[str]
) -> ModelProto:
    from .repeat_interleave import exportable_repeat_interleave

    # Where the batch may vary it is two in the trace, so that no exporter takes it for a constant.
    batch = 2 if dynamic_batch else 1
    examples = [make_example(network, size, batch, seed) for seed in (0, 1)]
    _check_runs(network, examples[0])
    with exportable_repeat_interleave(network.module, examples):
        if exporter != "torchscript":
            try:
                return trace_dynamo(network, examples[0], opset, dynamic_batch)
            except Exception as error:  # an exporter may raise anything
                if exporter == "dynamo":
                    raise VtoptError(
                        f"the dynamo exporter failed: {_find_reason(error)}; try --exporter torchscript"
                    ) from error
                notices.append(f"the dynamo exporter failed, TorchScript was used: {_find_reason(error)}")
        try:
            return _trace_torchscript(network, examples[0], opset, dynamic_batch)
        except Exception as error:
            raise VtoptError(
                f"the network cannot be exported: {_find_reason(error)}; see which operator it names, "
                "and replace it in the network"
            ) from error


def _check_runs(network: Network, example: tuple[Tensor, ...]) -> None:
    """Raise InputError when the network itself fails, before an exporter is blamed for it."""
    import torch

    try:
        with torch.no_grad():
            network.module(*example)
    except Exception as error:
        shapes = ", ".join(
            f"{spec.name} {'x'.join(map(str, tensor.shape))}"
            for spec, tensor in zip(network.inputs, example, strict=True)
        )
        raise InputError(
            f"network '{network.name}' fails on inputs {shapes}: {_find_reason(error)}; "
            "correct its inputs or choose another --size"
        ) from error


def _find_reason(error: BaseException) -> str:
    """Return the first line of the error that began it: exporters wrap it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


def make_example(network: Network, size: Size, batch: int, seed: int) -> tuple[Tensor, ...]:
    """Return seeded inputs in [-1, 1]."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, spec.channels, size.height, size.width) for spec in network.inputs]
    return tuple(torch.rand(shape, generator=generator) * 2 - 1 for shape in shapes)


def trace_dynamo(network: Network, example: tuple[Tensor, ...], opset: int, dynamic_batch: bool = False) -> ModelProto:
    """Return what the dynamo exporter makes of the network; raises VtoptError where it cannot write the opset."""
    import torch

    options: dict[str, Any] = {}
    if dynamic_batch:
        batch = torch.export.Dim("batch", min=1)
        options["dynamic_shapes"] = tuple({0: batch} for _ in network.inputs)
    with _quiet():
        program = torch.onnx.export(
            network.module,
            example,
            dynamo=True,
            opset_version=opset,
            input_names=[spec.name for spec in network.inputs],
            output_names=list(network.outputs),
            verbose=False,
            **options,
        )
        if program is None:
            raise VtoptError("it returned nothing")
        model = program.model_proto
    # It writes opset 18 and converts that; where it cannot, it keeps 18 with a line in the log.
    written = next(entry.version for entry in model.opset_import if not entry.domain)
    if written != opset:
        raise VtoptError(f"it cannot write opset {opset}, only {written}")
    return model


def _trace_torchscript(network: Network, example: tuple[Tensor, ...], opset: int, dynamic_batch: bool) -> ModelProto:
    import onnx
    import torch

    names = [spec.name for spec in network.inputs]
    outputs = list(network.outputs)
    axes = {name: {0: "batch"} for name in [*names, *outputs]} if dynamic_batch else None
    with _quiet(), tempfile.TemporaryDirectory(prefix="vtopt-export-") as folder:
        path = Path(folder) / "traced.onnx"
        torch.onnx.export(
            network.module,
            example,
            path,
            dynamo=False,
            opset_version=opset,
            input_names=names,
            output_names=outputs,
            dynamic_axes=axes,
        )
        return onnx.load(path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what exporters print, log and warn of from the user's terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    silence = io.StringIO()
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(silence),
            contextlib.redirect_stderr(silence),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

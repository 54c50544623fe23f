"""Say what a file is: its kind, size, network, inputs, warps, and the steps that made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .artifacts import detect_kind, hash_artifact, list_files
from .console import format_record, format_value, show_size
from .errors import InputError
from .provenance import NETWORK, Record, read_history, read_metadata

if TYPE_CHECKING:
    from .warp import Warp

__all__ = ["describe_warp", "format_inspection", "inspect_artifact", "profile_artifact"]

SMALL_SHARE = 0.005
"""Operators that take less of the time are not listed."""


def inspect_artifact(path: Path, *, profile: bool = False) -> dict[str, Any]:
    """Return what is known of an artifact, with `profile` also where its time goes.

    Raises InputError when it cannot be read, or profiled.
    """
    kind = detect_kind(path)
    found: dict[str, Any] = {
        "file": str(path),
        "kind": kind,
        "bytes": sum(file.stat().st_size for file in list_files(path)),
        "sha256": hash_artifact(path),
        "network": read_metadata(path).get(NETWORK),
    }
    inspectors = {
        "checkpoint": _inspect_checkpoint,
        "weights": _inspect_weights,
        "onnx": _inspect_onnx,
        "openvino": _inspect_graph,
    }
    found |= inspectors[kind](path)
    if profile:
        found |= profile_artifact(path)
    return found | {"history": [vars(record) for record in read_history(path)]}


def _inspect_checkpoint(path: Path) -> dict[str, Any]:
    from .checkpoint import read_checkpoint, select_weights

    chosen = select_weights(read_checkpoint(path), path)
    parameters = sum(tensor.numel() for tensor in chosen.weights.values())
    return {
        "network": chosen.metadata.get(NETWORK),
        "weights at": chosen.source or "the top level",
        "tensors": chosen.kept,
        "numbers": parameters,
        "beside them": list(chosen.dropped),
        "notices": list(chosen.notices),
    }


def _inspect_weights(path: Path) -> dict[str, Any]:
    from .weights import load_weights

    weights, _ = load_weights(path)
    types = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in weights.values()})
    return {
        "tensors": len(weights),
        "numbers": sum(tensor.numel() for tensor in weights.values()),
        "types": types,
    }


def _inspect_onnx(path: Path) -> dict[str, Any]:
    from ..benchmarks.cost.flops import count_macs
    from .onnx_files import load_onnx
    from .warp import find_warps, list_grid_nodes, name_nodes

    model = load_onnx(path)
    name_nodes(model)
    warps = find_warps(model)
    counted = count_macs(model)
    sampled = sum(counted.by_node.get(warp.name, 0) for warp in warps)
    opset = next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), None)
    return {
        "opset": opset,
        "nodes": len(model.graph.node),
        **_inspect_graph(path),
        "nodes that make grids": len(list_grid_nodes(warps)) - len(warps),
        "warps": [asdict(warp) for warp in warps],
        "warps' share of MACs": round(sampled / counted.macs, 4) if counted.macs else None,
    }


def describe_warp(warp: Warp) -> str:
    """Return a warp in a line: its node, heads, shapes, how it samples, and how much makes its grid."""
    from ..benchmarks.engines.feeds import write_shape

    shapes = (write_shape(shape) if shape else "unknown" for shape in (warp.features_shape, warp.output_shape))
    words = [
        warp.op,
        "1 head" if warp.heads == 1 else f"{warp.heads} heads",
        " to ".join(shapes),
        warp.mode,
        f"padding {warp.padding_mode}" + (" by a clamped grid" if warp.clamped else ""),
        f"align_corners {int(warp.align_corners)}",
        f"grid of {len(warp.grid_nodes)} nodes from {len(warp.flow_heads)} flow heads",
    ]
    return f"{warp.name}: {', '.join(words)}" + (f", inside {warp.subgraph}" if warp.subgraph else "")


def profile_artifact(path: Path, threads: int | None = None) -> dict[str, Any]:
    """Return where the time of a run of ONNX on onnxruntime goes: milliseconds by operator, and the warps' share.

    Raises InputError for another kind of file.
    """
    from ..benchmarks.cost.op_times import measure_op_times
    from .warp import WARP_OPS

    if detect_kind(path) != "onnx":
        raise InputError(f"{path}: only ONNX can be profiled, on onnxruntime; leave out --profile")
    times = measure_op_times(path, threads=threads)
    return {
        "milliseconds": round(times.total_ms, 1),
        "warps' share of time": round(times.share(*WARP_OPS), 4),
        "time by operator": {
            op: f"{ms:.1f} ms, {times.share(op):.1%}"
            for op, ms in times.by_op.items()
            if times.share(op) >= SMALL_SHARE
        },
    }


def _inspect_graph(path: Path) -> dict[str, Any]:
    from ..benchmarks.cost.flops import count_macs
    from ..benchmarks.cost.size import count_parameters
    from ..benchmarks.engines.engine import open_engine
    from ..benchmarks.engines.feeds import write_shape

    engine = open_engine(path)
    counted = count_macs(path)
    return {
        "inputs": {
            name: f"{write_shape(shape)} ({engine.pictures.get(name, 'not known')})"
            for name, shape in engine.inputs.items()
        },
        "outputs": list(engine.outputs),
        "parameters": count_parameters(path),
        "macs": counted.macs,
        "uncounted": counted.uncounted,
    }


def format_inspection(found: Mapping[str, Any]) -> str:
    """Return an inspection as lines for people."""
    from .warp import Warp

    lines = [f"{found['file']}: {found['kind']}, {show_size(found['bytes'])}"]
    hidden = {"file", "kind", "bytes", "history"}
    for key, value in found.items():
        if key == "warps":
            lines.append(f"  {key:22} {len(value)}")
            lines += [f"    {describe_warp(Warp(**warp))}" for warp in value]
        elif key not in hidden and value not in (None, [], {}):
            lines.append(f"  {key:22} {format_value(value)}")
    for number, record in enumerate((Record(**entry) for entry in found["history"]), 1):
        settings = ", ".join(f"{key} {value}" for key, value in record.settings.items() if value is not None)
        lines.append(f"  step {number}: {record.step} of {record.parent} ({settings})")
        lines += [f"    {line}" for line in format_record(record)]
    return "\n".join(lines)

"""Say what a file is: its kind, size, network, inputs, warps, and the steps that made it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .artifacts import detect_kind, hash_artifact, list_files
from .console import format_record, format_value, show_size
from .provenance import NETWORK, Record, read_history, read_metadata

__all__ = ["format_inspection", "inspect_artifact"]


def inspect_artifact(path: Path) -> dict[str, Any]:
    """Return what is known of an artifact; raises InputError when it cannot be read."""
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
    from .onnx_files import load_onnx
    from .warp import find_warps, list_grid_nodes, name_nodes

    model = load_onnx(path)
    name_nodes(model)
    warps = find_warps(model)
    opset = next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), None)
    return {
        "opset": opset,
        "nodes": len(model.graph.node),
        "warps": len(warps),
        "nodes that make grids": len(list_grid_nodes(warps)) - len(warps),
        **_inspect_graph(path),
    }


def _inspect_graph(path: Path) -> dict[str, Any]:
    from ..benchmarks.engines import open_engine
    from ..benchmarks.feeds import write_shape
    from ..benchmarks.flops import count_macs
    from ..benchmarks.size import count_parameters

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
    lines = [f"{found['file']}: {found['kind']}, {show_size(found['bytes'])}"]
    hidden = {"file", "kind", "bytes", "history"}
    for key, value in found.items():
        if key not in hidden and value not in (None, [], {}):
            lines.append(f"  {key:22} {format_value(value)}")
    for number, record in enumerate((Record(**entry) for entry in found["history"]), 1):
        settings = ", ".join(f"{key} {value}" for key, value in record.settings.items() if value is not None)
        lines.append(f"  step {number}: {record.step} of {record.parent} ({settings})")
        lines += [f"    {line}" for line in format_record(record)]
    return "\n".join(lines)

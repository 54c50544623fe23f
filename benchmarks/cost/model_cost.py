"""What a model costs before it runs: bytes on disk, in memory and compressed, parameters and multiply-adds."""

from __future__ import annotations

import re
import zlib
from dataclasses import asdict
from math import prod
from pathlib import Path

from ...optimize.artifacts import detect_kind, hash_artifact
from ...optimize.provenance import read_history
from ..reports.tables import to_json_value
from ..run.results import Model
from .graphs import load_graph
from .size import count_parameters, list_artifact_files, measure_size
from .torch_macs import count_model_macs

__all__ = ["measure_compressed", "measure_cost", "measure_weight_bytes"]

ZLIB_LEVEL = 6
CHUNK = 1 << 20


def measure_cost(name: str, path: Path, *, network: str | None = None, size: tuple[int, int] | None = None) -> Model:
    """Measure a file; multiply-adds are of one picture in torch, ONNX or IR by the same convention (see `mac_rules`).

    `size` is the height and width of the pictures that weights are counted for, by default their network's own.
    """
    counted = count_model_macs(path, network, size)
    return Model(
        name=name,
        path=str(path),
        kind=detect_kind(path),
        sha256=hash_artifact(path),
        bytes=measure_size(path),
        weight_bytes=measure_weight_bytes(path, network),
        compressed_bytes=measure_compressed(path),
        parameters=count_parameters(path, network),
        macs=counted.macs,
        uncounted=counted.uncounted,
        history=tuple(to_json_value(asdict(record)) for record in read_history(path)),
    )


def measure_weight_bytes(path: Path, network: str | None = None) -> int:
    """Return the bytes of a graph's constants in their own types; of weights, those of their network in float32."""
    if detect_kind(path) in ("onnx", "openvino"):
        graph = load_graph(path, shapes=False)
        bits = (
            _find_bits(kind) * prod(side or 0 for side in graph.shapes[name]) for name, kind in graph.constants.items()
        )
        return -(-sum(bits) // 8)
    from ...optimize.weights import load_network

    state = load_network(path, network).module.state_dict()
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())


def _find_bits(kind: str) -> int:
    """Return the bits of an element type by its name in ONNX or OpenVINO: 8 for uint8, 32 for float."""
    named = {"float": 32, "double": 64, "bool": 8, "boolean": 8, "complex64": 64, "complex128": 128}
    digits = re.search(r"\d+", kind)
    return named.get(kind) or (int(digits[0]) if digits else 8)


def measure_compressed(path: Path) -> int:
    """Return the bytes of the artifact's files by zlib at level 6."""
    size = 0
    for file in list_artifact_files(path):
        squeeze = zlib.compressobj(ZLIB_LEVEL)
        with file.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                size += len(squeeze.compress(chunk))
        size += len(squeeze.flush())
    return size

"""What a model costs before it runs: bytes on disk, in memory and compressed, parameters and multiply-adds."""

from __future__ import annotations

import re
import zlib
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import NamedTuple

from ...optimize.artifacts import detect_kind, hash_artifact
from ...optimize.provenance import read_history
from ..reports.tables import to_json_value
from ..run.results import Model
from .flops import MacReport, count_graph_macs
from .graphs import Graph, load_graph
from .size import count_graph_parameters, list_artifact_files, measure_size
from .torch_macs import count_network_macs

__all__ = ["Counts", "count_model", "measure_compressed", "measure_cost"]

ZLIB_LEVEL = 6
CHUNK = 1 << 20


def measure_cost(name: str, path: Path, *, network: str | None = None, size: tuple[int, int] | None = None) -> Model:
    """Measure a file: its bytes, and what `count_model` counts."""
    counted = count_model(path, network=network, size=size)
    return Model(
        name=name,
        path=str(path),
        kind=detect_kind(path),
        sha256=hash_artifact(path),
        bytes=measure_size(path),
        weight_bytes=counted.weight_bytes,
        compressed_bytes=measure_compressed(path),
        parameters=counted.parameters,
        macs=counted.macs.macs,
        uncounted=counted.macs.uncounted,
        history=tuple(to_json_value(asdict(record)) for record in read_history(path)),
    )


class Counts(NamedTuple):
    """What is counted in a file, which is loaded once for all of it."""

    macs: MacReport
    """Of one picture, in torch, ONNX and IR by the same convention (see `mac_rules`)."""
    parameters: int
    weight_bytes: int
    """Of a graph's constants in their own types; of weights, those of their network in float32."""


def count_model(path: Path, *, network: str | None = None, size: tuple[int, int] | None = None) -> Counts:
    """Count a model's multiply-adds, parameters and bytes of weights.

    `network` names the architecture of weights that do not say it; `size` is the height and width of the pictures that
    weights and graphs of any size are counted for, by default the network's own, and 256x192.
    """
    if detect_kind(path) in ("onnx", "openvino"):
        graph = load_graph(path, size=size)
        return Counts(count_graph_macs(graph), count_graph_parameters(graph), _add_constants(graph))
    from ...optimize.weights import load_network

    loaded = load_network(path, network)
    state = loaded.module.state_dict()
    return Counts(
        macs=count_network_macs(loaded, size),
        parameters=sum(parameter.numel() for parameter in loaded.module.parameters()),
        weight_bytes=sum(tensor.numel() * tensor.element_size() for tensor in state.values()),
    )


def _add_constants(graph: Graph) -> int:
    """Return the bytes of all constants."""
    bits = (_find_bits(kind) * prod(side or 0 for side in graph.shapes[name]) for name, kind in graph.constants.items())
    return -(-sum(bits) // 8)


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

"""The files beside an ONNX model that hold weights of its: ONNX's external data."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, TensorProto

__all__ = ["find_external_data"]

_MARK = b"\n\x08location"
"""How protobuf writes the key under which a tensor names its file: field 1, 8 bytes."""


def find_external_data(path: Path) -> list[Path]:
    """Return the files that an ONNX model's tensors lie in, sorted, whether they are there or not.

    Most models have none, and are not parsed. Empty for a file that is damaged, which those who load it tell.
    """
    if not _has_mark(path):
        return []
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError:
        return []
    locations = {
        entry.value
        for tensor in _walk_tensors(model.graph)
        if tensor.data_location == tensor.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return sorted({path.parent / location for location in locations} - {path})


def _has_mark(path: Path) -> bool:
    if not path.stat().st_size:
        return False  # which mmap refuses
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(_MARK) >= 0


def _walk_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Yield every tensor of a graph: initialisers, and those in attributes and subgraphs."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from [attribute.t, *attribute.tensors]
            for subgraph in [attribute.g, *attribute.graphs]:
                yield from _walk_tensors(subgraph)

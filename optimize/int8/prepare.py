"""Make a model ready to be quantised: batch-norms in their convolutions, every node named, warps fenced."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..warp import find_warps, list_grid_nodes, name_nodes, separate_constants

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["QUANTIZED_OPS", "Prepared", "open_workspace", "prepare_model"]

QUANTIZED_OPS = ("Conv",)
"""Convolutions are where the time goes; quantising the cheap operators between them only costs quality."""


class Prepared(NamedTuple):
    """A float32 model to quantise, and what is known of it."""

    model: ModelProto
    protected: list[str]
    """The nodes that make grids, and the warps: they stay float32."""
    quantizable: list[str]
    """The other convolutions, in graph order."""


def prepare_model(model: ModelProto) -> Prepared:
    """Fold batch-norms and constants, name the nodes, and list what may be quantised; `model` is not changed."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with open_workspace() as folder:
        plain, path = folder / "plain.onnx", folder / "prepared.onnx"
        onnx.save(model, plain)
        quant_pre_process(plain, path, skip_symbolic_shape=True)
        prepared = onnx.load(path)
    name_nodes(prepared)
    protected = list_grid_nodes(find_warps(prepared))
    separate_constants(prepared, protected)
    fenced = set(protected)
    nodes = [node.name for node in prepared.graph.node if node.op_type in QUANTIZED_OPS and node.name not in fenced]
    return Prepared(prepared, protected, nodes)


@contextmanager
def open_workspace() -> Iterator[Path]:
    """Give a temporary folder, and keep onnxruntime's advice off the user's terminal."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory(prefix="vtopt-int8-") as folder:
            yield Path(folder)
    finally:
        logger.setLevel(level)

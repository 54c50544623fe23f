"""Load and save ONNX files, in one way for every step."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .artifacts import detect_kind
from .errors import InputError
from .provenance import Metadata, set_onnx_metadata

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["check_onnx", "find_precision", "load_onnx", "save_onnx"]

_INT8_OPS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "QLinearConv"})


def load_onnx(path: Path) -> ModelProto:
    """Return the model, checked; raises InputError for a file that is damaged or no valid ONNX.

    Weights that lie in files of their own are read in, local functions written out where they are called: every
    warp is then in the graph.
    """
    import onnx
    from onnx import inliner

    if detect_kind(path) != "onnx":
        raise InputError(f"{path}: is no ONNX model; make one with vtopt export")
    check_onnx(path)
    model = onnx.load(path)
    if not model.graph.node:
        raise InputError(f"{path}: the ONNX model has no nodes; export it again")
    return inliner.inline_local_functions(model) if model.functions else model


def check_onnx(path: Path, *, full: bool = False) -> None:
    """Raise InputError unless ONNX's checker accepts the file; `full` also infers every shape."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        onnx.load(path)
        onnx.checker.check_model(path, full_check=full)
    except DecodeError as error:
        raise InputError(f"{path}: not a readable ONNX model; it is damaged or cut short") from error
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{path}: not a valid ONNX model: {reason}") from error


def find_precision(model: ModelProto) -> Literal["float32", "float16", "int8"]:
    """Tell what the model was quantised to, float32 where it was not; float16 also where int8 weights are beside it."""
    from onnx import TensorProto

    types = {tensor.data_type for tensor in model.graph.initializer}
    if TensorProto.FLOAT16 in types:
        return "float16"
    quantized = TensorProto.INT8 in types or any(node.op_type in _INT8_OPS for node in model.graph.node)
    return "int8" if quantized else "float32"


def save_onnx(model: ModelProto, path: Path, metadata: Metadata) -> None:
    """Write the model with these `vtopt.` entries; the same model gives the same bytes.

    Doc strings and per-node metadata of other tools are left out: they hold source paths.
    """
    from onnxmltools.utils import save_model

    del model.graph.value_info[:], model.metadata_props[:], model.graph.metadata_props[:]
    model.ClearField("doc_string")
    model.graph.ClearField("doc_string")
    model.producer_name, model.producer_version = "vtopt", ""
    for values in (model.graph.input, model.graph.output, model.graph.initializer):
        for value in values:
            value.ClearField("doc_string")
            del value.metadata_props[:]
    _clean_nodes(model.graph.node)
    for function in model.functions:
        function.ClearField("doc_string")
        del function.metadata_props[:]
        _clean_nodes(function.node)
    set_onnx_metadata(model, metadata)
    save_model(model, str(path))


def _clean_nodes(nodes: Iterable[NodeProto]) -> None:
    """Empty the doc strings and metadata of nodes, and of the nodes of their branches and loops."""
    for node in nodes:
        node.ClearField("doc_string")
        del node.metadata_props[:]
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
            for graph in (attribute.g, *attribute.graphs):
                _clean_nodes(graph.node)

"""Load and save ONNX files, in one way for every step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .artifacts import detect_kind
from .errors import InputError
from .provenance import Metadata, set_onnx_metadata

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["load_onnx", "save_onnx"]


def load_onnx(path: Path) -> ModelProto:
    """Return the model, checked; raises InputError for a file that is damaged or no valid ONNX."""
    import onnx
    from google.protobuf.message import DecodeError

    if detect_kind(path) != "onnx":
        raise InputError(f"{path}: is no ONNX model; make one with vtopt export")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(path)
    except DecodeError as error:
        raise InputError(f"{path}: not a readable ONNX model; it is damaged or cut short") from error
    except (onnx.checker.ValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{path}: not a valid ONNX model: {reason}") from error
    if not model.graph.node:
        raise InputError(f"{path}: the ONNX model has no nodes; export it again")
    return model


def save_onnx(model: ModelProto, path: Path, metadata: Metadata) -> None:
    """Write the model with these `vtopt.` entries; the same model gives the same bytes.

    Doc strings and per-node metadata of other tools are left out: they hold source paths.
    """
    from onnxmltools.utils import save_model

    del model.graph.value_info[:]
    del model.metadata_props[:], model.graph.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    model.producer_name, model.producer_version = "vtopt", ""
    for entry in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer):
        entry.doc_string = ""
        del entry.metadata_props[:]
    set_onnx_metadata(model, metadata)
    save_model(model, str(path))

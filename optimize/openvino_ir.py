"""Convert ONNX to OpenVINO IR."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .artifacts import Force, OnnxIn, OpenvinoOut, PairCount, PairsFolder, new_output
from .errors import InputError
from .fp16 import cast_fp16
from .onnx_files import find_precision, load_onnx
from .provenance import Metadata, add_record, read_metadata
from .verify import compare_artifacts, require_finite

if TYPE_CHECKING:
    from onnx import ModelProto
    from openvino import Model

__all__ = ["convert_openvino"]

INT8_NOTICE = "--fp16 changes nothing: OpenVINO stores as float32 what int8 left float"


def convert_openvino(
    source: OnnxIn,
    output: OpenvinoOut,
    *,
    fp16: Annotated[
        bool, typer.Option("--fp16", help="Store weights as float16; OpenVINO computes in float32.")
    ] = False,
    pairs: PairsFolder = None,
    pair_count: PairCount = 2,
    force: Force = False,
) -> Path:
    """Convert float32, float16 or int8 ONNX to OpenVINO IR.

    Writes the .xml and, beside it, the .bin. With --fp16 what makes a warp's grid stays float32, which OpenVINO's own
    compression would round. The IR's pictures are compared with those of the ONNX model on onnxruntime.

    Raises InputError for a model with an operator that OpenVINO does not have.
    """
    loaded = load_onnx(source)
    precision = find_precision(loaded)
    notices = (INT8_NOTICE,) if fp16 and precision == "int8" else ()
    with new_output(output, "openvino", force=force) as temporary:
        model = _convert(source, cast_fp16(loaded) if fp16 and precision == "float32" else loaded)
        _save(model, temporary, read_metadata(source))
        difference = compare_artifacts(source, temporary, pairs=pairs, pair_count=pair_count)
        require_finite(difference, output)
        metadata = add_record(
            read_metadata(source),
            "convert",
            source,
            settings={"fp16": fp16, "pairs": pairs, "pair_count": pair_count},
            figures=difference.to_figures(),
            notices=notices,
        )
        _save(model, temporary, metadata)
    return output


def _convert(source: Path, model: ModelProto) -> Model:
    import openvino

    from ..benchmarks.host import take_reason

    try:
        return openvino.convert_model(BytesIO(model.SerializeToString()))
    except Exception as error:  # its frontends raise many kinds
        advice = "run the ONNX model with onnxruntime"
        if "DeformConv" in str(error):
            advice = (
                "its warps were rewritten for onnxruntime; rewrite the model from before that with --runtime openvino"
            )
        raise InputError(f"{source}: OpenVINO cannot convert it: {take_reason(error)}; {advice}") from error


def _save(model: Model, path: Path, metadata: Metadata) -> None:
    import openvino

    for key, value in sorted(metadata.items()):
        model.set_rt_info(value, key.split("."))
    openvino.save_model(model, path, compress_to_fp16=False)

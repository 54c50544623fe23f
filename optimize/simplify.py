"""Fold constants and drop dead nodes with onnxsim; keep the input where that does not help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .artifacts import Force, OnnxIn, OnnxOut, PairCount, PairsFolder, new_output
from .errors import InputError
from .onnx_files import load_onnx, save_onnx
from .provenance import add_record, read_metadata
from .verify import Difference, compare_artifacts

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["MAX_RELATIVE_DIFFERENCE", "simplify_onnx"]

MAX_RELATIVE_DIFFERENCE = 1e-5
"""Largest difference to the input's pictures, as a share of their largest value."""


def simplify_onnx(
    source: OnnxIn,
    output: OnnxOut,
    *,
    pairs: PairsFolder = None,
    pair_count: PairCount = 2,
    force: Force = False,
) -> Path:
    """Fold constants and drop dead nodes.

    The input is kept unchanged, with a notice, where the result is larger, is not valid ONNX, does not run,
    or differs from the input on pairs by more than 1e-5 of the largest value.
    """
    model, before = load_onnx(source), read_metadata(source)
    nodes_before = len(model.graph.node)

    def try_out(candidate: ModelProto, path: Path) -> Difference:
        save_onnx(candidate, path, before)
        return compare_artifacts(source, path, pairs=pairs, pair_count=pair_count)

    with new_output(output, "onnx", force=force) as temporary:
        save_onnx(model, temporary, before)  # its size as vtopt writes it, with weights from files of their own
        bytes_before = temporary.stat().st_size
        fault = ""
        try:
            kept = _simplify(model)
            difference = try_out(kept, temporary)
            _check_gain(difference, bytes_before, temporary.stat().st_size)
        except (_NoGainError, InputError) as error:
            kept, fault = model, f"{error}: the input was kept as it is"
            difference = try_out(kept, temporary)
        metadata = add_record(
            before,
            "simplify",
            source,
            settings={"pairs": pairs, "pair_count": pair_count},
            figures={
                "nodes_before": nodes_before,
                "nodes": len(kept.graph.node),
                **difference.to_figures(),
            },
            notices=(fault,) if fault else (),
        )
        save_onnx(kept, temporary, metadata)
    return output


class _NoGainError(Exception):
    """The simplified model is not to be kept; the message says why."""


def _simplify(model: ModelProto) -> ModelProto:
    import onnx
    import onnxsim

    try:
        simplified, valid = onnxsim.simplify(model)
    except Exception as error:  # onnxsim raises whatever its C++ side raised
        raise _NoGainError(f"onnxsim failed ({_shorten(error)})") from error
    if not valid:
        raise _NoGainError("onnxsim's own check failed")
    try:
        onnx.checker.check_model(simplified, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise _NoGainError(f"onnxsim made an invalid model ({_shorten(error)})") from error
    return simplified


def _shorten(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]


def _check_gain(difference: Difference, bytes_before: int, bytes_after: int) -> None:
    if bytes_after > bytes_before:
        raise _NoGainError(f"onnxsim made the file larger ({bytes_after} from {bytes_before} bytes)")
    if not difference.max_relative <= MAX_RELATIVE_DIFFERENCE:
        raise _NoGainError(f"onnxsim changed the pictures by {difference.max_relative:.2g} of their largest value")

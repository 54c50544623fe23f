"""Fold constants and drop dead nodes with onnxsim; keep the input where that does not help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .artifacts import Force, OnnxIn, OnnxOut, PairCount, PairsFolder, new_output
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

    The input is kept unchanged, with a notice, where the result is larger, is not valid ONNX, or differs
    from the input on pairs by more than 1e-5 of the largest value.
    """
    model = load_onnx(source)
    nodes_before, size_before = len(model.graph.node), source.stat().st_size
    with new_output(output, "onnx", force=force) as temporary:
        simplified, notice = _simplify(model)
        difference: Difference | None = None
        if simplified is not None:
            save_onnx(simplified, temporary, read_metadata(source))
            if temporary.stat().st_size > size_before:
                notice = f"onnxsim made the file larger ({temporary.stat().st_size} from {size_before} bytes)"
            else:
                difference = compare_artifacts(source, temporary, pairs=pairs, pair_count=pair_count)
                if difference.max_relative > MAX_RELATIVE_DIFFERENCE:
                    notice = f"onnxsim changed the pictures by {difference.max_relative:.2g} of their largest value"
        kept = model if simplified is None or notice else simplified
        metadata = add_record(
            read_metadata(source),
            "simplify",
            source,
            settings={"pairs": pairs, "pair_count": pair_count},
            figures={
                "nodes_before": nodes_before,
                "nodes": len(kept.graph.node),
                **(difference.to_figures() if difference else {}),
            },
            notices=(f"{notice}: the input was kept as it is",) if notice else (),
        )
        save_onnx(kept, temporary, metadata)
    return output


def _simplify(model: ModelProto) -> tuple[ModelProto | None, str]:
    """Return the simplified model, or None and the reason."""
    import onnx
    import onnxsim

    try:
        simplified, valid = onnxsim.simplify(model)
    except Exception as error:  # onnxsim raises whatever its C++ side raised
        return None, f"onnxsim failed ({str(error).splitlines()[0][:200] if str(error) else type(error).__name__})"
    if not valid:
        return None, "onnxsim's own check failed"
    try:
        onnx.checker.check_model(simplified, full_check=True)
    except onnx.checker.ValidationError as error:
        return None, f"onnxsim made an invalid model ({str(error).splitlines()[0][:200]})"
    return simplified, ""

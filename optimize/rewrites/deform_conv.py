"""When a warp can be a DeformConv: the warp's own sampling, the model's opset, and the runtime's kernels."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from ..onnx_graphs import read_sides
from ..warp import Warp

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["DEFORM_OPSET", "fits_deform", "has_kernel", "raise_opset"]

DEFORM_OPSET = 19
"""DeformConv came to ONNX with this opset; to onnxruntime's CPU kernels, in 2026."""


def fits_deform(warp: Warp) -> bool:
    """Tell whether a deformable convolution samples as the warp does: bilinear, padding zeros or border.

    Its shapes must be known. It makes no output much smaller than the features: it would need negative padding.
    """
    if warp.mode != "bilinear" or warp.padding_mode == "reflection":
        return False
    _, _, rows, columns = read_sides(warp.features_shape)
    _, _, height, width = read_sides(warp.output_shape)
    return height >= rows and width + warp.heads > columns


@cache
def has_kernel() -> bool:
    """Tell whether the installed onnxruntime runs a DeformConv, by loading one."""
    import onnx.parser
    import onnxruntime as ort

    model = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : {DEFORM_OPSET}]>
        g (float[1,1,2,2] x, float[1,1,1,1] w, float[1,2,2,2] offset) => (float[1,1,2,2] y)
        {{ y = DeformConv (x, w, offset) }}"""
    )
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # onnxruntime raises classes of its own for what it has no kernel for
        return False
    return True


def raise_opset(model: ModelProto) -> ModelProto:
    """Return the model with opset 19 where it had less, or as it is where that cannot be converted."""
    import onnx
    from onnx import version_converter

    opset = next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 0)
    if opset >= DEFORM_OPSET:
        return model
    try:
        converted = version_converter.convert_version(model, DEFORM_OPSET)
        onnx.checker.check_model(converted)
    except Exception:  # the converter raises RuntimeError and whatever its adapters raise
        return model
    return converted

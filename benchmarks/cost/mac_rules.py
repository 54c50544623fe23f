"""How many multiply-adds each operation takes, from shapes alone; one row per operation type.

The convention: one multiply-add is one MAC; 1 MAC = 2 FLOPs. What counts is a weighted sum of k values,
as k MACs for each element it makes:

- convolutions and matrix products: k is the receptive field times the input channels of a group, padding
  included; the bias is free;
- sampling (GridSample, linear Resize): k is the number of neighbours an element mixes, so 4 for a bilinear
  picture, 16 for bicubic, none for nearest, whatever a runtime computes; the arithmetic that finds the
  neighbours is not counted;
- averages: k is the number of values averaged.

Elementwise operations, normalisations, softmax, other reductions, quantisation and everything that only
moves data are not MACs. So an attention written as Mul and ReduceSum counts nothing, as MatMul it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

__all__ = ["FREE", "RULES", "Rule"]

Sides = tuple[int, ...]
Rule = Callable[[Sequence[Sides], Sides, Mapping[str, Any]], int | None]
"""(shapes of the inputs, shape of the first output, attributes) -> MACs, None where it cannot tell."""

_TAPS_PER_AXIS = {"nearest": 0, "linear": 2, "bilinear": 2, "linear_onnx": 2, "cubic": 4, "bicubic": 4}


def _convolve(weight: int, grouped: int = 0) -> Rule:
    """Weights (O, I / groups, *kernel) at input `weight`; `grouped` is 1 where groups have an axis too."""
    return lambda shapes, made, _: prod(made) * prod(shapes[weight][1 + grouped :])


def _deform(shapes: Sequence[Sides], made: Sides, attributes: Mapping[str, Any]) -> int:
    """Every tap of every channel is sampled bilinearly where an offset says, then convolved."""
    taps = prod(shapes[1][2:])
    sampled = shapes[0][0] * shapes[0][1] * prod(made[2:]) * taps * 2**2
    return sampled + prod(made) * prod(shapes[1][1:])


def _convolve_back(weight: int, grouped: int = 0) -> Rule:
    """Weights (I, O / groups, *kernel): every input element is spread over O / groups and the kernel."""
    return lambda shapes, made, _: prod(shapes[0]) * prod(shapes[weight][1 + grouped :])


def _multiply_matrices(shapes: Sequence[Sides], made: Sides, attributes: Mapping[str, Any]) -> int:
    left = shapes[0]
    return prod(made) * left[-2 if attributes.get("transpose_a") and len(left) > 1 else -1]


def _multiply_gemm(shapes: Sequence[Sides], made: Sides, attributes: Mapping[str, Any]) -> int:
    return prod(made) * shapes[0][0 if attributes.get("transA") else 1]


def _multiply_einsum(shapes: Sequence[Sides], made: Sides, attributes: Mapping[str, Any]) -> int | None:
    """One MAC for every combination of the indices of a product of two operands."""
    terms = str(attributes.get("equation", "")).replace(" ", "").split("->")[0].split(",")
    if "." in "".join(terms) or len(terms) > 2:
        return None
    sides = {
        index: side for term, shape in zip(terms, shapes, strict=True) for index, side in zip(term, shape, strict=True)
    }
    return prod(sides.values()) if len(terms) == 2 else 0


def _sample_grid(shapes: Sequence[Sides], made: Sides, attributes: Mapping[str, Any]) -> int | None:
    taps = _TAPS_PER_AXIS.get(attributes.get("mode", "bilinear"))
    return None if taps is None else prod(made) * taps ** shapes[1][-1]


def _resize(shapes: Sequence[Sides], made: Sides, attributes: Mapping[str, Any]) -> int | None:
    taps = _TAPS_PER_AXIS.get(attributes.get("mode", "nearest"))
    resized = sum(before != after for before, after in zip(shapes[0], made, strict=True))
    return None if taps is None else prod(made) * taps**resized if taps and resized else 0


def _pool(shapes: Sequence[Sides], made: Sides, attributes: Mapping[str, Any]) -> int | None:
    kernel = attributes.get("kernel_shape") or attributes.get("kernel")
    return prod(made) * prod(kernel) if kernel else None


def _average_all(shapes: Sequence[Sides], made: Sides, attributes: Mapping[str, Any]) -> int:
    return prod(shapes[0])


RULES: Mapping[str, Rule] = {
    # ONNX
    "Conv": _convolve(1),
    "FusedConv": _convolve(1),
    "QLinearConv": _convolve(3),
    "ConvInteger": _convolve(1),
    "ConvTranspose": _convolve_back(1),
    "DeformConv": _deform,
    "Gemm": _multiply_gemm,
    "QGemm": _multiply_gemm,
    "MatMul": _multiply_matrices,
    "MatMulInteger": _multiply_matrices,
    "QLinearMatMul": _multiply_matrices,
    "Einsum": _multiply_einsum,
    "GridSample": _sample_grid,
    "Resize": _resize,
    "Upsample": _resize,
    "AveragePool": _pool,
    "QLinearAveragePool": _pool,
    "GlobalAveragePool": _average_all,
    "QLinearGlobalAveragePool": _average_all,
    "ReduceMean": _average_all,
    # OpenVINO, where its name differs
    "Convolution": _convolve(1),
    "GroupConvolution": _convolve(1, grouped=1),
    "ConvolutionBackpropData": _convolve_back(1),
    "GroupConvolutionBackpropData": _convolve_back(1, grouped=1),
    "Interpolate": _resize,
    "AvgPool": _pool,
}

_ONNX_FREE = """
    Abs Acos Add And ArgMax ArgMin Asin Atan BatchNormalization Cast CastLike Ceil Celu Clip Compress
    Concat Constant ConstantOfShape Cos CumSum DepthToSpace DequantizeLinear Div Dropout
    DynamicQuantizeLinear Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND
    Gelu GlobalMaxPool Greater GreaterOrEqual GroupNormalization Hardmax HardSigmoid HardSwish Identity
    InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax
    LpNormalization Max MaxPool MeanVarianceNormalization Min Mish Mod Mul Neg NonZero Not OneHot Or Pad
    Pow PRelu QLinearAdd QLinearConcat QLinearLeakyRelu QLinearMul QLinearSigmoid QLinearSoftmax
    QuantizeLinear Range Reciprocal ReduceL1 ReduceL2 ReduceMax ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Relu Reshape Round ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Size Slice
    Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK
    Transpose Trilu Unsqueeze Where Xor
"""
_OPENVINO_FREE = """
    Assign BatchNormInference Broadcast Clamp Convert ConvertLike Divide FakeConvert FakeQuantize FloorMod
    GreaterEqual GRN HSigmoid HSwish LessEqual LogicalAnd LogicalNot LogicalOr LogicalXor Maximum Minimum
    Multiply MVN Negative NormalizeL2 NotEqual Parameter Power PRelu ReadValue ReduceLogicalAnd
    ReduceLogicalOr Result Roll ScatterElementsUpdate ScatterNDUpdate ScatterUpdate Select ShapeOf SoftMax
    SoftPlus SoftSign SquaredDifference StridedSlice Subtract Swish VariadicSplit
"""
FREE = frozenset(_ONNX_FREE.split()) | frozenset(_OPENVINO_FREE.split())
"""Operation types that take no multiply-adds under the convention."""

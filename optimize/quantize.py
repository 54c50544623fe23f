"""Quantise an ONNX model: float16, int8 calibrated on pairs, or int8 with dynamic ranges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .artifacts import Force, OnnxIn, OnnxOut, PairCount, PairsFolder, new_output
from .cpu_target import CpuTarget, TargetName, resolve_target
from .errors import InputError, UsageError
from .onnx_files import load_onnx, save_onnx
from .progress import track
from .provenance import add_record, read_metadata
from .verify import compare_artifacts, require_finite, require_psnr

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..benchmarks.engines import Engine
    from .data.pairs import Pair

__all__ = ["quantize_onnx"]

DYNAMIC_NOTICE = (
    "dynamic int8 is for size: it loads everywhere, and is slower than float32; "
    "for speed use static int8 (no --dynamic)"
)
NOTHING_NOTICE = "nothing was quantised: the model has no convolutions beside the flow heads of its warps"

INT8_OPS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "QLinearConv"})
CALIBRATION_COUNT = 16
CALIBRATION_SEED = 500_000
"""Drawn calibration pairs start here; those that outputs are compared on start at 0."""


def quantize_onnx(
    source: OnnxIn,
    output: OnnxOut,
    *,
    fp16: Annotated[bool, typer.Option("--fp16", help="Float16: half the size.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Int8: a quarter of the size, and faster.")] = False,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="With --int8: no calibration; for size only.")] = False,
    target: Annotated[
        TargetName | None, typer.Option(help="The CPU that int8 is for. Default: auto, this machine's.")
    ] = None,
    pairs: PairsFolder = None,
    calibration_count: Annotated[
        int | None, typer.Option(min=1, help="How many pairs int8 is calibrated on. Default: 16.")
    ] = None,
    pair_count: PairCount = 4,
    min_psnr: Annotated[
        float | None, typer.Option(help="Least PSNR to the input in dB; below it the exit code is 3.")
    ] = None,
    force: Force = False,
) -> Path:
    """Quantise to --fp16 or --int8; what makes a warp's grid stays float32.

    The output's pictures are compared with the input's on pairs that were not calibrated on, where there
    are enough.

    Raises UsageError for settings that contradict each other, InputError for a model that is quantised
    already, DifferenceError for pictures with NaN, BudgetError (the file is kept) for a PSNR below `min_psnr`.
    """
    check_settings(fp16=fp16, int8=int8, dynamic=dynamic, target=target, calibration_count=calibration_count)
    model = load_onnx(source)
    _check_float32(model, source)
    settings: dict[str, Any] = {
        "fp16": fp16,
        "int8": int8,
        "dynamic": dynamic,
        "pairs": pairs,
        "pair_count": pair_count,
        "min_psnr": min_psnr,
    }
    figures: dict[str, Any] = {}
    notices: tuple[str, ...] = ()
    with new_output(output, "onnx", force=force) as temporary:
        if fp16:
            from .fp16 import cast_fp16

            quantized = cast_fp16(model)
        elif dynamic:
            from .int8.static import quantize_dynamic

            quantized, notices = quantize_dynamic(model), (DYNAMIC_NOTICE,)
        else:
            from ..benchmarks.engines import open_engine

            cpu, notices = resolve_target(target or "auto")
            engine = open_engine(source)
            chosen, notice = choose_calibration_pairs(
                pairs, engine.size, calibration_count or CALIBRATION_COUNT, pair_count
            )
            quantized = _quantize_static(model, engine, chosen, cpu)
            settings["target"], figures["calibrated_on_pairs"] = cpu.name, len(chosen)
            notices += notice
        counts = _count_convolutions(quantized)
        if int8 and not counts["convolutions_int8"]:
            notices = (*notices, NOTHING_NOTICE)
        save_onnx(quantized, temporary, read_metadata(source))
        difference = compare_artifacts(source, temporary, pairs=pairs, pair_count=pair_count)
        require_finite(difference, output)
        metadata = add_record(
            read_metadata(source),
            "quantize",
            source,
            settings=settings,
            figures={**figures, **counts, **difference.to_figures()},
            notices=notices,
        )
        save_onnx(quantized, temporary, metadata)
    require_psnr(difference, min_psnr, output)
    return output


def check_settings(
    *,
    fp16: bool = False,
    int8: bool = False,
    dynamic: bool = False,
    target: TargetName | None = None,
    calibration_count: int | None = None,
    **_: Any,
) -> None:
    """Raise UsageError for settings that contradict each other; the recipe checker asks before any work."""
    if bool(fp16) == bool(int8):
        raise UsageError("quantize: choose one of --fp16 and --int8")
    if dynamic and not int8:
        raise UsageError("quantize: --dynamic goes with --int8")
    if (fp16 or dynamic) and (target is not None or calibration_count is not None):
        raise UsageError("quantize: --target and --calibration-count are for static int8: --int8 without --dynamic")


def _check_float32(model: ModelProto, source: Path) -> None:
    from onnx import TensorProto

    half = any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer)
    if half or any(node.op_type in INT8_OPS for node in model.graph.node):
        kind = "float16" if half else "int8"
        raise InputError(f"{source}: is {kind} already; quantise the float32 model that it was made from")


def _quantize_static(model: ModelProto, engine: Engine, pairs: Sequence[Pair], cpu: CpuTarget) -> ModelProto:
    from ..benchmarks.feeds import feed_pair
    from .int8.static import quantize_static

    feeds = (feed_pair(engine, pair) for pair in track(pairs, "calibrate", total=len(pairs)))
    return quantize_static(model, feeds, cpu)


def choose_calibration_pairs(
    folder: Path | None, size: tuple[int, int], count: int, held_out: int
) -> tuple[Sequence[Pair], tuple[str, ...]]:
    """Return up to `count` pairs to calibrate on, apart from the `held_out` compared on.

    A folder with no more pairs than `held_out` gives them all, and a notice that says so.
    """
    from .data.pairs import open_pairs

    if folder is None:
        return open_pairs(None, size, count, seed=CALIBRATION_SEED), ()
    everything = open_pairs(folder, size)
    if len(everything) > held_out:
        chosen = everything[held_out : held_out + count]
        few = f"{folder} leaves {len(chosen)} of {count} pairs to calibrate on, the others are compared on"
        return chosen, () if len(chosen) == count else (few,)
    return everything[:count], (
        f"{folder} has only {len(everything)} pairs: int8 was calibrated on the pairs it is compared on",
    )


def _count_convolutions(model: ModelProto) -> dict[str, int]:
    """Count those in int8, fed by DequantizeLinear or a ConvInteger, and those in float.

    A flow head may read what a quantised convolution made; it counts as float by its weights.
    """
    dequantized = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    total = [node for node in model.graph.node if node.op_type in {"Conv", "ConvInteger"}]
    quantized = [node for node in total if node.op_type == "ConvInteger" or node.input[1] in dequantized]
    return {"convolutions_int8": len(quantized), "convolutions_float": len(total) - len(quantized)}

"""Quantise an ONNX model: float16, int8 calibrated on pairs within a budget, or weights alone."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .artifacts import (
    Force,
    Kind,
    NetworkName,
    OnnxOut,
    PairCount,
    PairsFolder,
    Reads,
    Size,
    SizeOption,
    detect_kind,
    hash_artifact,
    new_output,
)
from .cpu_target import TargetName
from .durations import parse_duration
from .errors import InputError, UsageError, VtoptError
from .export import check_size
from .int8.engines import ENGINE_RANGES, TORCH_ENGINES, TRAINED, EngineName
from .int8.limits import NEVER, Budget, Deadline
from .int8.settings import RangeMethod
from .onnx_files import find_precision, load_onnx, save_onnx
from .provenance import INT8_RANGES, Metadata, add_record, read_history, read_metadata, to_plain
from .verify import compare_artifacts, require_finite, require_flow, require_psnr
from .weights import describe_network, load_network

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

    from .int8.build import Made

__all__ = ["check_float32", "quantize_onnx"]

DYNAMIC_NOTICE = (
    "dynamic int8 is for size: it loads everywhere, and is slower than float32; "
    "for speed use static int8 (no --dynamic)"
)
NOTHING_NOTICE = "nothing was quantised: every convolution makes a warp's grid, or has weights that are computed"
ALL_FLOAT_NOTICE = "nothing was quantised: only the float32 model keeps this budget"

SEARCH_SHARE = 0.8
"""Of a time budget, the search may take so much; writing and comparing the result needs the rest."""

QuantizeIn = Annotated[
    Path,
    Reads(("onnx", "weights", "checkpoint")),
    typer.Argument(help="An ONNX model; weights for --engine neural-compressor, or trained for int8."),
]
RangesOption = Annotated[
    Literal["auto", "minmax", "percentile", "entropy", "mse"] | None,
    typer.Option(help="How int8 finds its ranges. Default: auto, what gives the best pictures of these."),
]


def quantize_onnx(
    source: QuantizeIn,
    output: OnnxOut,
    *,
    fp16: Annotated[
        bool, typer.Option("--fp16", help="Float16: half the size. With --int8: for what stays float.")
    ] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Int8: a quarter of the size, and faster.")] = False,
    weight_only: Annotated[
        bool, typer.Option("--weight-only", help="With --fp16 or --int8: small weights, float32 speed and arithmetic.")
    ] = False,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="With --int8: no calibration; for size only.")] = False,
    engine: Annotated[
        EngineName | None,
        typer.Option(
            help="What makes static int8; neural-compressor reads weights. Default: trained for what "
            "finetune --int8 made, else onnxruntime, vtopt's own."
        ),
    ] = None,
    network: NetworkName = None,
    size: SizeOption = None,
    target: Annotated[
        TargetName | None, typer.Option(help="The CPU that int8 is for. Default: auto, this machine's.")
    ] = None,
    ranges: RangesOption = None,
    pairs: PairsFolder = None,
    calibration_count: Annotated[
        int | None, typer.Option(min=1, help="How many pairs int8 is calibrated on. Default: 16.")
    ] = None,
    pair_count: PairCount = 4,
    min_psnr: Annotated[
        float | None,
        typer.Option(min=0, help="Least PSNR to the input in dB, median; static int8 leaves float what breaks it."),
    ] = None,
    max_flow_px: Annotated[
        float | None, typer.Option(min=0, help="Furthest that warps may sample elsewhere, in pixels, median.")
    ] = None,
    time_budget: Annotated[
        float | None,
        typer.Option(parser=parse_duration, metavar="DURATION", help="Give the best int8 found in 90s, 10m or 1h."),
    ] = None,
    force: Force = False,
) -> Path:
    """Quantise to --fp16 or --int8; what makes a warp's grid stays float32.

    The output's pictures are compared with the input's on pairs that were not calibrated on, where there are enough.
    With a budget (--min-psnr, --max-flow-px) int8 keeps in float as little as meets it: the best model so far is
    always at OUTPUT, and the same command goes on where it was interrupted.

    Raises UsageError for settings that contradict each other, InputError for a model that is quantised already,
    DifferenceError for pictures with NaN, BudgetError (the best file is kept) for a budget that is not met.
    """
    began = time.monotonic()
    if int8 and not (engine or dynamic or weight_only or ranges) and INT8_RANGES in read_metadata(source):
        engine = TRAINED
    check_settings(
        fp16=fp16,
        int8=int8,
        weight_only=weight_only,
        dynamic=dynamic,
        engine=engine,
        target=target,
        ranges=ranges,
        calibration_count=calibration_count,
        min_psnr=min_psnr,
        max_flow_px=max_flow_px,
        time_budget=time_budget,
        size=size,
        source_kind=detect_kind(source),
    )
    model, inherited = _load(source, engine, network, size)
    inherited.pop(INT8_RANGES, None)  # from here on they are in the graph, or hold no more
    settings: dict[str, Any] = {
        "network": network,
        "size": size and str(size),
        "fp16": fp16,
        "int8": int8,
        "weight_only": weight_only,
        "dynamic": dynamic,
        "pairs": pairs,
        "pair_count": pair_count,
        "min_psnr": min_psnr,
        "max_flow_px": max_flow_px,
        "time_budget": time_budget,
        "asked_engine": engine,
        "asked_target": target,
        "asked_ranges": ranges,
        "calibration_count": calibration_count,
    }
    static = int8 and not (weight_only or dynamic)

    def save(made: Made, path: Path, compared: Mapping[str, Any]) -> None:
        counts = _count_convolutions(made.model)
        nothing: tuple[str, ...] = ()
        if static and not counts["convolutions_int8"]:
            nothing = (ALL_FLOAT_NOTICE if made.figures.get("float_for_the_budget") else NOTHING_NOTICE,)
        metadata = add_record(
            inherited,
            "quantize",
            source,
            settings={**settings, **made.settings},
            figures={**made.figures, **counts, **compared},
            notices=(*made.notices, *nothing),
        )
        save_onnx(made.model, path, metadata)

    def keep(made: Made) -> None:
        with new_output(output, "onnx", force=True) as best:
            save(_finish(made, fp16), best, {"finished": False})

    with new_output(output, "onnx", force=force or _is_unfinished(output, source, settings)) as temporary:
        if static:
            from .int8.build import build_int8
            from .int8.request import CALIBRATION_COUNT, Int8Request

            request = Int8Request(
                engine or "onnxruntime",
                target or "auto",
                ranges or "auto",
                pairs,
                calibration_count or CALIBRATION_COUNT,
                pair_count,
                Budget(min_psnr, max_flow_px),
                NEVER if time_budget is None else Deadline(began + SEARCH_SHARE * time_budget),
                network,
                size,
            )
            made = _finish(build_int8(source, model, request, keep), fp16)
        else:
            made = _make_simple(model, fp16=fp16, weight_only=weight_only)
        save(made, temporary, {})
        difference = compare_artifacts(
            source, temporary, pairs=pairs, pair_count=pair_count, network=network, size=size
        )
        require_finite(difference, output)
        save(made, temporary, difference.to_figures())
    require_psnr(difference, min_psnr, output)
    require_flow(difference, max_flow_px, output)
    return output


def check_settings(
    *,
    fp16: bool = False,
    int8: bool = False,
    weight_only: bool = False,
    dynamic: bool = False,
    engine: EngineName | None = None,
    target: TargetName | None = None,
    ranges: RangeMethod | Literal["auto"] | None = None,
    calibration_count: int | None = None,
    min_psnr: float | None = None,
    max_flow_px: float | None = None,
    time_budget: float | None = None,
    size: Size | None = None,
    source_kind: Kind | None = None,
    **_: Any,
) -> None:
    """Raise UsageError for settings that contradict each other; the recipe checker asks before any work."""
    if not (fp16 or int8):
        raise UsageError("quantize: choose --fp16, --int8, or both: int8, and float16 for what stays float")
    if dynamic and (not int8 or fp16 or weight_only):
        raise UsageError("quantize: --dynamic goes with --int8, and with nothing else that says how")
    if weight_only and fp16 and int8:
        raise UsageError("quantize: --weight-only goes with one of --fp16 and --int8")
    given = {
        "--engine": engine,
        "--target": target,
        "--ranges": ranges,
        "--calibration-count": calibration_count,
        "--time-budget": time_budget,
    }
    named = [name for name, value in given.items() if value is not None]
    if named and (not int8 or dynamic or weight_only):
        raise UsageError(f"quantize: {' and '.join(named)} is for static int8: --int8 without --dynamic, --weight-only")
    if time_budget is not None and engine not in {None, "onnxruntime"}:
        raise UsageError(f"quantize: --time-budget is for engine onnxruntime; {engine} cannot be stopped in time")
    for name, limit in (("--min-psnr", min_psnr), ("--max-flow-px", max_flow_px)):
        if limit is not None and not (limit >= 0 and math.isfinite(limit)):
            raise UsageError(f"quantize: {name} {limit:g} is no limit; give a number from 0 up")
    if max_flow_px is not None and (engine in TORCH_ENGINES or (engine == TRAINED and source_kind != "onnx")):
        raise UsageError(f"quantize: --max-flow-px compares two ONNX models, and --engine {engine} starts from weights")
    if engine is not None and ranges not in {None, "auto", *ENGINE_RANGES[engine]}:
        known = ", ".join(ENGINE_RANGES[engine])
        taken = f"it takes {known}" if known else "it has its own"
        raise UsageError(f"quantize: --engine {engine} has no ranges by {ranges}; {taken}")
    if size and (source_kind == "onnx" or engine not in {*TORCH_ENGINES, TRAINED}):
        raise UsageError("quantize: --size is for weights; an ONNX model has its own")
    if engine in TORCH_ENGINES and source_kind == "onnx":
        raise UsageError(f"quantize: --engine {engine} quantises the torch network; give it the weights, not ONNX")
    if engine not in {*TORCH_ENGINES, TRAINED} and source_kind in {"weights", "checkpoint"}:
        raise UsageError(
            f"quantize: weights are for --int8 --engine {' or '.join((*TORCH_ENGINES, TRAINED))}; "
            "for all else give ONNX, as vtopt export makes it"
        )


def _load(source: Path, engine: EngineName | None, network: str | None, size: Size | None) -> tuple[Any, Metadata]:
    """Return what the engine quantises, the torch network or a float32 ONNX model, and what its file says of it."""
    from .int8.trained import Trained, read_ranges

    metadata = read_metadata(source)
    trained = read_ranges(metadata, source) if engine == TRAINED else None
    if engine == TRAINED and trained is None:
        raise InputError(f"{source}: carries no trained int8 ranges; make them with vtopt finetune --int8")
    if engine in TORCH_ENGINES or (trained and detect_kind(source) != "onnx"):
        built = load_network(source, network)
        built = replace(built, size=size or Size(*built.size))
        check_size(Size(*built.size), built, source)
        return Trained(built, trained) if trained else built, metadata | describe_network(built.name, built)
    model = load_onnx(source)
    check_float32(model, source)
    return Trained(model, trained) if trained else model, metadata


def _make_simple(model: ModelProto, *, fp16: bool, weight_only: bool) -> Made:
    """Make what needs no calibration: float16, small weights, dynamic int8."""
    from .int8.build import Made

    if fp16 and weight_only:
        from .stored_weights import store_half

        return Made(store_half(model))
    if fp16:
        from .fp16 import cast_fp16

        return Made(cast_fp16(model))
    if weight_only:
        from .int8.weight_only import quantize_weights

        return Made(quantize_weights(model))
    from .int8.dynamic import quantize_dynamic

    return Made(quantize_dynamic(model), notices=(DYNAMIC_NOTICE,))


def _finish(made: Made, fp16: bool) -> Made:
    """Store as float16 what int8 has left float, where that is asked for."""
    if not fp16:
        return made
    from .stored_weights import store_half

    return replace(made, model=store_half(made.model))


def _is_unfinished(output: Path, source: Path, settings: Mapping[str, Any]) -> bool:
    """Tell whether the output is what the same search left when it was interrupted, or ran out of time."""
    try:
        record = read_history(output)[-1]
    except (VtoptError, IndexError):
        return False
    same = all(
        record.settings.get(name) == to_plain(value) for name, value in settings.items() if name != "time_budget"
    )
    return record.figures.get("finished") is False and same and record.parent_sha256 == hash_artifact(source)


def check_float32(model: ModelProto, source: Path) -> None:
    """Raise InputError for a model that is quantised already."""
    precision = find_precision(model)
    if precision != "float32":
        raise InputError(f"{source}: is {precision} already; quantise the float32 model that it was made from")


def _count_convolutions(model: ModelProto) -> dict[str, int]:
    """Count those with int8 weights, and those in float.

    A flow head may read what a quantised convolution made; it counts as float by its weights.
    """
    from onnx import TensorProto

    stored = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.INT8}
    makers = {name: node for node in model.graph.node for name in node.output}

    def is_int8(node: NodeProto) -> bool:
        weight = makers.get(node.input[1])
        while weight is not None and weight.op_type in {"Cast", "Mul"} and weight.input[0] not in stored:
            weight = makers.get(weight.input[0])
        return node.op_type == "ConvInteger" or (
            weight is not None and (weight.op_type == "DequantizeLinear" or weight.input[0] in stored)
        )

    total = [node for node in model.graph.node if node.op_type in {"Conv", "ConvInteger"}]
    quantized = [node for node in total if is_int8(node)]
    return {"convolutions_int8": len(quantized), "convolutions_float": len(total) - len(quantized)}

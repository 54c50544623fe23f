"""The README's tables of figures: which results each is made of, which rows and columns, and what they are called.

A new one is a row in TABLES and its markers in the README.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..reports.paper_tables import PRUNING_COLUMNS
from ..reports.report import COLUMNS, TRUTH_COLUMNS
from .making import Cell, Table

__all__ = ["TABLES"]

ONNXRUNTIME, OPENVINO = {"runtime": "onnxruntime"}, {"runtime": "openvino"}
NO_OPENVINO = {"runtime": ("torch", "onnxruntime")}
"""What runs in torch stands beside what onnxruntime makes of it."""


def _take(*columns: str) -> dict[str, Cell]:
    """Return cells that are called as the columns they show."""
    return {column: Cell(column) for column in columns}


def _to_percent(share: float) -> int:
    return round(100 * share)


FORMS = {
    "export": "`vtopt export`",
    **{name: f"`{name}` alone" for name in ("pointwise", "heads", "padding")},
    "vtopt fp32": "vtopt, float32",
    "vtopt int8": "vtopt `--int8`",
    **{
        f"vtopt int8 {option}": f"`{option}`"
        for option in ("--fp16", "--min-psnr 45", "--weight-only", "--engine nncf", "--engine neural-compressor")
    },
    **{f"{tool} defaults": f"{tool}, defaults" for tool in ("onnxruntime", "NNCF", "neural-compressor")},
    "onnxruntime per tensor": "onnxruntime, per tensor",
}

NETWORKS = {
    "networks-pfafn_aligned": "`pfafn_aligned`, 256x192",
    "networks-completion": "`completion`, 256x256",
    "networks-hrviton": "`hrviton`, 1024x768",
}
"""Results of one network in every format -> what it is called."""
WEIGHTS = {"model": "01-strip", "runtime": "torch"}
FP32, FP16, INT8 = (
    {"model": f"0{number}-{name}", **ONNXRUNTIME} for number, name in enumerate(("fp32", "fp16", "int8"), 4)
)
INT8_IR = {"model": "08-int8-ir", **OPENVINO}

PEERS = {
    "export, simplify": "torch.onnx, onnxsim",
    "export, slim": "torch.onnx, onnxslim",
    "convert_model, save_model": "OpenVINO `convert_model`",
    "quantize_static": "onnxruntime `quantize_static`",
    "quantize, of ONNX": "NNCF `quantize`, of ONNX",
    "quantize, of OpenVINO's model": "NNCF `quantize`, of OpenVINO's model",
    "StaticQuantConfig": "neural-compressor",
    "StaticQuantConfig, with vtopt's warps": "neural-compressor, with vtopt's warps",
    "run, OnnxStaticQuantization": "Olive `OnnxStaticQuantization`",
    **{form: f"Olive `{form}`" for form in ("optimize", "optimize --precision fp16", "quantize --implementation ort")},
    **{
        f"{recipe}: {artifact}": f"vtopt `{recipe}`, {artifact}"
        for recipe, artifacts in {
            "cpu-fp16": ("fp32", "fp16"),
            "cpu-int8": ("int8",),
            "openvino-int8": ("fp32", "int8-ir", "fp16-ir"),
        }.items()
        for artifact in artifacts
    },
}


def _stand_beside_peers(network: str, quality: str) -> Table:
    """Return a table of peers on one network; `quality` is the column of PSNR that its pictures call for."""
    return Table(
        ("peers.csv",),
        "form",
        {
            "MiB": Cell("size MiB", ONNXRUNTIME),
            "onnxruntime ms": Cell("median ms", ONNXRUNTIME),
            "of the first": Cell("of onnxsim", ONNXRUNTIME),
            quality: Cell(quality, ONNXRUNTIME),
            "flow px": Cell("flow px", ONNXRUNTIME),
            "MiB for OpenVINO": Cell("size MiB", OPENVINO),
            "OpenVINO ms": Cell("median ms", OPENVINO),
            "of its first": Cell("of onnxsim", OPENVINO),
            f"OpenVINO, {quality}": Cell(quality, OPENVINO),
        },
        heading="tool",
        names=PEERS,
        where={"network": network},
    )


TABLES: Mapping[str, Table] = {
    "cpu-int8": Table(("cpu-int8-sdafn_plus_tiny.csv",), "model", _take(*COLUMNS[1:], *TRUTH_COLUMNS)),
    "cpu-fp16": Table(("cpu-fp16-sdafn_plus_3.csv",), "model", _take(*COLUMNS[1:])),
    "rewrites": Table(
        ("rewrites-sdafn_plus_3.csv",),
        "form",
        {
            "onnxruntime ms": Cell("median ms", NO_OPENVINO, round),
            "of plain": Cell("ratio", NO_OPENVINO),
            "convolutions %": Cell("conv share", NO_OPENVINO, _to_percent),
            "peak MiB": Cell("memory MiB", NO_OPENVINO, round),
            "OpenVINO ms": Cell("median ms", OPENVINO, round),
            "OpenVINO, of plain": Cell("ratio", OPENVINO),
            "OpenVINO, peak MiB": Cell("memory MiB", OPENVINO, round),
        },
        names=FORMS,
        where={"threads": "2", "batch": "1"},
    ),
    "int8-sdafn_plus_tiny": Table(
        ("int8-sdafn_plus_tiny.csv",),
        "form",
        {
            "size MiB": Cell("size MiB", ONNXRUNTIME),
            "PSNR dB": Cell("PSNR dB", ONNXRUNTIME),
            "worst dB": Cell("worst dB", ONNXRUNTIME),
            "flow px": Cell("flow px", ONNXRUNTIME),
            "to the truth dB": Cell("truth PSNR dB", ONNXRUNTIME),
            "onnxruntime, of plain": Cell("of plain", ONNXRUNTIME),
            "OpenVINO, PSNR dB": Cell("PSNR dB", OPENVINO),
            "OpenVINO, of plain": Cell("of plain", OPENVINO),
        },
        names=FORMS,
        where={"threads": "2"},
    ),
    "int8-sdafn_plus_3": Table(
        ("int8-sdafn_plus_3.csv",),
        "form",
        {
            "size MiB": Cell("size MiB", ONNXRUNTIME),
            "PSNR dB of the range": Cell("of range dB", ONNXRUNTIME),
            "onnxruntime, of plain": Cell("of plain", ONNXRUNTIME),
            "OpenVINO, of plain": Cell("of plain", OPENVINO),
        },
        names=FORMS,
        where={"threads": "2"},
    ),
    "peers-sdafn_plus_tiny": _stand_beside_peers("sdafn_plus_tiny", "PSNR dB"),
    "pruning": Table(("pruning-sdafn_plus_tiny-truth-200.csv",), "Metrics", _take(*PRUNING_COLUMNS[1:])),
    "networks": Table(
        tuple(f"{name}.csv" for name in NETWORKS),
        "file",
        {
            "GMACs": Cell("GMACs", FP32),
            "fp32 MiB": Cell("size MiB", FP32),
            "fp16 MiB": Cell("size MiB", FP16),
            "int8 MiB": Cell("size MiB", INT8),
            "before: torch ms": Cell("median ms", WEIGHTS, round),
            "fp32 ms": Cell("median ms", FP32, round),
            "int8 ms": Cell("median ms", INT8, round),
            "int8 on OpenVINO ms": Cell("median ms", INT8_IR, round),
            "fp16 PSNR dB": Cell("PSNR dB", FP16),
            "int8 PSNR dB": Cell("PSNR dB", INT8),
        },
        heading="network, size",
        names=NETWORKS,
    ),
    "correlation-counts": Table(
        ("correlation-counts.csv",),
        "runtime",
        _take("n", "before (s)", "after (s)", "acceleration"),
        names={"openvino": "OpenVINO"},
        where={"case": "256x64x48", "threads": "1", "n": "1000"},
    ),
}
"""Name of a block between markers in the README -> its table."""

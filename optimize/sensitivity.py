"""What each convolution costs the picture when it alone is int8, and what it saves.

Everything is shared with `vtopt quantize --int8`: calibration, ranges and measurements. What was measured here is not
measured again by a budget search over the same model, pairs and counts, and the other way round.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .cpu_target import TargetName, resolve_target
from .data.pairs import open_pairs
from .errors import InputError
from .int8.build import list_float_ops, pick_ranges
from .int8.mixtures import Mixtures, Score, open_mixtures
from .int8.pairs import choose_calibration_pairs, feed_calibration
from .int8.request import CALIBRATION_COUNT, Int8Request
from .int8.settings import RangeMethod
from .int8.static import Calibrated, calibrate_model
from .onnx_files import load_onnx
from .progress import track
from .quantize import check_float32

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..benchmarks.cost.op_times import OpTimes

__all__ = [
    "Sensitivity",
    "SensitivityRow",
    "count_saved_bytes",
    "format_sensitivity",
    "match_times",
    "measure_sensitivity",
    "to_json",
    "write_report",
]

ALL_INT8 = "all in int8"
BAR_LENGTH = 20
TIMED_RUNS = 5

CONVOLUTIONS = frozenset({"Conv", "QLinearConv"})
"""What the profile of onnxruntime calls a convolution."""
FUSED_BEHIND = frozenset({"Add", "Clip", "HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Sum", "Tanh"})
"""What onnxruntime may fuse into the convolution before it; the fused node may go by the last one's output."""

_MARKS = re.compile(r"(_nchwc|_nhwc|_token_\d+)+$")
"""What onnxruntime puts behind the names of nodes that it makes."""


@dataclass(frozen=True)
class SensitivityRow:
    """One convolution alone in int8, or all of them."""

    node: str
    psnr_db: float
    """Lower median over the pairs (of two the worse), to the float picture; inf for an equal one, -inf for NaN."""
    psnr_worst_db: float
    flow_px: float | None
    """Median shift of what warps sample, in pixels; None for a model without warps."""
    error_share: float | None
    """Of the squared errors of each convolution alone, added up: 0 to 1. None for NaN, and for all together."""
    saved_kib: float
    saved_ms: float | None


@dataclass(frozen=True)
class Sensitivity:
    """The convolutions, the worst for the picture first, all of them together, and how that was measured."""

    rows: Sequence[SensitivityRow]
    all_int8: SensitivityRow
    conditions: Mapping[str, Any]
    notices: tuple[str, ...] = ()


def measure_sensitivity(
    source: Path,
    *,
    pairs: Path | None = None,
    pair_count: int = 2,
    calibration_count: int = CALIBRATION_COUNT,
    target: TargetName = "auto",
    ranges: RangeMethod | Literal["auto"] = "auto",
    times: bool = True,
    say: Callable[[str], None] = lambda message: None,
) -> Sensitivity:
    """Measure each quantisable convolution of a float32 model alone in int8, and all of them together.

    Each measurement is kept in the user's cache as it is made: the same call goes on from there, and tells `say` how
    much was measured before.

    Raises InputError for a model that is quantised already or has nothing to quantise, for pairs that cannot be
    used, and for pictures with NaN before anything is quantised.
    """
    from ..benchmarks.engines.engine import open_engine

    model = load_onnx(source)
    check_float32(model, source)
    if not any(node.op_type == "Conv" for node in model.graph.node):
        raise InputError(f"{source}: has no convolutions, and static int8 is for those: there is nothing to measure")
    cpu, notices = resolve_target(target)
    request = Int8Request("onnxruntime", target, ranges, pairs, calibration_count, pair_count)
    engine = open_engine(source)
    compared = open_pairs(pairs, engine.size, pair_count)
    chosen, said = choose_calibration_pairs(pairs, engine.size, calibration_count, pair_count)
    notes = [*notices, *said, *list_float_ops(model)]
    calibrated = calibrate_model(model, feed_calibration(engine, chosen, notes))
    if not calibrated.units:
        raise InputError(
            f"{source}: every convolution makes a warp's grid or has weights that are computed, and stays float: "
            "there is nothing to measure"
        )
    picked = pick_ranges(source, request, engine, calibrated, cpu, chosen)
    found = calibrated.find_ranges(picked.method)
    mixtures = open_mixtures(engine, calibrated, found, cpu, compared, picked.known)
    scores, together = _measure_each(mixtures, say)
    if not any(math.isfinite(score.error) for score in scores.values()):
        raise InputError(f"{source}: its pictures hold NaN on the pairs compared on; see vtopt verify")
    saved_ms, all_ms, timing = {}, None, {}
    if times:
        saved_ms, all_ms, timing = _measure_times(calibrated, calibrated.write(found, cpu))
    sizes = count_saved_bytes(calibrated)
    rows = _make_rows(scores, sizes, saved_ms)
    whole = _make_row(ALL_INT8, together, None, sum(sizes.values()), all_ms)
    total = sum(score.error for score in scores.values() if math.isfinite(score.error))
    conditions = {
        "model": str(source),
        "pictures": "drawn" if pairs is None else str(pairs),
        "compared_on_pairs": len(compared),
        "target": cpu.name,
        **picked.figures,
        "error_of_all_to_sum": round(together.error / total, 3) if total and math.isfinite(together.error) else None,
        **timing,
    }
    return Sensitivity(rows, whole, conditions, (*notes, *_list_notices(rows, times)))


def _measure_each(mixtures: Mixtures, say: Callable[[str], None]) -> tuple[dict[str, Score], Score]:
    """Measure each unit, and all; those that were measured before are not run."""
    names = [unit.name for unit in mixtures.units]
    missing = [name for name in names if not mixtures.is_known({name})]
    before = len(names) - len(missing)
    if before:
        say(f"{before} of {len(names)} measured before")
    for name in track(missing, "each convolution alone in int8", total=len(names), start=before):
        mixtures.measure({name})
    return {name: mixtures.measure({name}) for name in names}, mixtures.measure(set(names))


def _make_rows(
    scores: Mapping[str, Score], sizes: Mapping[str, float], times: Mapping[str, float]
) -> list[SensitivityRow]:
    total = sum(score.error for score in scores.values() if math.isfinite(score.error))
    ordered = sorted(scores.items(), key=lambda item: (-item[1].error, item[0]))
    rows = []
    for name, score in ordered:
        share = None
        if math.isfinite(score.error):
            share = score.error / total if total else 0.0
        rows.append(_make_row(name, score, share, sizes[name], times.get(name)))
    return rows


def _make_row(name: str, score: Score, share: float | None, size: float, time: float | None) -> SensitivityRow:
    return SensitivityRow(name, score.psnr_db, score.psnr_worst_db, score.flow_px, share, size / 1024, time)


def _list_notices(rows: Sequence[SensitivityRow], times: bool) -> list[str]:
    notices = []
    broken = [row.node for row in rows if row.error_share is None]
    if broken:
        notices.append(f"pictures with NaN, outside the shares of the error: {', '.join(broken)}")
    unmatched = sum(row.saved_ms is None for row in rows)
    if times and unmatched:
        notices.append(f"no time for {unmatched} of {len(rows)} convolutions: onnxruntime fused them under other names")
    return notices


def count_saved_bytes(calibrated: Calibrated) -> dict[str, float]:
    """Return the bytes that int8 saves on each unit's constants, less what its scales take.

    A weight that several nodes read is divided between them. A convolution without a bias gets one, as rounding is
    corrected in it.
    """
    tensors = {tensor.name: tensor for tensor in calibrated.prepared.model.graph.initializer}
    readers = Counter(name for node in calibrated.prepared.model.graph.node for name in node.input)
    saved = {}
    for unit in calibrated.units:
        shape = list(tensors[unit.weight].dims)
        scales = 4 * shape[0] * 2  # of the weight and of the bias, each per output channel
        added = 0 if unit.bias else 4 * shape[0]
        saved[unit.name] = math.prod(shape) * (4 / readers[unit.weight] - 1) - scales - added
    return saved


def _measure_times(calibrated: Calibrated, quantized: ModelProto) -> tuple[dict[str, float], float, dict[str, Any]]:
    """Return the milliseconds saved on each node, on the whole, and how they were taken."""
    import onnx

    from ..benchmarks.cost.op_times import measure_op_times

    taken: list[OpTimes] = []
    models = (calibrated.prepared.model, quantized)
    with tempfile.TemporaryDirectory(prefix="vtopt-sensitivity-") as folder:
        for number, model in enumerate(models):
            path = Path(folder) / f"{number}.onnx"
            onnx.save(model, path)
            taken.append(measure_op_times(path, runs=TIMED_RUNS))
    before, behind = (match_times(times, model) for times, model in zip(taken, models, strict=True))
    names = [unit.name for unit in calibrated.units]
    saved = {name: before[name] - behind[name] for name in names if name in before and name in behind}
    conditions = {
        "time": "of the node itself on onnxruntime, float (with the activation it fused) less int8; "
        "Q/DQ around it is not counted, but in the row of all",
        "threads": taken[0].threads,
        "runs": taken[0].runs,
        "float_ms": round(taken[0].total_ms, 3),
        "int8_ms": round(taken[1].total_ms, 3),
    }
    return saved, taken[0].total_ms - taken[1].total_ms, conditions


def match_times(times: OpTimes, model: ModelProto) -> dict[str, float]:
    """Return the milliseconds of each convolution of `model` that can be found in a profile of it.

    onnxruntime calls a convolution by its own name ("x", as QLinearConv "x_token_12"), or, where it changes the
    layout, by what the last node fused into it makes ("y_nchwc").
    """
    profiled = {_MARKS.sub("", name): ms for name, ms in times.by_node.items() if times.node_ops[name] in CONVOLUTIONS}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    found = {node.name: profiled.pop(node.name) for node in convolutions if node.name in profiled}
    chains = {node.name: list(_follow(node.output[0], model)) for node in convolutions if node.name not in found}
    for place in range(max(map(len, chains.values()), default=0)):
        claims = {
            name: chain[place]
            for name, chain in chains.items()
            if name not in found and place < len(chain) and chain[place] in profiled
        }
        claimed = Counter(claims.values())
        found |= {name: profiled[tensor] for name, tensor in claims.items() if claimed[tensor] == 1}
        for tensor in claimed:
            del profiled[tensor]
    return found


def _follow(tensor: str, model: ModelProto) -> Iterator[str]:
    """Yield a tensor, and what nodes that may be fused one behind the other make of it."""
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    yield tensor
    while len(following := readers.get(tensor, [])) == 1 and following[0].op_type in FUSED_BEHIND:
        tensor = following[0].output[0]
        yield tensor


def to_table(sensitivity: Sensitivity) -> list[dict[str, Any]]:
    """Return the rows, all together last, with the columns of the table."""
    rows = []
    largest = max((row.error_share or 0.0 for row in sensitivity.rows), default=0.0)
    for row in (*sensitivity.rows, sensitivity.all_int8):
        share = row.error_share
        rows.append(
            {
                "node": row.node,
                "PSNR dB": row.psnr_db,
                "worst dB": row.psnr_worst_db,
                "flow px": row.flow_px,
                "error %": None if share is None else 100 * share,
                "share of error": "#" * round(BAR_LENGTH * share / largest) if share and largest else "",
                "saved KiB": row.saved_kib,
                "saved ms": row.saved_ms,
            }
        )
    return rows


def format_sensitivity(sensitivity: Sensitivity) -> str:
    """Write the rows as a Markdown table, and under it how they were measured."""
    from ..benchmarks.reports.tables import format_table
    from .console import format_figures

    rows = to_table(sensitivity)
    columns = list(rows[0])
    lines = [f"- {line}" for line in format_figures(sensitivity.conditions)]
    return "\n".join([format_table(rows, columns), *lines]) + "\n"


def to_json(sensitivity: Sensitivity) -> dict[str, Any]:
    """Return everything as values that JSON can hold; infinite numbers are "inf"."""
    from ..benchmarks.reports.tables import to_json_value

    return {
        "conditions": to_json_value(sensitivity.conditions),
        "nodes": [to_json_value(row) for row in sensitivity.rows],
        "all_int8": to_json_value(sensitivity.all_int8),
        "notices": list(sensitivity.notices),
    }


def write_report(sensitivity: Sensitivity, path: Path) -> Path:
    """Write .csv, .json or .svg; the file is all of the old or all of the new."""
    import json

    from ..benchmarks.reports.files import save_csv, save_text
    from .sensitivity_plot import draw_sensitivity

    if path.suffix == ".svg":
        return save_text(draw_sensitivity(sensitivity), path)
    if path.suffix == ".json":
        text = json.dumps(to_json(sensitivity), indent=2, ensure_ascii=False, allow_nan=False)
        return save_text(f"{text}\n", path)
    rows = [asdict(row) for row in (*sensitivity.rows, sensitivity.all_int8)]
    return save_csv(rows, list(rows[0]), path)

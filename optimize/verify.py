"""Compare two artifacts by their pictures, on pairs: the gate after every step."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .artifacts import detect_kind, write_picture
from .errors import BudgetError, DifferenceError, InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..benchmarks.engines.engine import Engine
    from ..benchmarks.engines.runtimes import Arrays
    from .data.pairs import Pair
    from .flow import FlowPair

__all__ = [
    "Difference",
    "compare_artifacts",
    "compare_engines",
    "compare_on_noise",
    "require_finite",
    "require_flow",
    "require_psnr",
    "save_sheet",
]


@dataclass(frozen=True)
class Difference:
    """How far the pictures of one artifact are from those of another."""

    pairs: int
    psnr_median_db: float
    psnr_worst_db: float
    ssim_median: float
    max_abs: float
    max_relative: float
    worst_pair: str
    worst_pictures: tuple[NDArray[np.float32], NDArray[np.float32]]
    flow_px_median: float | None = None
    """How far places that warps sample have moved, in pixels of the picture; None where that is not known."""
    flow_px_worst: float | None = None
    flow_fault: str = ""
    """Why the flow shift is not known."""

    def to_figures(self) -> dict[str, Any]:
        """Return the figures as JSON has them; what is infinite (the PSNR of equal pictures) is null.

        Where pictures hold NaN, every figure is null, `max_abs` too; that of equal pictures is 0. Without pairs
        there is only the largest difference. A flow shift that is not known is left out.
        """
        largest = {
            "max_abs": _round_or_none(float(f"{self.max_abs:.3g}"), 12),
            "max_relative": _round_or_none(float(f"{self.max_relative:.3g}"), 12),
        }
        if not self.pairs:
            return largest
        shifts = {"flow_px_median": self.flow_px_median, "flow_px_worst": self.flow_px_worst}
        return {
            "pairs": self.pairs,
            "psnr_median_db": _round_or_none(self.psnr_median_db, 2),
            "psnr_worst_db": _round_or_none(self.psnr_worst_db, 2),
            "ssim_median": round(self.ssim_median, 5),
            **largest,
            **{key: _round_or_none(shift, 4) for key, shift in shifts.items() if shift is not None},
            "worst_pair": self.worst_pair,
        }


def _round_or_none(value: float, digits: int) -> float | None:
    return round(value, digits) if math.isfinite(value) else None


def compare_artifacts(
    source: Path,
    output: Path,
    *,
    pairs: Path | None = None,
    pair_count: int | None = None,
    size: tuple[int, int] | None = None,
    network: str | None = None,
) -> Difference:
    """Run both artifacts on the same pairs and compare their pictures.

    Each runs on its own runtime (torch, onnxruntime, OpenVINO), at the size the second one has. PSNR and
    SSIM are over the value range [-1, 1]. Of two ONNX models with the same warps the same runs give the flow shift.
    """
    from ..benchmarks.engines.engine import open_engine
    from .data.pairs import open_pairs
    from .flow import match_flows, open_flow_engine

    other = next((path for path in (output, source) if detect_kind(path) != "onnx"), None)
    if other is not None:
        flows, fault = [], f"{other} is no ONNX model, and only two of those show where they sample"
        compared, reference = (open_engine(path, network=network) for path in (output, source))
    else:
        (compared, made), (reference, expected) = (open_flow_engine(path, network=network) for path in (output, source))
        flows, fault = match_flows(expected, made), _find_flow_fault(source, len(expected), output, len(made))
    found = open_pairs(pairs, size or _find_size(compared, reference), pair_count)
    difference = compare_engines(reference, compared, found, flows=flows)
    return difference if difference.flow_px_median is not None else replace(difference, flow_fault=fault)


def _find_flow_fault(source: Path, expected: int, output: Path, made: int) -> str:
    """Return why warps of two models give no flow shift, if they give none."""
    for path, count in ((source, expected), (output, made)):
        if not count:
            return f"{path} has no warps of a fixed size"
    return f"the {expected} warps of {source} and the {made} of {output} cannot be told to be the same"


def compare_on_noise(source: Path, output: Path, *, count: int = 2) -> Difference:
    """Run both artifacts on the same drawn numbers: for models whose inputs or outputs are no pictures.

    The result has no pairs and no quality, only the largest differences of any output.
    """
    from ..benchmarks.engines.engine import open_engine
    from ..benchmarks.engines.feeds import draw_noise

    compared, reference = open_engine(output), open_engine(source)
    max_abs = max_relative = 0.0
    made: Arrays = {}
    for seed in range(count):
        feeds = draw_noise(reference, seed)
        expected, made = reference.run(feeds), compared.run(feeds)
        for name, values in _match_outputs(expected, made).items():
            absolute, relative = _measure_largest(expected[name], values)
            max_abs, max_relative = max(max_abs, absolute), max(max_relative, relative)
    nothing = next(iter(made.values()))
    return Difference(0, math.nan, math.nan, math.nan, max_abs, max_relative, "noise", (nothing, nothing))


def _find_size(*engines: Engine) -> tuple[int, int]:
    """Return the picture size of the first engine that has only one; weights in torch take any."""
    return next((engine.size for engine in engines if engine.runtime != "torch"), engines[0].size)


def compare_engines(
    reference: Engine, compared: Engine, pairs: Sequence[Pair], *, flows: Sequence[FlowPair] = ()
) -> Difference:
    """Compare the outputs of two opened artifacts, one pair at a time.

    PSNR and SSIM are of the pictures, clipped to [-1, 1] as they are shown; the largest differences are of
    every output as it leaves the network, matched by name, or by place where the names differ. `flows` are the
    warps to measure the flow shift of, where the engines give their values beside their outputs.
    """
    from ..benchmarks.engines.feeds import feed_pair, take_picture
    from ..benchmarks.quality.pictures import compare_pictures, summarize_quality
    from .flow import measure_flow_shift

    scores = {}
    worst: tuple[float, Any] = (math.inf, None)  # of equals the first, as `quality.worst` is
    max_abs = max_relative = 0.0
    shifts: list[float | None] = []
    for pair in pairs:
        expected = reference.run(feed_pair(reference, pair))
        made = compared.run(feed_pair(compared, pair))
        shifts.append(measure_flow_shift(expected, made, flows, pair.person.shape[1:]))
        expected, made = _take_outputs(reference, expected), _take_outputs(compared, made)
        for name, values in _match_outputs(expected, made).items():
            absolute, relative = _measure_largest(expected[name], values)
            max_abs, max_relative = max(max_abs, absolute), max(max_relative, relative)
        pictures = take_picture(compared, made), take_picture(reference, expected)
        scores[pair.name] = score = compare_pictures(*pictures)
        if worst[1] is None or score.psnr < worst[0]:
            worst = (score.psnr, pictures)
    quality = summarize_quality(scores)
    known = [shift for shift in shifts if shift is not None]
    measured = len(known) == len(shifts)
    return Difference(
        pairs=quality.pairs,
        psnr_median_db=quality.psnr_median,
        psnr_worst_db=quality.psnr_worst,
        ssim_median=quality.ssim_median,
        max_abs=max_abs,
        max_relative=max_relative,
        worst_pair=quality.worst,
        worst_pictures=worst[1],
        flow_px_median=statistics.median_low(known) if measured else None,
        flow_px_worst=max(known) if measured else None,
    )


def _take_outputs(engine: Engine, arrays: Arrays) -> Arrays:
    """Return what a run made without the values of flows."""
    return {name: arrays[name] for name in engine.outputs if name in arrays}


def _match_outputs(expected: Arrays, made: Arrays) -> Arrays:
    if set(expected) == set(made):
        return made
    if len(expected) != len(made):
        raise InputError(
            f"the two models have different outputs and cannot be compared: {', '.join(expected)}; {', '.join(made)}"
        )
    return dict(zip(expected, made.values(), strict=True))


def _measure_largest(expected: NDArray[np.float32], made: NDArray[np.float32]) -> tuple[float, float]:
    """Return the largest difference, and its share of the largest expected value.

    Both are infinite where either array holds NaN or infinite values: those are never close to anything.
    """
    import numpy as np

    if expected.shape != made.shape:
        raise InputError(f"outputs of shapes {expected.shape} and {made.shape} cannot be compared")
    if not (np.isfinite(expected).all() and np.isfinite(made).all()):
        return math.inf, math.inf
    largest = float(np.abs(expected - made).max(initial=0))
    return largest, largest / (float(np.abs(expected).max(initial=0)) or 1.0)


def require_finite(difference: Difference, output: Path) -> None:
    """Raise DifferenceError when an output holds NaN or infinite values, whatever its budget."""
    if not math.isfinite(difference.max_abs):
        raise DifferenceError(
            f"{output}: NaN or infinite values in what it or its input makes, on pair {difference.worst_pair}; "
            "nothing was written"
        )


def require_psnr(difference: Difference, min_psnr: float | None, output: Path) -> None:
    """Raise BudgetError when the median PSNR is below the budget; the artifact is kept."""
    if min_psnr is not None and not difference.psnr_median_db >= min_psnr:
        raise BudgetError(
            f"{output}: PSNR to its input is {difference.psnr_median_db:.2f} dB, the budget is "
            f"{min_psnr:g} dB; the file was kept: look at it with vtopt verify, or choose other settings"
        )


def require_flow(difference: Difference, max_flow_px: float | None, output: Path) -> None:
    """Raise BudgetError when the median flow shift is above the budget, in pixels; the artifact is kept.

    Raises InputError when there is a budget, and no flow shift to hold against it.
    """
    if max_flow_px is None:
        return
    if difference.flow_px_median is None:
        raise InputError(
            f"{output}: its flow shift cannot be held against {max_flow_px:g} px: {difference.flow_fault}; "
            "compare two ONNX models of one network, or leave that budget out"
        )
    if not difference.flow_px_median <= max_flow_px:
        raise BudgetError(
            f"{output}: its flow shift to its input is {difference.flow_px_median:.3g} px, the budget is "
            f"{max_flow_px:g} px; the file was kept: look at it with vtopt verify, or choose other settings"
        )


def save_sheet(difference: Difference, output: Path, *, force: bool = False) -> Path:
    """Write the worst pair as a picture: compared, reference, and eight times their difference."""
    from ..benchmarks.quality.sheets import make_difference_sheet

    sheet = make_difference_sheet(*difference.worst_pictures, difference.worst_pair)
    return write_picture(sheet, output, force=force)

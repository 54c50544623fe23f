"""Choose how ranges are found by what each method does to the pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..progress import track
from .limits import NEVER, Deadline
from .measurements import Measurements
from .mixtures import open_mixtures
from .ranges import RANGE_METHODS
from .static import Calibrated

if TYPE_CHECKING:
    from ...benchmarks.engines.engine import Engine
    from ..cpu_target import CpuTarget
    from ..data.pairs import Pair
    from .settings import RangeMethod

__all__ = ["choose_range_method"]

PAIRS = 2


def choose_range_method(
    engine: Engine,
    calibrated: Calibrated,
    target: CpuTarget,
    pairs: Sequence[Pair],
    known: Measurements,
    deadline: Deadline = NEVER,
) -> tuple[RangeMethod, dict[str, float | None]]:
    """Return the method whose int8 comes nearest to the float pictures, and the PSNR of each in dB.

    `pairs` are of those calibrated on: the ones that the result is compared on choose nothing here. Methods that
    there is no time for are left out.
    """
    figures: dict[RangeMethod, float] = {}
    for method in track(RANGE_METHODS, "ranges by each method", total=len(RANGE_METHODS)):
        if figures and not deadline.left():
            break
        name = f"method {method}"
        kept = known.get(name)
        if kept is None:
            mixtures = open_mixtures(
                engine, calibrated, calibrated.find_ranges(method), target, pairs[:PAIRS], Measurements(None)
            )
            kept = {"psnr_db": str(mixtures.measure({unit.name for unit in calibrated.units}).psnr_db)}
            known.put(name, kept)
        figures[method] = float(kept["psnr_db"])
    best = max(figures, key=lambda method: figures[method])
    return best, {name: round(value, 2) if math.isfinite(value) else None for name, value in figures.items()}

"""What was asked of static int8, and the measurements that were made for such a request."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from ..artifacts import hash_artifact
from ..cpu_target import CpuTarget, TargetName, detect_target
from ..data.pairs import hash_pairs
from ..provenance import list_versions
from .engines import EngineName
from .limits import NEVER, Budget, Deadline
from .measurements import Measurements, open_measurements
from .pairs import CALIBRATION_SEED
from .settings import RangeMethod

__all__ = ["CALIBRATION_COUNT", "Int8Request", "open_known"]

CALIBRATION_COUNT = 16
CODE = ("cpu_target.py", "flow.py", "warp.py", "warp_attention.py", "warp_heads.py")
"""Beside the files of this folder, what measurements are made with."""


@dataclass(frozen=True)
class Int8Request:
    """What the user asked of static int8."""

    engine: EngineName = "onnxruntime"
    target: TargetName = "auto"
    ranges: RangeMethod | Literal["auto"] = "auto"
    pairs: Path | None = None
    calibration_count: int = CALIBRATION_COUNT
    pair_count: int = 4
    budget: Budget = field(default_factory=Budget)
    deadline: Deadline = NEVER
    network: str | None = None
    """What weights are of, where they do not say it."""
    size: tuple[int, int] | None = None
    """That of a torch network's pictures, where it is not its own."""


def open_known(
    source: Path, request: Int8Request, size: tuple[int, int], cpu: CpuTarget, calibrated_on: int, ranges: str
) -> Measurements:
    """Open what was measured of this model with these pairs and settings, on such a machine, by this code."""
    drawn = {"count": request.calibration_count, "seed": CALIBRATION_SEED}
    return open_measurements(
        {
            "source": hash_artifact(source),
            "compared": hash_pairs(request.pairs, size, request.pair_count),
            "calibration": hash_pairs(request.pairs, size, **({} if request.pairs else drawn)),
            "calibrated_on": calibrated_on,
            "held_out": request.pair_count,
            "target": asdict(cpu),
            "ranges": ranges,
            "machine": detect_target(),
            "versions": {**list_versions(), "numpy": np.__version__},
            "code": hash_code(),
        }
    )


@cache
def hash_code() -> str:
    """Hash the sources that measurements are made with: sha256, in hex."""
    folder = Path(__file__).parent
    files = [*sorted(folder.glob("*.py")), *(folder.parent / name for name in CODE)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()

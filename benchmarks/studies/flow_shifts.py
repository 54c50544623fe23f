"""How far the places that warps sample moved, from a float model to what was made of it."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...optimize.errors import VtoptError
from ..engines.engine import Engine, feed_pair, open_engine
from ..quality.flow_shift import match_forms

if TYPE_CHECKING:
    from ...optimize.data.pairs import Pair
    from ...optimize.flow import Flow
    from ..engines.runtimes import Arrays

__all__ = ["FLOW_PAIRS", "FlowReference", "measure_flow", "read_flow_reference"]

FLOW_PAIRS = 8
"""Flow shift is measured on so many of the pairs: each is run once more, with the values of warps as outputs."""


@dataclass(frozen=True)
class FlowReference:
    """A float model's flows, and their values on each of the first pairs."""

    flows: Sequence[Flow]
    made: Sequence[Arrays]


def read_flow_reference(path: Path, pairs: Sequence[Pair], threads: int) -> FlowReference | None:
    """Return the flows of a float ONNX model on onnxruntime; None where it has none that can be read."""
    engine, flows = _open_flows(path, "onnxruntime", threads)
    return FlowReference(flows, _run_flows(engine, flows, pairs)) if engine else None


def measure_flow(
    path: Path, runtime: str, threads: int, reference: FlowReference | None, pairs: Sequence[Pair]
) -> float | None:
    """Return how far places moved from those of the float model, in pixels, the median of pairs; None if not known."""
    from ...optimize.flow import measure_flow_shift

    engine, flows = _open_flows(path, runtime, threads)
    if engine is None or reference is None:
        return None
    matched = match_forms(reference.flows, flows)
    if not matched:
        return None
    try:
        made = _run_flows(engine, flows, pairs)
    except VtoptError:
        return None
    size = pairs[0].person.shape[1], pairs[0].person.shape[2]
    shifts = [measure_flow_shift(old, new, matched, size) for old, new in zip(reference.made, made, strict=True)]
    known = [shift for shift in shifts if shift is not None]
    return statistics.median_low(known) if known and len(known) == len(shifts) else None


def _open_flows(path: Path, runtime: str, threads: int) -> tuple[Engine | None, Sequence[Flow]]:
    """Open a copy of a model that also gives the values of its flows; None where it is no ONNX or does not load."""
    import onnx

    from ...optimize.flow import expose_flows
    from ...optimize.onnx_files import load_onnx

    if path.suffix != ".onnx":
        return None, ()
    try:
        exposed, flows = expose_flows(load_onnx(path))
        with tempfile.TemporaryDirectory(prefix="vtopt-flows-") as folder:
            copy = Path(folder) / path.name
            onnx.save(exposed, copy)
            return (open_engine(copy, runtime=runtime, threads=threads) if flows else None), flows
    except (VtoptError, RuntimeError, ValueError):  # onnx_ir and protobuf have exceptions of their own
        return None, ()


def _run_flows(engine: Engine, flows: Sequence[Flow], pairs: Sequence[Pair]) -> list[Arrays]:
    wanted = {name for flow in flows for name in (*flow.places, flow.attention)}
    made = (engine.run(feed_pair(engine, pair)) for pair in pairs[:FLOW_PAIRS])
    return [{name: array for name, array in arrays.items() if name in wanted} for arrays in made]

"""The table of operations: where each model's time goes, by the runtimes' own profilers."""

from __future__ import annotations

from ...optimize.errors import InputError
from ..host import HOST
from ..run.results import OperationTimes, Results
from .report import Report

__all__ = ["COLUMNS", "make_operations_table"]

COLUMNS = ("model", "runtime", "operation", "ms", "share")


def make_operations_table(results: Results) -> Report:
    """Return a row for each operation type of each model and runtime, the largest first.

    Its milliseconds are the median of a few runs under the runtime's profiler, its share the part, from 0 to 1, of what
    all operations take; what a runtime does between them is in neither. Raises InputError for results without such
    times: torch has none.
    """
    if not results.op_times:
        raise InputError(
            "bench report: the results have no times of operations, which ONNX and IR alone have; "
            "measure such models with: vtopt bench run"
        )
    rows = [row for measured in results.op_times for row in _list_rows(measured)]
    told = results.conditions
    conditions = {
        "size": told.get("size"),
        "threads": ", ".join(dict.fromkeys(str(measured.threads) for measured in results.op_times)),
        "batch": results.settings.batches[0],
        "ms": "the median of runs with the profiler on",
        **{name: results.machine.get(name) for name in HOST},
    }
    return Report(tuple(rows), COLUMNS, conditions, ())


def _list_rows(measured: OperationTimes) -> list[dict[str, object]]:
    total = sum(measured.by_op.values())
    return [
        {
            "model": measured.model,
            "runtime": measured.runtime,
            "operation": operation,
            "ms": milliseconds,
            "share": milliseconds / total if total else None,
        }
        for operation, milliseconds in sorted(measured.by_op.items(), key=lambda each: -each[1])
    ]

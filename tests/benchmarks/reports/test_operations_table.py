"""The table of operations: a row for each, the largest first, with its share."""

from __future__ import annotations

import pytest
from bench_results import make_results

from vtopt.benchmarks.reports.operations_table import COLUMNS, make_operations_table
from vtopt.benchmarks.run.results import OperationTimes
from vtopt.optimize.errors import InputError

TIMES = {"fp32": 20.0, "int8": 10.0}
OPERATIONS = (
    OperationTimes("fp32", "onnxruntime", 2, {"Add": 1.0, "Conv": 6.0, "GridSample": 1.0}),
    OperationTimes("fp32", "openvino", 2, {"Convolution": 3.0, "Interpolate": 1.0}),
)


def test_operations_come_the_largest_first_with_their_share() -> None:
    report = make_operations_table(make_results(TIMES, op_times=OPERATIONS))
    assert report.columns == COLUMNS == ("model", "runtime", "operation", "ms", "share")
    assert [tuple(row[name] for name in COLUMNS) for row in report.rows] == [
        ("fp32", "onnxruntime", "Conv", 6.0, 0.75),
        ("fp32", "onnxruntime", "Add", 1.0, 0.125),
        ("fp32", "onnxruntime", "GridSample", 1.0, 0.125),
        ("fp32", "openvino", "Convolution", 3.0, 0.75),
        ("fp32", "openvino", "Interpolate", 1.0, 0.25),
    ]
    assert (report.conditions["threads"], report.conditions["cpu"]) == ("2", "Some CPU")


def test_operations_without_time_have_no_share() -> None:
    report = make_operations_table(
        make_results(TIMES, op_times=(OperationTimes("fp32", "onnxruntime", 1, {"Add": 0.0}),))
    )
    assert [row["share"] for row in report.rows] == [None]


def test_results_without_times_of_operations_are_refused() -> None:
    with pytest.raises(InputError, match="no times of operations, which ONNX and IR alone have; measure such models"):
        make_operations_table(make_results(TIMES))

"""Times by operation: what the profiler says, added up per run; and a real profile of a few nodes."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from vtopt.benchmarks.cost import op_times
from vtopt.benchmarks.cost.op_times import OpTimes, measure_op_times
from vtopt.optimize.errors import InputError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Two convolutions, the first with an activation that is fused into it, and a sampling."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    graph (float[1,8,16,12] x, float[1,16,12,2] g) => (float[1,8,16,12] y)
    <float[8,8,1,1] w> {
      [first] a = Conv (x, w)
      [relu] b = Relu (a)
      [warp] s = GridSample (b, g)
      [last] y = Conv (s, w)
    }"""
    parsed = onnx.parser.parse_model(text)
    weights = np.ones((8, 8, 1, 1), np.float32)
    del parsed.graph.initializer[:]
    parsed.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    path = tmp_path / "model.onnx"
    onnx.save(parsed, path)
    return path


def _make_events(runs: list[dict[str, tuple[str, float]]]) -> list[dict[str, Any]]:
    """Write events as the profiler does: runs of nodes, name -> type and milliseconds, one after the other."""
    events: list[dict[str, Any]] = [{"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 5}]
    now = 10.0
    for run in runs:
        begin = now
        for name, (op, milliseconds) in run.items():
            events.append(
                {
                    "cat": "Node",
                    "name": f"{name}_kernel_time",
                    "ts": now,
                    "dur": milliseconds * 1000,
                    "args": {"op_name": op},
                }
            )
            now += milliseconds * 1000
        events.append({"cat": "Session", "name": "model_run", "ts": begin, "dur": now - begin})
        now += 10
    return events


def _measure_events(
    monkeypatch: pytest.MonkeyPatch, profiled: list[dict[str, tuple[str, float]]], **settings: Any
) -> OpTimes:
    monkeypatch.setattr(op_times, "_profile", lambda *_: _make_events(profiled))
    return measure_op_times(Path("any.onnx"), threads=1, feeds={}, **settings)


def test_measure_op_times_takes_medians_over_the_runs_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = {"a": ("Conv", 1000.0), "b": ("Conv", 1000.0), "c": ("Add", 1000.0)}
    runs = [{"a": ("Conv", 1.0), "b": ("Conv", x), "c": ("Add", 2 * x)} for x in (4.0, 2.0, 8.0)]
    times = _measure_events(monkeypatch, [slow, *runs], runs=3, warmup=1)
    assert times.by_op == {"Add": 2 * 4.0, "Conv": 1 + 4.0}
    assert list(times.by_op) == ["Add", "Conv"]
    assert times.by_node == {"c": 8.0, "b": 4.0, "a": 1.0}
    assert times.total_ms == statistics.median(1 + 3 * x for x in (4.0, 2.0, 8.0))
    assert times.node_ops == {"a": "Conv", "b": "Conv", "c": "Add"}
    assert (times.runs, times.warmup, times.threads) == (3, 1, 1)


def test_measure_op_times_calls_fused_operations_by_their_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    run = {"a": ("FusedConv", 1.0), "b": ("Conv", 2.0), "c": ("Upsample", 4.0), "d": ("FusedMatMul", 8.0)}
    times = _measure_events(monkeypatch, [run], runs=1, warmup=0)
    assert times.by_op == {"MatMul": 8.0, "Resize": 4.0, "Conv": 3.0}


def test_share_adds_up_operations_and_takes_absent_ones_as_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    run = {"a": ("Conv", 1.0), "b": ("GridSample", 3.0)}
    times = _measure_events(monkeypatch, [run], runs=1, warmup=0)
    assert times.share("Conv") == 1 / 4
    assert times.share("GridSample", "DeformConv") == 3 / 4
    assert times.share("Softmax") == 0


def test_measure_op_times_of_a_model(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    times = measure_op_times(model, threads=1, runs=2, warmup=1)
    assert {"Conv", "GridSample"} <= set(times.by_op)
    assert times.node_ops["warp"] == "GridSample"
    assert "FusedConv" not in times.by_op
    assert 0 < times.total_ms < 1000
    assert list(tmp_path.iterdir()) == [model]


def test_measure_op_times_on_openvino(model: Path) -> None:
    feeds = {"x": np.zeros((1, 8, 16, 12)), "g": np.zeros((1, 16, 12, 2))}
    times = measure_op_times(model, runtime="openvino", threads=1, runs=2, warmup=1, feeds=feeds)
    assert {"Convolution", "GridSample"} <= set(times.by_op)
    assert times.node_ops["warp"] == "GridSample"
    assert (times.runs, times.warmup) == (2, 1)
    assert 0 < times.total_ms < 1000


def test_measure_op_times_runs_on_the_given_inputs(model: Path) -> None:
    feeds = {"x": np.zeros((1, 8, 16, 12)), "g": np.zeros((1, 16, 12, 2))}
    assert measure_op_times(model, threads=1, runs=1, warmup=0, feeds=feeds).runs == 1
    with pytest.raises(InputError, match="input 'g' was not given"):
        measure_op_times(model, threads=1, feeds={"x": feeds["x"]})


def test_measure_op_times_shows_a_drawn_pair_to_a_network(small_onnx: Path) -> None:
    times = measure_op_times(small_onnx, threads=1, runs=1, warmup=1)
    assert times.share("Conv") > 0
    assert times.share("GridSample") > 0


@pytest.mark.parametrize(("runs", "warmup"), [(0, 1), (1, -1)])
def test_measure_op_times_refuses_counts_that_cannot_be_timed(model: Path, runs: int, warmup: int) -> None:
    with pytest.raises(InputError, match="cannot be timed"):
        measure_op_times(model, runs=runs, warmup=warmup)


def test_measure_op_times_names_a_file_that_does_not_load(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x07not a model" * 9)
    with pytest.raises(InputError, match=r"broken\.onnx"):
        measure_op_times(broken, feeds={})

"""Runtimes: one that cannot be had is refused, not replaced by another in silence."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import onnx
import onnx.parser
import pytest

from vtopt.benchmarks.engines import runtimes
from vtopt.benchmarks.engines.runtimes import Settings, load_model
from vtopt.optimize.errors import InputError


def test_a_provider_that_does_not_start_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    graph (float[1,3,8,6] x) => (float[1,3,8,6] y) { y = Sigmoid (x) }"""
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    assert load_model(path, "onnxruntime", Settings(1)).outputs == ("y",)
    fallen = SimpleNamespace(
        **{name: getattr(runtimes.need("onnxruntime"), name) for name in ("SessionOptions", "ExecutionMode")},
        GraphOptimizationLevel=runtimes.need("onnxruntime").GraphOptimizationLevel,
        InferenceSession=lambda *_, **__: SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"]),
    )
    monkeypatch.setattr(runtimes, "need", lambda _: fallen)
    with pytest.raises(InputError, match="onnxruntime could not start CUDAExecutionProvider, and would run all of it"):
        load_model(path, "onnxruntime-cuda", Settings(1))

"""What a step's output is worse at: larger, or slower by more than noise; the times here are made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

from vtopt.benchmarks.timing import latency
from vtopt.benchmarks.timing.latency import Latency
from vtopt.optimize.step_losses import NOISE, find_losses


def _save(path: Path, node: str) -> Path:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    graph (float[1,3,16,12] person, float[1,3,16,12] clothes) => (float[1,3,16,12] tryon) {{ {node} }}"""
    onnx.save(onnx.parser.parse_model(text), path)
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Two models, the second a few bytes larger."""
    return (
        _save(tmp_path / "small.onnx", "tryon = Add (person, clothes)"),
        _save(tmp_path / "large.onnx", "a = Add (person, clothes) tryon = Add (a, clothes)"),
    )


def _give_times(monkeypatch: pytest.MonkeyPatch, *times_ms: float) -> None:
    def measure(engines: dict[Path, object], feeds: object, **settings: object) -> dict[Path, Latency]:
        return {
            path: Latency(time, time, time, 5, 1, 1, "onnxruntime", 1)
            for path, time in zip(engines, times_ms, strict=True)
        }

    monkeypatch.setattr(latency, "measure_latency", measure)


def test_a_larger_and_slower_output_is_told(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    _give_times(monkeypatch, 10.0, 15.0)
    small, large = files
    before, after = (path.stat().st_size for path in files)
    assert find_losses(small, large) == [
        f"{large} is {after / before:.2f} times larger than {small}",
        f"{large} is 1.50 times slower than {small} on onnxruntime on this machine",
    ]


def test_a_smaller_output_that_is_slower_within_the_noise_has_no_losses(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _give_times(monkeypatch, 10.0, 10.0 * NOISE)
    small, large = files
    assert find_losses(large, small) == []


def test_external_data_is_part_of_the_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _give_times(monkeypatch, 10.0, 10.0)
    whole, apart = tmp_path / "whole.onnx", tmp_path / "apart.onnx"
    model = onnx.load(_save(whole, "k = Add (clothes, c) tryon = Mul (person, c)"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.full(1, 0.5, np.float32), "c"))
    onnx.save(model, whole)
    onnx.save(model, apart, save_as_external_data=True, location="a.data", size_threshold=0)
    ratio = (apart.stat().st_size + (tmp_path / "a.data").stat().st_size) / whole.stat().st_size
    assert find_losses(whole, apart) == [f"{apart} is {ratio:.2f} times larger than {whole}"]

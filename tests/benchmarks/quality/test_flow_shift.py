"""The flow shift of models over pairs: by formula, and nothing where warps do not match."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from vtopt.benchmarks.quality.flow_shift import measure_flows
from vtopt.optimize.data.pairs import open_pairs

SIZE = HEIGHT, WIDTH = 32, 24


def _save(path: Path, slope: float, *, warps: bool = True) -> Path:
    """Save a model that looks further to the right the brighter the person is: by `slope` of the mean, halves of W."""
    node = 'tryon = GridSample <padding_mode = "border"> (clothes, grid)' if warps else "tryon = Identity (clothes)"
    shape = f"1,{HEIGHT},{WIDTH},2"
    text = f"""<ir_version: 9, opset_import: ["" : 17]>
    g (float[1,3,{HEIGHT},{WIDTH}] person, float[1,3,{HEIGHT},{WIDTH}] clothes)
        => (float[1,3,{HEIGHT},{WIDTH}] tryon) <float[{shape}] base, float[{shape}] slope>
    {{ mean = ReduceMean (person)
       flat = Reshape (mean, one)
       move = Mul (slope, flat)
       grid = Add (base, move)
       {node} }}"""
    model = onnx.parser.parse_model(text.replace("<float[", "<int64[1] one = {1}, float["))
    columns = np.linspace(-0.4, 0.4, WIDTH)[None, :].repeat(HEIGHT, 0)
    rows = np.linspace(-0.4, 0.4, HEIGHT)[:, None].repeat(WIDTH, 1)
    base = np.stack([columns, rows], 2)[None].astype(np.float32)
    moved = np.zeros_like(base)
    moved[..., 0] = slope
    del model.graph.initializer[:]
    tensors = {"one": np.array([1]), "base": base, "slope": moved}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in tensors.items())
    onnx.save(model, path)
    return path


def test_the_shift_is_that_of_places_in_pixels(tmp_path: Path) -> None:
    pairs = open_pairs(None, SIZE, 3)
    models = {name: _save(tmp_path / f"{name}.onnx", slope) for name, slope in (("a", 0.1), ("b", 0.3), ("c", 0.1))}
    shifts = measure_flows(models, pairs, threads=1)
    expected = {pair.name: abs(float(pair.person.mean())) * 0.2 * WIDTH / 2 for pair in pairs}
    assert shifts["b"].mean_px == pytest.approx(np.mean([*expected.values()]), rel=1e-3)
    assert shifts["b"].worst_px == pytest.approx(max(expected.values()), rel=1e-3)
    assert (shifts["b"].worst, shifts["b"].pairs) == (max(expected, key=lambda name: expected[name]), 3)
    assert (shifts["c"].mean_px, shifts["c"].worst) == (0.0, pairs[0].name)
    assert "a" not in shifts


@pytest.mark.parametrize("first", [True, False])
def test_models_without_the_warps_of_the_first_have_none(first: bool, tmp_path: Path) -> None:
    models = {"a": _save(tmp_path / "a.onnx", 0.1, warps=first), "b": _save(tmp_path / "b.onnx", 0.1, warps=not first)}
    assert measure_flows(models, open_pairs(None, SIZE, 1), threads=1) == {}

"""Histograms of a model's tensors: right, of all samples, and of no more memory than one sample needs."""

from __future__ import annotations

import tracemalloc
import weakref
from collections.abc import Iterator

import numpy as np
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from vtopt.optimize.errors import InputError
from vtopt.optimize.int8 import calibration
from vtopt.optimize.int8.calibration import BINS, Histogram, collect_histograms

SIDE = 64
TEXT = f"""<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,{SIDE},{SIDE}] x) => (float[1,3,{SIDE},{SIDE}] y) {{
  [double] twice = Add (x, x)
  [log] y = Sqrt (twice)
}}"""


def _parse() -> ModelProto:
    return onnx.parser.parse_model(TEXT)


def _draw(seed: int, low: float = -1, high: float = 1) -> np.ndarray:
    """Multiples of 2^-16: exact in a histogram's float32 sums."""
    values = np.random.default_rng(seed).uniform(low, high, (1, 3, SIDE, SIDE))
    return (np.round(values * 2**16) / 2**16).astype(np.float32)


def _collect(samples: list[np.ndarray], tensor: str = "x") -> Histogram:
    return collect_histograms(_parse(), [tensor], ({"x": values} for values in samples), 1)[tensor]


def _count(samples: list[np.ndarray], limit: float) -> np.ndarray:
    return np.histogram(np.concatenate([values.ravel() for values in samples]), BINS, (-limit, limit))[0]


def test_counts_are_those_of_numpy() -> None:
    samples = [_draw(seed) for seed in range(4)]
    found = _collect(samples)
    assert found.limit == 1
    np.testing.assert_array_equal(found.counts, _count(samples, 1))


def test_numbers_past_the_first_limit_double_it_and_keep_the_counts() -> None:
    samples = [_draw(0, -0.2, 0.24), _draw(1, -0.1, 3), _draw(2, -20, 1), _draw(3)]
    found = _collect(samples)
    assert found.limit == 32
    np.testing.assert_array_equal(found.counts, _count(samples, 32))
    assert (found.low, found.high) == (min(map(np.min, samples)), max(map(np.max, samples)))


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(st.lists(st.integers(-12, 12), min_size=1, max_size=5))
def test_extremes_are_exact_and_nothing_is_lost(powers: list[int]) -> None:
    samples = [_draw(index) * np.float32(2.0**power) for index, power in enumerate(powers)]
    found = _collect(samples)
    assert (found.low, found.high) == (min(map(np.min, samples)), max(map(np.max, samples)))
    assert found.counts.sum() == sum(values.size for values in samples)
    assert max(-found.low, found.high) <= found.limit
    assert found.samples == len(samples)


def test_of_a_large_tensor_a_share_is_counted_and_the_extremes_are_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "COUNTED", 1000)
    values = _draw(0)
    values.reshape(-1)[1] = 7
    found = _collect([values])
    assert found.high == 7
    assert 1000 <= found.counts.sum() < 2000


def test_channel_means() -> None:
    samples = [_draw(seed, -1, 1 + seed) for seed in range(3)]
    expected = np.concatenate(samples).mean((0, 2, 3), dtype=np.float64)
    np.testing.assert_allclose(_collect(samples).means, expected, rtol=1e-12)


def test_a_tensor_that_the_model_makes() -> None:
    samples = [_draw(seed) for seed in range(2)]
    np.testing.assert_array_equal(_collect(samples, "twice").counts, _count([2 * values for values in samples], 2))


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e-35, 1e30])
def test_constant_tensors(value: float) -> None:
    found = _collect([np.full((1, 3, SIDE, SIDE), value, np.float32)] * 2)
    assert (found.low, found.high) == (np.float32(value), np.float32(value))
    assert found.counts.max() == found.counts.sum() == 2 * 3 * SIDE * SIDE


def test_one_sample_is_held_at_a_time() -> None:
    held: list[weakref.ref] = []

    def feed() -> Iterator[dict[str, np.ndarray]]:
        for seed in range(6):
            assert sum(each() is not None for each in held) <= 1
            values = _draw(seed)
            held.append(weakref.ref(values))
            yield {"x": values}
            del values

    collect_histograms(_parse(), ["x", "twice"], feed(), 1)
    assert len(held) == 6


def test_memory_does_not_grow_with_samples() -> None:
    def measure(count: int) -> int:
        tracemalloc.start()
        collect_histograms(_parse(), ["x", "twice"], ({"x": _draw(seed)} for seed in range(count)), 1)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    measure(1)  # what is imported on first use
    few, many = measure(4), measure(40)
    assert many <= few * 1.05 + 4096


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_named(value: float) -> None:
    values = _draw(0)
    values[0, 0, 3, 3] = value
    with pytest.raises(InputError, match="tensor 'twice' holds NaN or infinite values"):
        _collect([_draw(1), values], "twice")
    with pytest.raises(InputError, match="'y' holds NaN"):
        _collect([_draw(1)], "y")  # square roots of negative numbers


def test_no_samples_are_refused() -> None:
    with pytest.raises(InputError, match="there are no pairs to calibrate on"):
        _collect([])


def test_a_model_with_nothing_to_see_needs_no_samples() -> None:
    assert collect_histograms(_parse(), [], []) == {}

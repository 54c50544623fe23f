"""See which numbers a model's tensors hold: a histogram of each, taken from one sample at a time.

Memory does not grow with the number of samples: a sample's tensors are counted and forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

__all__ = ["BINS", "Histogram", "check_samples", "collect_histograms"]

Feeds = Mapping[str, "np.ndarray"]

BINS = 4096
"""Of equal width over [-limit, limit]; the limit doubles, and bins merge in twos, when a number lies outside."""
COUNTED = 1 << 18
"""Of a tensor's numbers in one sample, so many are counted, evenly spread; the extremes are those of all."""
SMALLEST = 1e-30
"""The least limit, that of a tensor of zeros."""


@dataclass
class Histogram:
    """The numbers seen of one tensor: their extremes, and how many fell into each bin of [-limit, limit]."""

    counts: NDArray[np.int64]
    limit: float
    low: float
    high: float
    samples: int
    sums: NDArray[np.float64]
    """The means of each channel of (N, C, ...), summed over the samples."""

    @property
    def centres(self) -> NDArray[np.floating]:
        """The middle of each bin."""
        return (np.arange(BINS) + 0.5) * (2 * self.limit / BINS) - self.limit

    @property
    def means(self) -> NDArray[np.float64]:
        """The mean of each channel (C,), over all samples."""
        return np.asarray(self.sums / self.samples, np.float64)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the numbers of one more sample, of any shape."""
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        while max(-self.low, self.high) > self.limit:
            self.counts = np.pad(self.counts.reshape(-1, 2).sum(1), BINS // 4)
            self.limit *= 2
        flat = values.reshape(-1)
        flat = flat[:: max(1, flat.size // COUNTED)]
        places = ((flat + np.float32(self.limit)) * np.float32(BINS / (2 * self.limit))).astype(np.int64)
        self.counts += np.bincount(places.clip(0, BINS - 1), minlength=BINS)
        self.sums = self.sums + values.mean((0, *range(2, values.ndim)), dtype=np.float64)
        self.samples += 1


def start_histogram(values: NDArray[np.float32]) -> Histogram:
    """Return the histogram of a tensor's first sample."""
    limit = float(2.0 ** np.ceil(np.log2(max(np.abs(values).max(initial=0), SMALLEST))))
    histogram = Histogram(np.zeros(BINS, np.int64), limit, np.inf, -np.inf, 0, np.zeros(()))
    histogram.add(values)
    return histogram


def collect_histograms(
    model: ModelProto, tensors: Sequence[str], calibration: Iterable[Feeds], threads: int | None = None
) -> dict[str, Histogram]:
    """Run the model on every sample and return the histogram of each named tensor.

    Raises InputError where there are no samples, and where a tensor holds NaN or infinite values.
    """
    run = _expose(model, tensors, threads)
    histograms: dict[str, Histogram] = {}
    for feeds in calibration:
        for name, values in zip(tensors, run(feeds), strict=True):
            if not np.isfinite(values).all():
                raise InputError(
                    f"calibration: tensor '{name}' holds NaN or infinite values; int8 needs finite ones: look at "
                    "the float32 model's pictures on these pairs with vtopt tryon"
                )
            if name in histograms:
                histograms[name].add(values)
            else:
                histograms[name] = start_histogram(values)
    if tensors and not histograms:
        raise InputError("calibration: there are no pairs to calibrate on; give at least one")
    return histograms


def _expose(model: ModelProto, tensors: Sequence[str], threads: int | None):
    """Return a function that runs the model and gives the named tensors, in order."""
    import onnxruntime as ort
    from onnx import ModelProto, ValueInfoProto

    from ...benchmarks.engines.runtimes import make_session_options
    from ...benchmarks.host import count_cpus

    exposed = ModelProto()
    exposed.CopyFrom(model)
    known = {value.name for value in exposed.graph.output}
    made = {name for node in exposed.graph.node for name in node.output}
    exposed.graph.output.extend(ValueInfoProto(name=name) for name in tensors if name in made and name not in known)
    session = ort.InferenceSession(
        exposed.SerializeToString(),
        make_session_options(threads or count_cpus()),
        providers=["CPUExecutionProvider"],
    )
    given = {value.name for value in session.get_inputs()}
    asked = [name for name in tensors if name not in given]

    def run(feeds: Feeds) -> list[NDArray[np.float32]]:
        fed = {name: np.ascontiguousarray(feeds[name], np.float32) for name in given}
        made = session.run(asked, fed) if asked else []
        found = fed | {name: np.asarray(value) for name, value in zip(asked, made, strict=True)}
        return [found[name] for name in tensors]

    return run


def check_samples(calibration: Iterable[Feeds]) -> Iterator[Feeds]:
    """Yield the samples; raises InputError where there are none, and where one holds NaN or infinite values."""
    number = 0
    for number, feeds in enumerate(calibration, 1):
        for name, values in feeds.items():
            if not np.isfinite(values).all():
                raise InputError(
                    f"calibration sample {number}: NaN or infinite values in input '{name}'; take that pair out"
                )
        yield feeds
    if not number:
        raise InputError("there are no samples to calibrate on; give at least one pair")

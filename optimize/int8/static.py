"""Static int8 for onnxruntime: convolutions in 8 bits, with ranges calibrated on pairs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..cpu_target import CpuTarget
from .calibration import Feeds, Histogram, collect_histograms
from .prepare import Prepared, prepare_model
from .qdq import insert_qdq
from .ranges import Range, choose_ranges
from .settings import Int8Settings, RangeMethod
from .units import Unit, find_units, list_tensors

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

__all__ = ["Calibrated", "calibrate_model", "quantize_static"]


@dataclass(frozen=True)
class Calibrated:
    """A prepared model, its units, and what calibration saw of the tensors around them."""

    prepared: Prepared
    units: list[Unit]
    histograms: Mapping[str, Histogram]

    def find_ranges(self, method: RangeMethod) -> dict[str, Range]:
        """Return the ranges of the tensors by one method."""
        return choose_ranges(self.histograms, method)

    @property
    def means(self) -> dict[str, NDArray]:
        """The channel means of the tensors that units read."""
        return {unit.source: self.histograms[unit.source].means for unit in self.units}

    def write(self, ranges: Mapping[str, Range], target: CpuTarget, float_units: Collection[str] = ()) -> ModelProto:
        """Return the model with its units in int8, but for the named ones."""
        units = [unit for unit in self.units if unit.name not in float_units]
        return insert_qdq(self.prepared.model, units, ranges, target, self.means)


def calibrate_model(model: ModelProto, calibration: Iterable[Feeds]) -> Calibrated:
    """Prepare a model and look at its tensors on every sample, one at a time.

    Raises InputError where there are no samples, and where a tensor holds NaN or infinite values.
    """
    prepared = prepare_model(model)
    units = find_units(prepared.model, prepared.protected)
    return Calibrated(prepared, units, collect_histograms(prepared.model, list_tensors(units), calibration))


def quantize_static(model: ModelProto, calibration: Iterable[Feeds], settings: Int8Settings) -> ModelProto:
    """Return the model with its convolutions in 8 bits, but for those that make grids and `settings.float_nodes`.

    Weights are int8 per output channel, activations 8 bits per tensor. `calibration` is read one sample at a time.
    """
    calibrated = calibrate_model(model, calibration)
    return calibrated.write(calibrated.find_ranges(settings.ranges), settings.target, settings.float_nodes)

"""Static int8 with the ranges of a quantisation-aware training: what trained so is written so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..artifacts import Size
from ..errors import InputError
from .calibration import Feeds, collect_histograms
from .prepare import prepare_model
from .qdq import insert_qdq
from .ranges import choose_ranges
from .settings import Int8Settings
from .trained import Trained, assign_ranges, name_module
from .trained_graph import trace_named
from .units import find_units, list_tensors

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["quantize_trained"]


def quantize_trained(trained: Trained, calibration: Iterable[Feeds], settings: Int8Settings) -> ModelProto:
    """Return the model in 8 bits, its ranges those that it was trained with.

    A network is traced, and must have every convolution that was trained. Of an ONNX model rewrites may have merged
    some. Convolutions are known by the names of their weights. Those without trained ranges get the ones that
    `calibration` shows, by `settings.ranges`; it is read for them alone. Biases are not corrected, as training has
    seen what rounding does to them.

    Raises InputError where a network cannot be exported or lacks a convolution that was trained, where no convolution
    of an ONNX model was trained, and where two ranges are given for one tensor.
    """
    from onnx import ModelProto

    model = trained.model
    traced = model if isinstance(model, ModelProto) else trace_named(model, Size(*model.size))
    prepared = prepare_model(traced)
    units = [unit for unit in find_units(prepared.model, prepared.protected) if unit.name not in settings.float_nodes]
    found = {name_module(unit) for unit in units}
    missing = trained.ranges.modules.keys() - found
    if missing and (traced is not model or missing == trained.ranges.modules.keys()):
        raise InputError(
            f"trained int8 ranges are of convolutions that the model does not have: {', '.join(sorted(missing))}; "
            "quantise the network as it was trained"
        )
    ranges = assign_ranges(units, trained.ranges.modules)
    others = [tensor for tensor in list_tensors(units) if tensor not in ranges]
    if others:
        ranges |= choose_ranges(collect_histograms(prepared.model, others, calibration), settings.ranges)
    return insert_qdq(prepared.model, units, ranges, settings.target)

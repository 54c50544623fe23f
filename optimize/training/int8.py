"""Train a network for int8: while it trains, it rounds where the int8 file will round, and nowhere else."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from ..artifacts import Size
from ..cpu_target import CpuTarget
from ..data.pairs import open_pairs
from ..errors import InputError
from ..int8.calibration import Feeds
from ..int8.pairs import CALIBRATION_SEED
from ..int8.ranges import Range
from ..int8.request import CALIBRATION_COUNT
from ..int8.settings import RangeMethod
from ..int8.static import Calibrated, calibrate_model
from ..int8.trained import ModuleRanges, TrainedRanges, name_module
from ..int8.trained_graph import trace_named
from ..int8.units import Unit
from ..networks import Network
from ..progress import track
from .batches import feed_batch, hold_out, list_pictures, pair_to_batch
from .int8_rounding import Int8Conv2d, RoundedTensor, find_ends, round_weight

__all__ = ["Prepared", "open_calibration", "prepare_int8_training", "split_int8_state"]

INPUT, OUTPUT = "int8_input", "int8_output"
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
FOLDING_TOLERANCE = 1e-4
"""Weights with a batch-norm in them may differ by so much of their largest value from the product."""


class Prepared(NamedTuple):
    """A network to train for int8, and the convolutions that int8 files quantise and it computes in float32.

    Those are named as their weights are in the graph. They are functions, modules other than Conv2d, or calls whose
    batch-norm is not that of the module's other calls.
    """

    network: Network
    untrained: list[str]


def prepare_int8_training(
    network: Network, calibration: Iterable[Feeds], target: CpuTarget, *, ranges: RangeMethod = "minmax"
) -> Prepared:
    """Return a copy of the network that computes in training and evaluation as its int8 file will; it can be trained.

    The convolutions are those that `vtopt quantize --int8` takes: all but what makes a warp's grid. What each reads,
    its weights (7 bits where the target asks for that) and what it makes are rounded, the last behind a batch-norm
    that files fold into it. Ranges start from those of `calibration`, by the method `ranges`, and learn; biases
    start corrected by what rounded weights add on average, as post-training int8 has them. Batch-norms
    keep their statistics: a file has them folded, and the means of a small batch are not those.

    The state_dict is that of the network, with its names, and two small tensors for each range, whose names have
    `int8_input` or `int8_output` before the last dot; `split_int8_state` takes the two apart. Equal calibration gives
    an equal network. `network` is not changed.

    Raises InputError where there is nothing to calibrate on, for a network without convolutions to quantise, and for
    one that cannot be exported.
    """
    feeds = iter(calibration)
    first = next(feeds, None)
    if first is None:
        raise InputError("calibration: there are no pairs to calibrate on; give at least one")
    size = Size(*np.shape(next(iter(first.values())))[2:])
    plain = replace(network, module=copy.deepcopy(network.module).cpu().eval())
    calibrated = calibrate_model(trace_named(plain, size), chain([first], feeds))
    trained = copy.deepcopy(network.module)
    places, untrained = _find_places(calibrated, plain, first)
    if not places:
        raise InputError(f"network '{network.name}': has no convolutions that int8 files quantise")
    limit = 64 if target.reduce_range else 127
    _correct_biases(trained, places, calibrated.means, limit)
    _install(trained, places, calibrated.find_ranges(ranges), limit)
    return Prepared(replace(network, module=trained), untrained)


def open_calibration(
    network: Network, folder: Path | None, size: Size, notices: list[str], count: int = CALIBRATION_COUNT
) -> Iterator[Feeds]:
    """Yield the network's inputs for `count` pairs: the first of a folder, or drawn ones that are never trained on.

    What a training holds out of a folder is not among them. `notices` gets a line where there are fewer.
    """
    drawn = folder is None
    pairs = open_pairs(None, size, count, seed=CALIBRATION_SEED) if drawn else hold_out(open_pairs(folder, size))[0]
    pairs = pairs[:count]
    if len(pairs) < count:
        notices.append(f"int8 was calibrated on {len(pairs)} of {count} pairs: {folder} has no more to learn from")
    for pair in track(pairs, "calibrate", total=len(pairs)):
        batch = {name: picture[None] for name, picture in pair_to_batch(pair, list_pictures(network)).items()}
        inputs = feed_batch(network.inputs, batch)
        yield {spec.name: tensor.numpy() for spec, tensor in zip(network.inputs, inputs, strict=True)}


def split_int8_state(state: Mapping[str, Tensor], target: CpuTarget) -> tuple[dict[str, Tensor], TrainedRanges]:
    """Return the weights of a state_dict, or of averages of it, under the network's own names, and the trained ranges.

    `target` is what the network was prepared for.
    """
    weights = {name: tensor for name, tensor in state.items() if not _is_range(name)}
    modules = sorted({name.rpartition(f".{INPUT}.")[0] for name in state if f".{INPUT}." in name})
    ranges = {
        module: ModuleRanges(*(_read_state(state, f"{module}.{which}") for which in (INPUT, OUTPUT)))
        for module in modules
    }
    return weights, TrainedRanges(target.name, ranges)


def _is_range(name: str) -> bool:
    return name.split(".")[-2:-1] in ([INPUT], [OUTPUT])


def _read_state(state: Mapping[str, Tensor], prefix: str) -> Range:
    ends = find_ends(state[f"{prefix}.calibrated"], state[f"{prefix}.growth"])
    return Range(*(float(end) for end in ends))


class _Place(NamedTuple):
    """A convolution to quantise: its module, the module that makes its output, and the unit of the graph."""

    module: str
    last: str
    """The module itself, or the batch-norm behind it that is folded into it."""
    unit: Unit


def _find_places(calibrated: Calibrated, network: Network, feeds: Feeds) -> tuple[list[_Place], list[str]]:
    """Return where the units of the graph are in the network, and the names of those that are not, each once."""
    constants = {tensor.name: tensor for tensor in calibrated.prepared.model.graph.initializer}
    modules = dict(network.module.named_modules())
    followers = _find_batch_norms(network, feeds)
    places: list[_Place] = []
    untrained: list[str] = []
    for unit in calibrated.units:
        name = name_module(unit)
        module, last = modules.get(name), None
        if type(module) is nn.Conv2d:
            weight, bias = (numpy_helper.to_array(constants[key]) if key else None for key in (unit.weight, unit.bias))
            candidates = [(name, None), *((norm, modules[norm]) for norm in followers[name])]
            last = next((each for each, norm in candidates if _is_folded(module, norm, weight, bias)), None)
        if last is None:
            untrained.append(name)
        else:
            places.append(_Place(name, last, unit))
    return places, list(dict.fromkeys(untrained))


def _is_folded(convolution: nn.Conv2d, norm: Any, weight: np.ndarray | None, bias: np.ndarray | None) -> bool:
    """Tell whether the constants of a unit are those of the convolution, with the batch-norm in them if it has one."""
    own, shift = convolution.weight.detach(), convolution.bias
    shift = own.new_zeros(len(own)) if shift is None else shift.detach()
    if norm is not None:
        factor = (norm.running_var + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight.detach())
        own = own * factor[:, None, None, None]
        shift = (shift - norm.running_mean) * factor + (0 if norm.bias is None else norm.bias.detach())
    return _is_close(own, weight) and _is_close(shift, np.zeros(len(own)) if bias is None else bias)


def _is_close(expected: Tensor, found: np.ndarray | None) -> bool:
    if found is None or tuple(expected.shape) != found.shape:
        return False
    difference = np.abs(expected.numpy() - found).max(initial=0)
    return bool(difference <= FOLDING_TOLERANCE * max(np.abs(found).max(initial=0), 1e-12))


def _find_batch_norms(network: Network, feeds: Feeds) -> Mapping[str, list[str]]:
    """Return the batch-norms that read each convolution, by name, as an ordinary run has them."""
    made: dict[int, tuple[str, Tensor]] = {}
    found: defaultdict[str, list[str]] = defaultdict(list)

    def note_output(name: str, _module: Any, _inputs: Any, output: Tensor) -> None:
        made[id(output)] = name, output  # kept, so that no other tensor gets its id

    def note_input(name: str, _module: Any, inputs: Any) -> None:
        source = made.get(id(inputs[0]))
        if source is not None and name not in found[source[0]]:
            found[source[0]].append(name)

    handles = []
    for name, module in network.module.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(partial(note_output, name)))
        elif isinstance(module, BATCH_NORMS):
            handles.append(module.register_forward_pre_hook(partial(note_input, name)))
    try:
        with torch.no_grad():
            network.module(*(torch.from_numpy(np.asarray(feeds[spec.name], np.float32)) for spec in network.inputs))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _correct_biases(network: nn.Module, places: Sequence[_Place], means: Mapping[str, np.ndarray], limit: int) -> None:
    """Take off the biases what rounded weights make too much of the means of what they read, as `quantize_weight` does.

    A convolution that is called several times gets the mean of that. One without a bias has that of the batch-norm
    which is folded into it, and stays as it is without one.
    """
    modules: dict[str, Any] = dict(network.named_modules())
    calls: defaultdict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    for place in places:
        calls[place.module, place.last].append(means[place.unit.source])
    for (name, last_name), seen in calls.items():
        convolution, last = modules[name], modules[last_name]
        weight = convolution.weight.detach()
        error = (weight - round_weight(weight, limit)).flatten(2).sum(2)
        inputs = torch.from_numpy(np.mean(seen, 0)).to(error).view(convolution.groups, -1)
        shift = (error * inputs.repeat_interleave(len(weight) // convolution.groups, 0)).sum(1)
        with torch.no_grad():
            if convolution.bias is not None:
                convolution.bias += shift
            elif last is not convolution and last.bias is not None:
                last.bias += shift * (last.running_var + last.eps).rsqrt() * last.weight


def _install(network: nn.Module, places: Sequence[_Place], ranges: Mapping[str, Range], limit: int) -> None:
    """Let the network's own modules round: ranges become parts of the convolutions, one where tensors are one."""
    modules: dict[str, Any] = dict(network.named_modules())
    groups = _group_tensors(places)
    rounded = {}
    for group in dict.fromkeys(groups.values()):
        members = [ranges[tensor] for tensor in groups if groups[tensor] == group]
        rounded[group] = RoundedTensor(min(each.low for each in members), max(each.high for each in members))
    for place in places:
        convolution, last = modules[place.module], modules[place.last]
        if isinstance(convolution, Int8Conv2d):
            continue  # another unit of the same module
        # The module stays the object it was: others may hold it. Only its class changes, and with it its forward.
        convolution.__class__ = Int8Conv2d
        convolution.int8_limit = limit
        device = convolution.weight.device
        convolution.int8_input = rounded[groups[place.unit.source]].to(device)
        convolution.int8_output = last.int8_output = rounded[groups[place.unit.output]].to(device)
        last.register_forward_hook(_round_output)
    for module in modules.values():
        if isinstance(module, BATCH_NORMS):
            module.register_forward_pre_hook(_keep_statistics)


def _group_tensors(places: Sequence[_Place]) -> dict[str, str]:
    """Return for each tensor the one whose range it shares: those that a module reads, or makes, in all its calls."""
    groups: dict[str, str] = {}
    first: dict[tuple[str, str], str] = {}
    for place in places:
        for which, tensor in ((INPUT, place.unit.source), (OUTPUT, place.unit.output)):
            mine = groups.setdefault(tensor, tensor)
            other = groups[first.setdefault((place.module, which), tensor)]
            groups |= {name: other for name, group in groups.items() if group == mine}
    return groups


def _round_output(module: Any, _inputs: Any, output: Tensor) -> Tensor:
    return module.int8_output(output)


def _keep_statistics(module: nn.Module, _inputs: Any) -> None:
    module.training = False

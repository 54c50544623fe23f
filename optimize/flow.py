"""How far the places that warps sample have moved between two ONNX models, in pixels of the picture.

The measure is the endpoint error of optical flow (Baker et al., "A Database and Evaluation Methodology for Optical
Flow", IJCV 2011): the distance between where the one and the other looks. Here it is averaged over the pixels of a
warp and over its heads, each weighted with the reference's attention: a head nobody listens to moves no picture.
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .errors import InputError
from .onnx_files import load_onnx
from .onnx_graphs import Shape
from .warp import Warp, find_warps, name_nodes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnx import ModelProto

    from ..benchmarks.engines.engine import Engine
    from ..benchmarks.engines.runtimes import Arrays, Feeds

__all__ = ["Flow", "FlowPair", "expose_flows", "match_flows", "measure_flow_shift", "open_flow_engine"]


class Kernel(NamedTuple):
    """Where the taps of a deformable convolution lie before they are moved; y before x."""

    sides: Sequence[int]
    strides: Sequence[int]
    dilations: Sequence[int]
    pads: Sequence[int]
    """Above and to the left; what follows does not matter."""
    groups: int
    """Every group of channels has offsets of its own for all taps."""


@dataclass(frozen=True)
class Flow:
    """Where one warp of a model samples, by the names of the values that say it."""

    warp: Warp
    """The node that samples, or the first of those that sample for one head each."""
    name: str
    """The node's name in the file, "" where the file gives it none of its own."""
    places: tuple[str, ...]
    """One value, or one for each head."""
    heads: int
    attention: str
    """The value (N, K, H, W) that weighs the heads, "" without."""
    kernel: Kernel | None = None
    """Of a deformable convolution, whose places are offsets from its taps."""

    @property
    def signature(self) -> tuple[object, ...]:
        """Heads, height and width of what is sampled and of what is made: the same in every form of a warp."""
        return self.heads, _read_size(self.warp.features_shape), _read_size(self.warp.output_shape)


FlowPair = tuple[Flow, Flow]
"""The reference's warp, and the same one of the other model."""


def open_flow_engine(
    path: Path, *, threads: int | None = None, network: str | None = None
) -> tuple[Engine, list[Flow]]:
    """Load an artifact so that each run also gives the values of its flows; `outputs` names only its own outputs.

    What is no ONNX, has no warps, or does not load with more outputs is opened as `open_engine` does, and has no
    flows. Raises InputError for a file that cannot be loaded.
    """
    from google.protobuf.message import EncodeError

    from ..benchmarks.engines.engine import open_engine

    try:
        model = load_onnx(path)
        exposed, flows = expose_flows(model)
        if flows:
            return _open_exposed(exposed, path, threads, len(model.graph.output)), flows
    except (InputError, RuntimeError, EncodeError, ValueError):  # over 2 GB, or beyond what onnx_ir reads
        pass
    return open_engine(path, threads=threads, network=network), []


def _open_exposed(model: ModelProto, path: Path, threads: int | None, outputs: int) -> Engine:
    """Open a changed copy of the model at `path`, which errors name; its first `outputs` are its own."""
    import onnx

    from ..benchmarks.engines.engine import open_engine

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        onnx.save(model, copy)
        engine = open_engine(copy, threads=threads)

    def run(feeds: Feeds) -> Arrays:
        try:
            return engine.run(feeds)
        except InputError as error:
            raise InputError(str(error).replace(str(copy), str(path))) from error

    return replace(engine, path=path, outputs=engine.outputs[:outputs], run=run)


def expose_flows(model: ModelProto) -> tuple[ModelProto, list[Flow]]:
    """Return a copy that also puts out where its warps sample, and its warps in graph order.

    The new outputs, named as the values are, come last; a value that is an output already is not added. Left out
    are warps inside If, Loop and Scan, those of no known size, and those that move the places of another warp: their
    own shift shows in those, weighted as it should be. `model` is not changed.
    """
    import onnx

    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    given = Counter(node.name for node in exposed.graph.node)
    name_nodes(exposed)
    warps = find_warps(exposed)
    inner = {name for warp in warps for name in warp.grid_nodes}
    kernels = _read_kernels(exposed)
    flows = _join_heads(
        exposed,
        [
            _read_flow(warp, warp.name if given[warp.name] == 1 else "", kernels.get(warp.name))
            for warp in warps
            if not warp.subgraph and warp.name not in inner and _is_known(warp, kernels)
        ],
    )
    known = {value.name for value in exposed.graph.output}
    wanted = dict.fromkeys(name for flow in flows for name in (*flow.places, flow.attention) if name)
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in known)
    return exposed, flows


def _is_known(warp: Warp, kernels: Mapping[str, Kernel]) -> bool:
    sizes = _read_size(warp.features_shape), _read_size(warp.output_shape)
    return None not in sizes and (warp.op != "DeformConv" or warp.name in kernels)


def _read_size(shape: Shape | None) -> tuple[int, int] | None:
    """Return height and width of (N, C, H, W), None where they are not known."""
    if shape is None or len(shape) != 4 or not shape[2] or not shape[3]:
        return None
    return shape[2], shape[3]


def _read_kernels(model: ModelProto) -> dict[str, Kernel]:
    """Return the kernels of deformable convolutions, by the names of their nodes."""
    from onnx import helper

    sides = {tensor.name: tuple(tensor.dims[2:]) for tensor in model.graph.initializer}
    kernels = {}
    for node in model.graph.node:
        if node.op_type != "DeformConv":
            continue
        settings = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if shape := settings.get("kernel_shape") or sides.get(node.input[1]):
            kernels[node.name] = Kernel(
                shape,
                strides=settings.get("strides", (1, 1)),
                dilations=settings.get("dilations", (1, 1)),
                pads=settings.get("pads", (0, 0)),
                groups=settings.get("offset_group", 1),
            )
    return kernels


def _read_flow(warp: Warp, name: str, kernel: Kernel | None) -> Flow:
    heads = kernel.groups * kernel.sides[0] * kernel.sides[1] if kernel else warp.heads
    return Flow(warp, name, (warp.places,), heads, warp.attention, kernel)


class _Share(NamedTuple):
    """One head's part of an attention (N, K, H, W)."""

    attention: str
    head: int
    heads: int


def _join_heads(model: ModelProto, flows: Iterable[Flow]) -> list[Flow]:
    """Make one flow of those that each sample for one head, as the rewrite for OpenVINO leaves a warp.

    They sample the same features, and what they sample is multiplied with what one Split makes of the attention.
    """
    shares = _find_shares(model)
    groups: defaultdict[tuple[object, ...], list[tuple[_Share, Flow]]] = defaultdict(list)
    for flow in flows:
        warp = flow.warp
        share = shares.get(warp.output) if flow.heads == 1 else None
        form = (warp.features, warp.output_shape, warp.planar, warp.padding_mode, warp.align_corners)
        key = (share.attention, *form) if share else (warp.name,)
        groups[key].append((share or _Share("", 0, 1), flow))
    joined: list[Flow] = []
    for members in groups.values():
        members.sort(key=lambda member: member[0].head)
        share, first = members[0]
        if len(members) > 1 and [member.head for member, _ in members] == list(range(share.heads)):
            places = tuple(name for _, flow in members for name in flow.places)
            joined.append(replace(first, places=places, heads=share.heads, attention=share.attention))
        else:
            joined += [flow for _, flow in members]
    return joined


def _find_shares(model: ModelProto) -> dict[str, _Share]:
    """Return, for each value that is only multiplied, which part of an attention it is multiplied with."""
    parts = {
        name: _Share(node.input[0], head, len(node.output))
        for node in model.graph.node
        if node.op_type == "Split" and any(entry.name == "axis" and entry.i == 1 for entry in node.attribute)
        for head, name in enumerate(node.output)
    }
    readers = Counter(name for node in model.graph.node for name in node.input)
    return {
        name: parts[factor]
        for node in model.graph.node
        if node.op_type == "Mul"
        for name, factor in (tuple(node.input), tuple(reversed(node.input)))
        if factor in parts and readers[name] == 1
    }


def match_flows(expected: Sequence[Flow], made: Sequence[Flow]) -> list[FlowPair]:
    """Return the warps of the reference, each with the same warp of another model; none where that is not sure.

    They are told by name, also where a rewrite built on it ("warp" became "warp/DeformConv") or two did ("warp/Conv"
    and "warp/GridSample"); those without a namesake by their order among those of equal heads and sizes, if each
    model writes all of these in one form: else the one that was rewritten may have changed places. A model that has a
    warp more, or one of another size, has no pairs.
    """
    if len(expected) != len(made):
        return []
    pairs: list[FlowPair] = []
    for are_related in (_are_built_on, _are_siblings):
        left = [_list_unpaired(flows, pairs, side) for side, flows in enumerate((expected, made))]
        pairs += _pair_names(*left, are_related)
    groups: defaultdict[tuple[object, ...], tuple[list[Flow], list[Flow]]] = defaultdict(lambda: ([], []))
    for side, flows in enumerate((expected, made)):
        for flow in _list_unpaired(flows, pairs, side):
            groups[flow.signature][side].append(flow)
    for before, after in groups.values():
        if len(before) != len(after) or any(len({flow.warp.op for flow in flows}) > 1 for flows in (before, after)):
            return []
        pairs += zip(before, after, strict=True)
    return pairs


def _list_unpaired(flows: Sequence[Flow], pairs: Iterable[FlowPair], side: int) -> list[Flow]:
    taken = {id(pair[side]) for pair in pairs}
    return [flow for flow in flows if id(flow) not in taken]


def _pair_names(
    expected: Sequence[Flow], made: Sequence[Flow], are_related: Callable[[str, str], bool]
) -> list[FlowPair]:
    """Return the pairs of equal heads and sizes whose names are related, and neither's to any other's."""
    related = [(old, new) for old in expected for new in made if are_related(old.name, new.name)]
    olds, news = (Counter(pair[side].name for pair in related) for side in (0, 1))
    return [
        (old, new) for old, new in related if olds[old.name] == news[new.name] == 1 and old.signature == new.signature
    ]


def _are_built_on(first: str, second: str) -> bool:
    shorter, longer = sorted((first, second), key=len)
    return bool(shorter) and (longer == shorter or longer.startswith(f"{shorter}/"))


def _are_siblings(first: str, second: str) -> bool:
    stem = first.rpartition("/")[0]
    return bool(stem) and stem == second.rpartition("/")[0]


def measure_flow_shift(
    expected: Arrays, made: Arrays, pairs: Iterable[FlowPair], size: tuple[int, int]
) -> float | None:
    """Return how far places moved between two runs on one pair, in pixels of a picture of `size` (height, width).

    The largest of all warps, each the mean over its pixels and, by attention, its heads; a pixel of features of a
    quarter of the size counts 4. Clamped as they are sampled, places far outside are no further than the border.
    Infinite where a place or an attention is NaN or infinite; None where there are no pairs or arrays do not fit.
    """
    shifts = [_measure_pair(before, after, expected, made, size) for before, after in pairs]
    known = [shift for shift in shifts if shift is not None]
    return max(known) if known and len(known) == len(shifts) else None


def _measure_pair(before: Flow, after: Flow, expected: Arrays, made: Arrays, size: tuple[int, int]) -> float | None:
    import numpy as np

    old, new = read_places(before, expected), read_places(after, made)
    given = expected.get(before.attention, made.get(after.attention))
    weights = np.ones_like(old[:, :, 0]) if given is None else np.abs(given.astype(np.float64))
    if old.shape != new.shape or weights.shape != old[:, :, 0].shape:
        return None
    if not all(np.isfinite(array).all() for array in (old, new, weights)):
        return np.inf
    sides = _read_size(before.warp.features_shape)
    assert sides is not None
    x, y = np.moveaxis(old - new, 2, 0)
    distances = np.hypot(x * size[1] / sides[1], y * size[0] / sides[0])
    return float((distances * weights).sum() / (weights.sum() or 1))


def read_places(flow: Flow, arrays: Arrays) -> NDArray[np.float64]:
    """Return where a warp sampled in one run: (N, K, 2, H, W), x before y, in pixels of what it samples.

    0 is the centre of the first pixel. Places are clamped where all that lies further out samples the same: at the
    centres of the outer pixels, or, padded with zeros, one pixel further. NaN and infinite values stay.
    """
    import numpy as np

    warp = flow.warp
    features, output = _read_size(warp.features_shape), _read_size(warp.output_shape)
    assert features is not None and output is not None
    sides = np.array(features[::-1], np.float64).reshape(2, 1, 1)
    given = [arrays[name].astype(np.float64) for name in flow.places]
    count = flow.heads // len(given)
    if flow.kernel:
        places = given[0].reshape(-1, count, 2, *output)[:, :, ::-1] + _lay_taps(flow.kernel, output)
    else:
        if not warp.planar:
            given = [np.moveaxis(points.reshape(-1, count, *output, 2), -1, 2) for points in given]
        planes = np.concatenate([each.reshape(-1, count, 2, *output) for each in given], 1)
        places = (planes + 1) / 2 * (sides - 1) if warp.align_corners else ((planes + 1) * sides - 1) / 2
    if warp.padding_mode == "reflection":
        edge = 0.0 if warp.align_corners else 0.5
        period = np.maximum(sides - 1 + 2 * edge, 1)
        places = period - np.abs((places + edge) % (2 * period) - period) - edge
    margin = 1 if warp.padding_mode == "zeros" else 0
    return np.where(np.isfinite(places), np.clip(places, -margin, sides - 1 + margin), places)


def _lay_taps(kernel: Kernel, output: tuple[int, int]) -> NDArray[np.float64]:
    """Return where the taps lie that nothing moves: (K, 2, H, W), x before y, in pixels of the features."""
    import numpy as np

    places = (
        np.arange(side)[:, None] * dilation + np.arange(length) * stride - pad
        for side, dilation, stride, pad, length in zip(
            kernel.sides, kernel.dilations, kernel.strides, kernel.pads, output, strict=False
        )
    )
    rows, columns = places
    x, y = np.broadcast_arrays(columns[None, :, None, :], rows[:, None, :, None])
    taps = np.stack([x, y], 2).reshape(-1, 2, *output)
    return np.tile(taps, (kernel.groups, 1, 1, 1)).astype(np.float64)

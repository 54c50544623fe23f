"""Prove a rewritten place by itself: run what it was and what it is on drawn numbers, grids far outside included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...benchmarks.host import take_reason
from ..onnx_graphs import read_graph, read_shape
from .sites import Site

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

__all__ = ["measure_sites"]

FREE_SIDES = (3, 5, 10, 13)
"""Stand for sides that may vary, by axis, each another: what mixes up axes shows."""

GRID_REACH = 2.5
"""Half of the drawn coordinates lie in [-1, 1], the others in this many times that."""

Arrays = dict[str, "NDArray[np.float32]"]


def measure_sites(before: ModelProto, after: ModelProto, sites: Iterable[Site]) -> dict[str, float | str]:
    """Return for each site the largest difference of what it makes, as a share of its largest value.

    Where that cannot be told, the words why. Neither model is changed.
    """
    shapes = _read_shapes(before)
    return {site.name: _measure_site(before, after, site, shapes) for site in sites}


def _read_shapes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    graph = read_graph(model).graph
    values = (*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs))
    shapes = {str(value.name): read_shape(value) for value in values}
    return {
        name: tuple(side or FREE_SIDES[axis % len(FREE_SIDES)] for axis, side in enumerate(shape))
        for name, shape in shapes.items()
        if shape is not None
    }


def _measure_site(
    before: ModelProto, after: ModelProto, site: Site, shapes: Mapping[str, tuple[int, ...]]
) -> float | str:
    if unknown := [name for name in site.inputs if name not in shapes]:
        return f"the shape of {', '.join(unknown)} is not known"
    feeds = _draw_feeds(site, shapes)
    try:
        expected, made = (_run_site(model, site, feeds) for model in (before, after))
    except Exception as error:  # what a graph without its surroundings makes onnx and onnxruntime raise
        return f"cannot be proved, as it does not run by itself: {take_reason(error)}"
    if expected.shape != made.shape:
        return f"would be of another shape, {made.shape} for {expected.shape}"
    return float(np.abs(expected - made).max(initial=0) / (np.abs(expected).max(initial=0) or 1))


def _draw_feeds(site: Site, shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
    generator = np.random.default_rng(0)
    feeds: Arrays = {}
    for name in site.features:
        feeds[name] = generator.standard_normal(shapes[name], np.float32)
    for name in site.grids:
        places = generator.uniform(-1, 1, shapes[name])
        far = generator.random(shapes[name]) < 0.5
        feeds[name] = np.where(far, places * GRID_REACH, places).astype(np.float32)
    for name in site.attention:
        weights = generator.exponential(size=shapes[name])
        feeds[name] = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return feeds


def _run_site(model: ModelProto, site: Site, feeds: Arrays) -> NDArray[np.float32]:
    """Run the part of the model between the site's inputs and its output."""
    import onnxruntime as ort

    region = _extract(model, {name: array.shape for name, array in feeds.items()}, site.output)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = ort.InferenceSession(region.SerializeToString(), options, providers=["CPUExecutionProvider"])
    made = session.run([site.output], {value.name: feeds[value.name] for value in session.get_inputs()})
    return np.asarray(made[0])


def _extract(model: ModelProto, inputs: Mapping[str, Sequence[int]], output: str) -> ModelProto:
    """Return the part of the model that makes `output` of `inputs`."""
    from onnx import TensorProto, helper
    from onnx.utils import Extractor

    infos = model.graph.value_info
    known = {value.name for value in (*infos, *model.graph.input, *model.graph.output)}
    count = len(infos)
    edges = {name: list(shape) for name, shape in inputs.items()} | {output: None}
    infos.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in edges.items()
        if name not in known
    )
    try:
        return Extractor(model).extract_model(list(inputs), [output])
    finally:
        del infos[count:]

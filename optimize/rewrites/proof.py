"""Prove a rewritten place by itself: run what it was and what it is on drawn numbers, grids far outside included."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..onnx_graphs import read_graph, read_shape
from .sites import Site

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

__all__ = ["measure_sites"]

FREE_SIDE = 10
"""Stands for a height or width that may vary."""

GRID_REACH = 2.5
"""Half of the drawn coordinates lie in [-1, 1], the others in this many times that."""

Arrays = dict[str, "NDArray[np.float32]"]


def measure_sites(before: ModelProto, after: ModelProto, sites: Iterable[Site]) -> dict[str, float]:
    """Return for each site the largest difference of what it makes, as a share of its largest value.

    Infinite for one that does not run, or has another shape. Shapes of values at the edges of sites are noted
    in both models.
    """
    shapes = _read_shapes(before)
    return {site.name: _measure_site(before, after, site, shapes) for site in sites}


def _read_shapes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    graph = read_graph(model).graph
    values = (*graph.inputs, *(value for node in graph for value in node.outputs))
    shapes = {str(value.name): read_shape(value) for value in values}
    return {name: tuple(side or FREE_SIDE for side in shape) for name, shape in shapes.items() if shape is not None}


def _measure_site(before: ModelProto, after: ModelProto, site: Site, shapes: Mapping[str, tuple[int, ...]]) -> float:
    try:
        feeds = _draw_feeds(site, shapes)
        expected, made = (_run_site(model, site, feeds) for model in (before, after))
    except Exception:  # a shape that is not known, or what a graph without its surroundings makes runtimes raise
        return math.inf
    if expected.shape != made.shape or not (np.isfinite(expected).all() and np.isfinite(made).all()):
        return math.inf
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
    from onnx import TensorProto, helper
    from onnx.utils import Extractor

    known = {value.name for value in (*model.graph.value_info, *model.graph.input, *model.graph.output)}
    edges = {name: list(array.shape) for name, array in feeds.items()} | {site.output: None}
    model.graph.value_info.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in edges.items()
        if name not in known
    )
    region = Extractor(model).extract_model(list(feeds), [site.output])
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = ort.InferenceSession(region.SerializeToString(), options, providers=["CPUExecutionProvider"])
    made = session.run([site.output], {value.name: feeds[value.name] for value in session.get_inputs()})
    return np.asarray(made[0])

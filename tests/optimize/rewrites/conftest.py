"""Warps with several heads as ONNX text: features copied or not, places as planes or as points."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import ModelProto

LAYOUTS = ("planes copied", "points copied", "planes stacked", "points stacked")
"""Places (N K, 2, H, W) or as GridSample reads them; features copied once per head, or grids stacked in height."""

COPIED = """
  opened = Unsqueeze (features, one)
  expanded = Expand (opened, spread)
  copies = Reshape (expanded, copied)
  LAY
  [warp] sampled = GridSample <ATTRIBUTES> (copies, grid)
  rows = Reshape (sampled, joined)
  weight = Unsqueeze (attention, two)
  wide = Expand (weight, wider)
  weights = Reshape (wide, joined)
  weighted = Mul (rows, weights)
  apart = Reshape (weighted, split)
  made = ReduceSum <keepdims = 0> (apart, one)"""

STACKED = """
  LAY
  [warp] sampled = GridSample <ATTRIBUTES> (features, grid)
  apart = Reshape (sampled, stacked)
  weight = Unsqueeze (attention, one)
  weighted = Mul (apart, weight)
  made = ReduceSum <keepdims = 0> (weighted, two)"""


def _write(
    features: tuple[int, int, int, int] = (2, 3, 6, 5),
    output: tuple[int, int] = (8, 7),
    *,
    heads: int = 3,
    layout: str = "planes copied",
    attributes: str = 'padding_mode = "border"',
    opset: int = 17,
    dynamic: bool = False,
) -> ModelProto:
    (batch, channels, rows, columns), (height, width) = features, output
    images, free = ("N", -1) if dynamic else (batch, batch)
    stacked = layout.endswith("stacked")
    if layout.startswith("planes"):
        places = f"float[{images},{2 * heads},{height},{width}] offsets"
        lay = "places = Reshape (offsets, planes)\n  turned = Transpose <perm = [0, 2, 3, 1]> (places)\n  "
        lay += "grid = Reshape (turned, tall)" if stacked else "grid = Identity (turned)"
    else:
        places = f"float[{images},{heads * height},{width},2] offsets"
        lay = "grid = Identity (offsets)" if stacked else "grid = Reshape (offsets, points)"
    constants = {
        "one": [1],
        "two": [2],
        "spread": [1, heads, channels, rows, columns],
        "copied": [-1, channels, rows, columns],
        "joined": [free, heads * channels, height, width],
        "wider": [1, heads, channels, height, width],
        "split": [free, heads, channels, height, width],
        "stacked": [free, channels, heads, height, width],
        "planes": [-1, 2, height, width],
        "tall": [free, heads * height, width, 2],
        "points": [-1, height, width, 2],
    }
    made = f"float[{images},{channels},{height},{width}] made"
    body = (STACKED if stacked else COPIED).replace("LAY", lay).replace("ATTRIBUTES", attributes)
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : {opset}]>
    g (float[{images},{channels},{rows},{columns}] features, {places},
       float[{images},{heads},{height},{width}] attention) => ({made}) {{ {body} }}""")
    read = {name for node in model.graph.node for name in node.input}
    for name, sides in constants.items():
        if name in read:
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(sides, np.int64), name))
    onnx.checker.check_model(model, full_check=True)
    return model


def _draw(
    features: tuple[int, int, int, int] = (2, 3, 6, 5),
    output: tuple[int, int] = (8, 7),
    *,
    heads: int = 3,
    layout: str = "planes copied",
    reach: float = 1.5,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    batch, (height, width) = features[0], output
    planes = layout.startswith("planes")
    shape = (batch, 2 * heads, height, width) if planes else (batch, heads * height, width, 2)
    return {
        "features": rng.normal(size=features).astype(np.float32),
        "offsets": rng.uniform(-reach, reach, shape).astype(np.float32),
        "attention": rng.uniform(0, 1, (batch, heads, *output)).astype(np.float32),
    }


@pytest.fixture(scope="session")
def write_heads() -> Callable[..., ModelProto]:
    """(features, output, heads, layout, attributes, opset, dynamic) -> a model of one warp, named `warp`."""
    return _write


@pytest.fixture(scope="session")
def draw_heads() -> Callable[..., dict[str, np.ndarray]]:
    """(features, output, heads, layout, reach, seed) -> what to feed that model."""
    return _draw


@pytest.fixture(scope="session")
def heads_formula(warp_formula: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """(feeds, layout, settings of grid_sample) -> what that model makes."""

    def sample(feeds: dict[str, np.ndarray], layout: str = "planes copied", **settings: object) -> np.ndarray:
        features, places, attention = feeds["features"], feeds["offsets"], feeds["attention"]
        planar = layout.startswith("planes")
        if planar:
            places = places.reshape(-1, 2, *attention.shape[2:])
        return warp_formula(features, places, attention, planar=planar, **settings)

    return sample

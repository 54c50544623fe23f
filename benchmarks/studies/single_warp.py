"""One warp with K heads as a model of its own, and numbers to feed it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...optimize.warp import name_nodes
from .form_group import parse_sides

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["Case", "draw_feeds", "make_plain", "parse_case"]

EXAMPLE = "256x32x24"
SEED = 0
FLOW_PIXELS = 4.0
"""How far a flow leads at most, but for places far outside."""
FAR_SHARE = 0.02
"""The part of the places that lie far outside the features."""


class Case(NamedTuple):
    """Features (1, C, H, W), sampled at K places for each of H x W pixels."""

    channels: int
    height: int
    width: int
    heads: int

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width}"


def parse_case(text: str, heads: int) -> Case:
    """Read CHANNELSxHEIGHTxWIDTH; raises UsageError for anything else."""
    return Case(*parse_sides(text, "warp", EXAMPLE, least=2), heads)


def make_plain(case: Case) -> ModelProto:
    """Return the warp as the public DAFlow code exports it: features and attention copied, padding `border`."""
    import onnx.parser

    channels, height, width, heads = case
    parts = [f"part{head}" for head in range(heads)]
    totals = ["part0", *(f"total{head}" for head in range(1, heads - 1)), "warped"]
    adds = [f"{totals[head]} = Add ({totals[head - 1]}, {parts[head]})" for head in range(1, heads)]
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 16]>
        warp (float[1,{channels},{height},{width}] features, float[{heads},2,{height},{width}] places,
              float[1,{heads},{height},{width}] attention) => (float[1,{channels},{height},{width}] warped)
        <int64[1] one = {{1}}, int64[1] two = {{2}},
         int64[5] per_head = {{1,{heads},1,1,1}}, int64[5] per_channel = {{1,1,{channels},1,1}},
         int64[4] batched = {{-1,{channels},{height},{width}}}, int64[4] joined = {{1,-1,{height},{width}}},
         int64[{heads}] sides = {{{",".join([str(channels)] * heads)}}}>
        {{
            weights = Unsqueeze (attention, two)
            tiled_weights = Tile (weights, per_channel)
            all_weights = Reshape (tiled_weights, joined)
            copies = Unsqueeze (features, one)
            tiled_copies = Tile (copies, per_head)
            all_copies = Reshape (tiled_copies, batched)
            grid = Transpose <perm = [0, 2, 3, 1]> (places)
            sampled = GridSample <mode = "bilinear", padding_mode = "border", align_corners = 0> (all_copies, grid)
            all_sampled = Reshape (sampled, joined)
            weighted = Mul (all_sampled, all_weights)
            {", ".join(parts)} = Split <axis = 1> (weighted, sides)
            {chr(10).join(adds)}
        }}"""
    )
    name_nodes(model)
    return model


def draw_feeds(case: Case) -> dict[str, np.ndarray]:
    """Draw features, attention that adds up to one, and places: smooth flows of a few pixels, some far outside."""
    channels, height, width, heads = case
    generator = np.random.default_rng(SEED)
    y, x = np.mgrid[0:height, 0:width]
    waves, phases = generator.uniform(-2, 2, (2, heads, 2, 1, 1)), generator.uniform(0, 2 * np.pi, (heads, 2, 1, 1))
    flows = FLOW_PIXELS * np.sin(2 * np.pi * (waves[0] * x / width + waves[1] * y / height) + phases)
    sides = np.array([width, height]).reshape(2, 1, 1)
    places = (2 * (np.stack([x, y]) + flows) + 1) / sides - 1
    far = generator.random((heads, 1, height, width)) < FAR_SHARE
    places += far * generator.choice([-3.0, 3.0], places.shape)
    scores = np.exp(generator.standard_normal((1, heads, height, width)))
    return {
        "features": generator.standard_normal((1, channels, height, width), np.float32),
        "places": places.astype(np.float32),
        "attention": (scores / scores.sum(1, keepdims=True)).astype(np.float32),
    }

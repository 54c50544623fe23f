"""Warps in torch as various authors write them, their exports, and the formula that all of them stand for."""

from __future__ import annotations

import contextlib
import functools
import io
import operator
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto

Arrays = dict[str, np.ndarray]

CHANNELS = 4
FEATURES = (8, 9)
OUTPUT = (5, 7)
"""Channels, and height and width of what is sampled and of what is made: no two equal, nor equal to K."""


def _copy_by_repeat_interleave(features: Any, offsets: Any, attention: Any) -> Any:
    """The public code of DAFlow (SDAFN): everything is copied, and Python's sum adds up."""
    import torch
    from torch.nn import functional as F

    (batch, channels, _, _), (_, heads, height, width) = features.shape, attention.shape
    weights = torch.repeat_interleave(attention, channels, 1)
    copies = torch.repeat_interleave(features, heads, 0)
    grids = offsets.reshape(-1, 2, height, width).permute(0, 2, 3, 1)
    sampled = F.grid_sample(copies, grids, mode="bilinear", padding_mode="border", align_corners=False)
    weighted = sampled.reshape(batch, -1, height, width) * weights
    return sum(torch.split(weighted, channels, 1))


def _sample_copies(features: Any, offsets: Any, attention: Any) -> Any:
    """Return (N, K, C, H, W), features copied by expand."""
    from torch.nn import functional as F

    (batch, channels, rows, columns), (_, heads, height, width) = features.shape, attention.shape
    copies = features.unsqueeze(1).expand(-1, heads, -1, -1, -1).reshape(-1, channels, rows, columns)
    grids = offsets.reshape(-1, 2, height, width).permute(0, 2, 3, 1)
    sampled = F.grid_sample(copies, grids, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.view(batch, heads, channels, height, width)


def _copy_by_expand(features: Any, offsets: Any, attention: Any) -> Any:
    (batch, channels, _, _), (_, heads, height, width) = features.shape, attention.shape
    sampled = _sample_copies(features, offsets, attention).reshape(batch, -1, height, width)
    weights = attention.unsqueeze(2).expand(-1, -1, channels, -1, -1).reshape(batch, heads * channels, height, width)
    return functools.reduce(operator.add, (sampled * weights).chunk(heads, 1))


def _copy_by_tile(features: Any, offsets: Any, attention: Any) -> Any:
    """Heads before pictures: the copies of a batch of two lie a b a b, and so must the grids."""
    import torch
    from torch.nn import functional as F

    batch, (heads, height, width) = len(features), attention.shape[1:]
    grids = offsets.reshape(batch, heads, 2, height, width).transpose(0, 1).reshape(-1, 2, height, width)
    sampled = F.grid_sample(
        features.repeat(heads, 1, 1, 1), grids.permute(0, 2, 3, 1), padding_mode="border", align_corners=False
    )
    weights = attention.transpose(0, 1).reshape(-1, 1, height, width)
    return torch.stack((sampled * weights).split(batch, 0)).sum(0)


def _stack_and_sum(features: Any, offsets: Any, attention: Any) -> Any:
    import torch

    weighted = _sample_copies(features, offsets, attention) * attention.unsqueeze(2)
    return torch.stack([weighted[:, head] for head in range(attention.shape[1])], 1).sum(1)


def _weigh_a_view(features: Any, offsets: Any, attention: Any) -> Any:
    return _sample_copies(features, offsets, attention).mul(attention.unsqueeze(2)).sum(1)


def _weigh_by_einsum(features: Any, offsets: Any, attention: Any) -> Any:
    import torch

    return torch.einsum("nkchw,nkhw->nchw", _sample_copies(features, offsets, attention), attention)


def _stack_grids(features: Any, offsets: Any, attention: Any) -> Any:
    """vtopt's own form, which copies nothing."""
    from vtopt.optimize.networks.warping import DeformableAttentionWarp

    height, width = attention.shape[2:]
    return DeformableAttentionWarp()(features, offsets.reshape(-1, 2, height, width), attention)


FORMULATIONS: Mapping[str, Callable[[Any, Any, Any], Any]] = {
    "repeat_interleave": _copy_by_repeat_interleave,
    "expand": _copy_by_expand,
    "tile": _copy_by_tile,
    "stack and sum": _stack_and_sum,
    "view": _weigh_a_view,
    "einsum": _weigh_by_einsum,
    "stacked grids": _stack_grids,
}


@functools.cache
def _export(names: tuple[str, ...], heads: int, batch: int | str, exporter: str, simplified: bool) -> ModelProto:
    """Export one or more formulations, each of features, offsets and attention of its own."""
    import torch
    from torch import nn

    if simplified:
        import onnxsim

        model, valid = onnxsim.simplify(_export(names, heads, batch, exporter, False))
        assert valid
        return model

    class Warps(nn.Module):
        def forward(self, features: Any, offsets: Any, attention: Any) -> Any:
            made = (
                FORMULATIONS[name](features * (1 + index), offsets / (1 + index), attention * (2 + index))
                for index, name in enumerate(names)
            )
            return tuple(made)

    size = 2 if batch == "dynamic" else int(batch)
    shapes = ((size, CHANNELS, *FEATURES), (size, 2 * heads, *OUTPUT), (size, heads, *OUTPUT))
    example = tuple(torch.rand(shape) for shape in shapes)
    inputs = ["features", "offsets", "attention"]
    options: dict[str, Any] = {"opset_version": 18 if exporter == "dynamo" else 16, "input_names": inputs}
    options["output_names"] = [f"made_{index}" for index in range(len(names))]
    if exporter == "dynamo":
        sides = {0: torch.export.Dim("batch", min=1)} if batch == "dynamic" else None
        options |= {"dynamo": True, "verbose": False, "dynamic_shapes": sides and (sides,) * 3}
    else:
        sides = {0: "batch"} if batch == "dynamic" else {}
        options |= {"dynamo": False, "dynamic_axes": dict.fromkeys([*inputs, *options["output_names"]], sides)}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        path = Path(folder) / "warps.onnx"
        torch.onnx.export(Warps().eval(), example, path, **options)
        return onnx.load(path)


@pytest.fixture(scope="session")
def export_warps() -> Callable[..., ModelProto]:
    """(names of formulations, heads, batch, exporter, simplified) -> a copy of a model exported once a session."""

    def export(
        *names: str, heads: int = 3, batch: int | str = 1, exporter: str = "torchscript", simplified: bool = True
    ) -> ModelProto:
        model = ModelProto()
        model.CopyFrom(_export(names, heads, batch, exporter, simplified))
        return model

    return export


@pytest.fixture(scope="session")
def run_model() -> Callable[..., Arrays]:
    """(model, feeds, more values to give back) -> every output, by onnxruntime without its own rewrites."""
    import onnxruntime as ort

    def run(model: ModelProto, feeds: Arrays, more: tuple[str, ...] = ()) -> Arrays:
        if more:
            model = onnx.shape_inference.infer_shapes(model)
            known = {value.name for value in model.graph.output}
            model.graph.output.extend(
                onnx.ValueInfoProto(name=name) for name in dict.fromkeys(more) if name not in known
            )
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_outputs()]
        known_feeds = {value.name: feeds[value.name] for value in session.get_inputs()}
        return dict(zip(names, session.run(names, known_feeds), strict=True))

    return run


@pytest.fixture(scope="session")
def warp_formula() -> Callable[..., np.ndarray]:
    """(features, places, attention or None, whether planar, settings of grid_sample) -> what a warp makes, in float64.

    Places are planes (N K, 2, H, W) or points (N K, H, W, 2), (N, K H, W, 2); heads are sampled one at a time.
    """
    import torch
    from torch.nn import functional as F

    def sample(
        features: np.ndarray,
        places: np.ndarray,
        attention: np.ndarray | None = None,
        *,
        planar: bool = False,
        **settings: Any,
    ) -> np.ndarray:
        points = np.moveaxis(places, 1, -1) if planar else places
        heads = 1 if attention is None else attention.shape[1]
        points = points.reshape(len(features), heads, -1, *points.shape[2:]) if heads > 1 else points[:, None]
        settings = {"mode": "bilinear", "padding_mode": "border", "align_corners": 0} | settings
        settings["align_corners"] = bool(settings["align_corners"])
        made = 0
        for head in range(heads):
            grid = torch.from_numpy(points[:, head].astype(np.float64))
            sampled = F.grid_sample(torch.from_numpy(features.astype(np.float64)), grid, **settings).numpy()
            made = made + (sampled if attention is None else sampled * attention[:, head : head + 1])
        return np.asarray(made)

    return sample

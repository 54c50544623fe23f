"""What pruning saved and cost: parameters, FLOPs, size, and the pictures before and after."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...benchmarks.cost.flops import FLOPS_PER_MAC
from ...benchmarks.engines.engine import infer_picture, open_engine
from ...benchmarks.quality.pictures import PictureScores, compare_pictures, summarize_quality
from ..artifacts import Size
from ..data.pairs import open_pairs
from ..export import make_example
from ..progress import track
from .macs import count_macs

if TYPE_CHECKING:
    from torch import Tensor

    from ..networks import Network

__all__ = ["compare_networks", "count_network", "make_inputs"]

MIB = 2**20
GIGA = 10**9
BYTES = 4
"""Weights are float32."""


def count_network(network: Network) -> dict[str, Any]:
    """Return parameters, GFLOPs of one run (convolutions and linear layers; 1 MAC = 2 FLOPs) and MB of float32."""
    module = network.module
    return {
        "parameters": sum(entry.numel() for entry in module.parameters()),
        "gflops": round(FLOPS_PER_MAC * sum(count_macs(module, make_inputs(network)).values()) / GIGA, 4),
        "size_mb": round(sum(entry.numel() for entry in module.state_dict().values()) * BYTES / MIB, 3),
    }


def make_inputs(network: Network) -> tuple[Tensor, ...]:
    """Return seeded inputs of the network's own size, a batch of one."""
    return make_example(network, Size(*network.size), 1, 0)


def compare_networks(
    source: Path, pruned: Path, *, network: str | None, pairs: Path | None, count: int
) -> dict[str, Any]:
    """Return how far the pictures are from the source's, and both from the truth where pairs have one: medians, dB."""
    before, after = (open_engine(path, network=network) for path in (source, pruned))
    scores: dict[str, dict[str, PictureScores]] = {"psnr_db": {}, "truth_psnr_db": {}, "truth_psnr_db_before": {}}
    opened = open_pairs(pairs, before.size, count)
    for pair in track(opened, "compare pictures", total=len(opened)):
        expected, made = infer_picture(before, pair), infer_picture(after, pair)
        scores["psnr_db"][pair.name] = compare_pictures(made, expected)
        if pair.truth is not None:
            scores["truth_psnr_db"][pair.name] = compare_pictures(made, pair.truth)
            scores["truth_psnr_db_before"][pair.name] = compare_pictures(expected, pair.truth)
    medians = {key: summarize_quality(known).psnr_median for key, known in scores.items() if known}
    return {"compared_pairs": len(opened), **{key: _round_or_none(value) for key, value in medians.items()}}


def _round_or_none(value: float) -> float | None:
    """Return decibels as JSON has them; the PSNR of equal pictures is infinite."""
    return round(value, 2) if math.isfinite(value) else None

"""Networks of two parts that are built in no time: `--network small_parts:build_pfafn`."""

from __future__ import annotations

from typing import Any

from vtopt.optimize.networks import Network, build_network

__all__ = ["build_hrviton", "build_pfafn"]

PFAFN = {"pyramid_widths": (4, 6), "pyramid_dim": 8, "flow_filters": (4,), "generator_widths": (4, 6, 6)}
HRVITON = {"conditions_width": 2, "generator_width": 2, "size": (128, 256), "condition_size": (32, 64)}


def build_pfafn(**settings: Any) -> Network:
    return build_network("pfafn_aligned", PFAFN | settings)


def build_hrviton(**settings: Any) -> Network:
    return build_network("hrviton", HRVITON | settings)

"""Every registered network at widths that run in no time: its settings, and a size that it takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from vtopt.optimize.networks import NETWORKS, Network, build_network

__all__ = ["SMALL", "build_small"]

_SDAFN = {
    "pyramid_widths": (4, 6),
    "pyramid_dim": 8,
    "heads": 2,
    "mfe_filters": (8, 8),
    "self_mfe_kernel": 3,
    "shallow_hidden": 4,
    "shallow_dim": 4,
}
_WARP = {"pyramid_widths": (4, 6), "pyramid_dim": 8, "flow_filters": (4,)}
_COMPLETION = {"first": 4, "most": 8}
_SPADE_SIZE = (128, 256)

_SETTINGS: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "sdafn": (_SDAFN, (64, 48)),
    "completion": (_COMPLETION, (64, 96)),
    "hrviton": (
        {"conditions_width": 4, "generator_width": 2, "size": _SPADE_SIZE, "condition_size": (32, 64)},
        _SPADE_SIZE,
    ),
    "hrviton_tocg": ({"width": 4}, (64, 96)),
    "hrviton_gen": ({"width": 2, "size": _SPADE_SIZE}, _SPADE_SIZE),
    "pfafn": ({**_WARP, "generator_widths": (4, 6, 6)}, (64, 48)),
    "pfafn_warp": (_WARP, (64, 48)),
    "pfafn_gen": ({"generator_widths": (4, 6, 6)}, (64, 48)),
}


def _find_settings(name: str) -> tuple[dict[str, Any], tuple[int, int]]:
    """Return those of the name, else of the longest that it begins with."""
    return _SETTINGS[max((known for known in _SETTINGS if name.startswith(known)), key=len)]


SMALL = {name: _find_settings(name) for name in NETWORKS}
"""Name in the registry -> settings, and height and width."""


def build_small(name: str, seed: int = 0) -> Network:
    settings, size = SMALL[name]
    torch.manual_seed(seed)
    return replace(build_network(name, settings), size=size)

"""The networks vtopt knows by name, and the door for a user's own: package.module:factory."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from ..errors import NetworkError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["NETWORKS", "InputSpec", "Network", "build_network"]

Picture = Literal["person", "clothes", "edge"]


@dataclass(frozen=True)
class InputSpec:
    """One input (N, channels, H, W) of a network, and the picture of a pair that feeds it.

    `picture` defaults to the input's name. A picture with fewer channels than the input is repeated.
    """

    name: str
    channels: int = 3
    picture: Picture | None = None

    @property
    def fed_by(self) -> str:
        return self.picture or self.name


@dataclass(frozen=True)
class Network:
    """A built network with what vtopt must know of it; the first output is the try-on picture."""

    module: nn.Module
    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...] = ("tryon",)
    size: tuple[int, int] = (256, 192)
    multiple_of: int = 1
    config: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""


_SDAFN_WIDTHS = (64, 128, 256, 256, 256)
_TINY = {
    "pyramid_widths": (16, 24, 32, 40),
    "pyramid_dim": 32,
    "heads": 4,
    "mfe_filters": (32, 16, 16),
    "self_mfe_kernel": 3,
    "shallow_hidden": 16,
    "shallow_dim": 16,
}

NETWORKS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "sdafn": ("sdafn:build_sdafn", {}),
    "sdafn_plus_3": ("sdafn:build_sdafn_plus", {"pyramid_widths": _SDAFN_WIDTHS[:3]}),
    "sdafn_plus_4": ("sdafn:build_sdafn_plus", {"pyramid_widths": _SDAFN_WIDTHS[:4]}),
    "sdafn_plus_5": ("sdafn:build_sdafn_plus", {}),
    "sdafn_plus_tiny": ("sdafn:build_sdafn_plus", _TINY),
}
"""Name -> (module:factory inside this package, its settings)."""


def build_network(name: str, config: Mapping[str, Any] | None = None) -> Network:
    """Build a network with random weights, in evaluation mode.

    `name` is a key of `NETWORKS`, or `package.module:factory` for a function that returns a `Network`;
    modules are also looked for in the working folder. `config` overrides the registered settings, for
    instance with the widths found in a file of weights.

    Raises NetworkError for an unknown name, a factory that cannot be imported, or one that returns
    something else.
    """
    factory, settings = _find_factory(name)
    try:
        network = factory(**{**settings, **(config or {})})
    except TypeError as error:
        raise NetworkError(f"network '{name}' cannot be built: {error}") from error
    if not isinstance(network, Network):
        raise NetworkError(
            f"network '{name}': the factory returned {type(network).__name__}; "
            "return vtopt.optimize.networks.Network(module=..., inputs=(...))"
        )
    network.module.eval()
    return replace(network, name=name)


def _find_factory(name: str) -> tuple[Callable[..., Network], Mapping[str, Any]]:
    if name in NETWORKS:
        target, settings = NETWORKS[name]
        module, function = target.split(":")
        return getattr(importlib.import_module(f".{module}", __package__), function), settings
    if ":" not in name:
        raise NetworkError(
            f"network '{name}' is not known; choose one of {', '.join(NETWORKS)}, "
            "or name your own as package.module:factory"
        )
    module, _, function = name.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), function), {}
    except ImportError as error:
        raise NetworkError(f"network '{name}': cannot import {module}: {error}") from error
    except AttributeError as error:
        raise NetworkError(f"network '{name}': {module} has no '{function}'") from error
    finally:
        sys.path.remove(os.getcwd())

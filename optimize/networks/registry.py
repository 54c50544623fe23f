"""The networks vtopt knows by name, and the door for a user's own: package.module:factory."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import NetworkError
from .spectral_norm import FOLDED, fold_network
from .widths import PRUNED, narrow_network

if TYPE_CHECKING:
    from torch import nn

__all__ = ["NETWORKS", "InputSpec", "Network", "build_network", "prefix_parts"]

Picture = Literal[
    "person", "clothes", "edge", "pose", "agnostic", "densepose", "parse_agnostic", "parse",
    "layout", "painted_layout", "representation", "hole", "garments", "z",
]  # fmt: skip


WARPS = "makes the warped garment alone"
DRESSES = "is given the garment laid out in place of the warped one"
"""What `Network.without_truth` says of more than one network."""


@dataclass(frozen=True)
class InputSpec:
    """One input (N, channels, H, W) of a network, and the picture of a pair that feeds it.

    `picture` defaults to the input's name; several are concatenated along the channels, in their order.
    A picture with fewer channels than the input is repeated.
    """

    name: str
    channels: int = 3
    picture: Picture | tuple[Picture, ...] | None = None

    @property
    def fed_by(self) -> str:
        """The picture's name; those of several are joined by +, as in "pose+agnostic"."""
        return "+".join(self.picture) if isinstance(self.picture, tuple) else self.picture or self.name


@dataclass(frozen=True)
class Network:
    """A built network with what vtopt must know of it; the first output is the try-on picture.

    `parts` names what can be pruned by a ratio of its own: part -> the modules that it is made of, by their names.
    Together they have every weight; those of a network inside another are named by `prefix_parts`.
    """

    module: nn.Module
    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...] = ("tryon",)
    size: tuple[int, int] = (256, 192)
    multiple_of: int = 1
    config: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notice: str = ""
    """What is to be known of weights that do not say with which settings they were trained."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Pattern in the names of published weights -> what the network has in its place."""
    without_truth: str = ""
    """Why the truth of a pair does not show what the network's picture is to become; empty where it does."""


def prefix_parts(name: str, parts: Mapping[str, tuple[str, ...]] | None = None) -> dict[str, tuple[str, ...]]:
    """Return the parts of a network that is the module `name` of another: all of it by that name, and NAME.PART."""
    inner = {
        f"{name}.{part}": tuple(f"{name}.{module}" for module in modules) for part, modules in (parts or {}).items()
    }
    return {name: (name,), **inner}


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
    "sdafn_tiny": ("sdafn:build_sdafn", _TINY),
    "completion": ("completion:build_completion", {}),
    "completion_shape": ("completion:build_completion_shape", {}),
    "completion_texture": ("completion:build_completion_texture", {}),
    "hrviton": ("hrviton:build_hrviton", {}),
    "hrviton_tocg": ("hrviton:build_hrviton_tocg", {}),
    "hrviton_gen": ("hrviton:build_hrviton_gen", {}),
    "pfafn": ("pfafn:build_pfafn", {}),
    "pfafn_aligned": ("pfafn:build_pfafn", {"align_corners": True}),
    "pfafn_warp": ("pfafn:build_pfafn_warp", {}),
    "pfafn_warp_aligned": ("pfafn:build_pfafn_warp", {"align_corners": True}),
    "pfafn_gen": ("pfafn:build_pfafn_gen", {}),
}
"""Name -> (module:factory inside this package, its settings)."""


def build_network(name: str, config: Mapping[str, Any] | None = None) -> Network:
    """Build a network with random weights, in evaluation mode.

    `name` is a key of `NETWORKS`, or `package.module:factory` for a function that returns a `Network`;
    modules are also looked for in the working folder. `config` overrides the registered settings, for
    instance with the widths found in a file of weights; those of a pruned network stand under `pruned`, and
    `spectral_norm_folded` gives weights without their spectral norms.

    Raises NetworkError for an unknown name, a factory that cannot be imported, settings that it does not
    take, a factory that returns something else, or pruned shapes with which the network does not run.
    """
    asked = dict(config or {})
    pruned = asked.pop(PRUNED, None)
    folded = asked.pop(FOLDED, False)
    with contextlib.nullcontext() if name in NETWORKS else _working_folder_first():
        factory, settings = _find_factory(name)
        try:
            network = factory(**{**settings, **asked})
        except (ArithmeticError, ImportError, LookupError, RuntimeError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__} {error}" if isinstance(error, LookupError) else error
            raise NetworkError(f"network '{name}' cannot be built: {reason}") from error
    if not isinstance(network, Network):
        raise NetworkError(
            f"network '{name}': the factory returned {type(network).__name__}; "
            "return vtopt.optimize.networks.Network(module=..., inputs=(...))"
        )
    if folded:
        network = fold_network(network)
    if pruned is not None:
        network = narrow_network(network, pruned)
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
    try:
        imported = importlib.import_module(module)
    except Exception as error:  # the user's own code, which may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise NetworkError(f"network '{name}': cannot import {module}: {reason}") from error
    factory: Callable[..., Network] | None = getattr(imported, function, None)
    if not callable(factory):
        raise NetworkError(f"network '{name}': {module} has no function '{function}'")
    return factory, {}


@contextlib.contextmanager
def _working_folder_first() -> Iterator[None]:
    """Let imports find modules in the working folder, as `python -m` does."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # a module may have taken the entry away itself
            sys.path.remove(folder)

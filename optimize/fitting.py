"""Whether weights fit a network, told from names and shapes alone, and which registered networks they do fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from .errors import NetworkError
from .networks import NETWORKS, build_network
from .networks.names import rename_entries

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["find_networks", "summarize_misfit", "summarize_names"]

SHOWN_NAMES = 5


def summarize_misfit(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str:
    """Return every name that is missing, unexpected or of another shape; empty for weights that fit.

    Counters of batches may be missing: old versions of torch had none.
    """
    missing = [name for name in expected if name not in weights and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in weights if name not in expected]
    reshaped = [
        f"{name} {list(weights[name].shape)} (the network has {list(tensor.shape)})"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    return "; ".join(
        f"{label}: {summarize_names(names)}"
        for label, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
        if names
    )


def summarize_names(names: Sequence[str]) -> str:
    """Return the first of the names, and how many more there are."""
    shown = ", ".join(names[:SHOWN_NAMES])
    return shown if len(names) <= SHOWN_NAMES else f"{shown} and {len(names) - SHOWN_NAMES} more"


def find_networks(weights: Mapping[str, Tensor]) -> list[str]:
    """Return the registered networks that the weights fit, each as it is registered."""
    return [name for name in NETWORKS if _fits(weights, name)]


def _fits(weights: Mapping[str, Tensor], name: str) -> bool:
    known = _outline_network(name)
    try:
        return not summarize_misfit(known.expected, rename_entries(weights, known.aliases))
    except NetworkError:  # two names become one of this network's
        return False


class _Outline(NamedTuple):
    """A network's tensors without values, and the names that others have for them."""

    expected: Mapping[str, Tensor]
    aliases: Mapping[str, str]


@cache
def _outline_network(name: str) -> _Outline:
    """Build a registered network on torch's meta device, where tensors have shapes and no values.

    First values are not drawn: without values that would do nothing, slowly.
    """
    import torch
    from torch.nn import functional
    from torch.overrides import TorchFunctionMode

    class KeepValues(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            if func in {functional.normalize, torch.Tensor.normal_}:
                return args[0]
            return kwargs["tensor"] if getattr(func, "__module__", "") == "torch.nn.init" else func(*args, **kwargs)

    with torch.device("meta"), KeepValues():
        network = build_network(name)
    return _Outline(network.module.state_dict(), network.aliases)

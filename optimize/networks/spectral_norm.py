"""Spectral normalisation, folded: a weight that was divided by its largest singular value at every call, divided once.

Method: Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018
(https://arxiv.org/abs/1802.05957). In evaluation the quotient is a constant, and neither exporters nor pruning should
see more than that.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from .registry import Network

__all__ = ["FOLDED", "fold_network", "fold_spectral_norm"]

FOLDED = "spectral_norm_folded"
"""The entry of a network's configuration: true where its weights are the quotients."""


def fold_network(network: Network) -> Network:
    """Fold the network's spectral norms in place, and return it with a configuration that says so.

    A network that has none is returned as it is.
    """
    folded = fold_spectral_norm(network.module)
    return replace(network, config={**network.config, FOLDED: True}) if folded else network


def fold_spectral_norm(module: nn.Module) -> list[str]:
    """Give every spectrally normalised weight the value that it has in evaluation, in place.

    The entries `weight_orig`, `weight_u` and `weight_v` of the state dict, and those of torch's parametrization, become
    one `weight`, a parameter; outputs in evaluation stay the same bits. Returns the names of the layers.
    """
    return [name for name, layer in list(module.named_modules()) if _fold_hooks(layer) + _fold_parametrizations(layer)]


def _fold_hooks(layer: nn.Module) -> int:
    from torch.nn.utils.spectral_norm import SpectralNorm, SpectralNormLoadStateDictPreHook, remove_spectral_norm

    hooks = [hook for hook in layer._forward_pre_hooks.values() if isinstance(hook, SpectralNorm)]
    for hook in hooks:
        remove_spectral_norm(layer, hook.name)
    # Torch forgets the one that asks for weight_orig when weights are loaded: it is wrapped.
    for key, hook in list(layer._load_state_dict_pre_hooks.items()):
        if isinstance(getattr(hook, "hook", hook), SpectralNormLoadStateDictPreHook):
            del layer._load_state_dict_pre_hooks[key]
    return len(hooks)


def _fold_parametrizations(layer: nn.Module) -> int:
    from torch.nn.utils import parametrize
    from torch.nn.utils.parametrizations import _SpectralNorm

    if not parametrize.is_parametrized(layer):
        return 0
    names = [
        name
        for name, steps in layer.parametrizations.items()  # type: ignore[union-attr]
        if any(isinstance(step, _SpectralNorm) for step in steps)
    ]
    for name in names:
        layer.parametrizations[name].eval()  # type: ignore[index]  # in training, to look at the weight changes it
        parametrize.remove_parametrizations(layer, name)
    return len(names)

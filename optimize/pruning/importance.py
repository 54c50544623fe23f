"""How much a channel matters: by its weights, by its batch-norm, or by what the pictures lose with it.

Torch-Pruning's scores over a group of channels (https://github.com/VainF/Torch-Pruning); the gradients that two of
them need are measured here, on pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from ..errors import UsageError
from ..nested import list_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .groups import Score

__all__ = ["GRADIENT_BASED", "Importance", "Sample", "make_score"]

Importance = Literal["magnitude", "batch-norm", "taylor", "hessian"]

GRADIENT_BASED = frozenset[Importance]({"taylor", "hessian"})

Sample = tuple[tuple["Tensor", ...], "Tensor | None"]
"""The inputs of one pair, and its truth (1, 3, H, W) where it has one."""


def make_score(importance: Importance, module: nn.Module, samples: Sequence[Sample], *, seed: int) -> Score:
    """Return the score of a channel group.

    - magnitude: the L2 norm of its weights (Li et al., "Pruning Filters for Efficient ConvNets", 2017);
    - batch-norm: the scales of its batch-norms (Liu et al., "Network Slimming", 2017); None for a group without;
    - taylor: |weight x gradient| of the distance to the truth (Molchanov et al., 2019);
    - hessian: weight squared x gradient squared, for the diagonal of the Hessian (LeCun et al., "Optimal Brain
      Damage", 1990). The gradient is that of the distance to the truth (so its square is the empirical Fisher);
      where a pair has no truth, that of the picture in a random direction (so it is that of Gauss-Newton).

    Raises UsageError for taylor where a pair has no truth: to its own picture a network has no distance. And for
    batch-norm where the network has none with scales.
    """
    import torch_pruning as tp
    from torch import nn

    if importance == "magnitude":
        return tp.importance.MagnitudeImportance(p=2)
    if importance == "batch-norm":
        if not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.affine for layer in module.modules()):
            raise UsageError(
                "prune: --importance batch-norm: the network has no batch-norms with scales; take magnitude"
            )
        return tp.importance.BNScaleImportance()
    if importance == "taylor" and any(truth is None for _, truth in samples):
        raise UsageError(
            "prune: --importance taylor needs the truth of every pair (test_truth/); take hessian, which needs none"
        )
    score: Any = tp.importance.TaylorImportance() if importance == "taylor" else tp.importance.HessianImportance()
    _measure_gradients(module, samples, score if importance == "hessian" else None, seed)
    return score


def _measure_gradients(module: nn.Module, samples: Sequence[Sample], squares: Any, seed: int) -> None:
    """Leave the sum of the samples' gradients in the module; `squares` gets each one to add its square."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    asked = {entry: entry.requires_grad for entry in module.parameters()}
    for entry in asked:
        entry.requires_grad_(True)
    module.zero_grad()
    for inputs, truth in samples:
        if squares is not None:
            module.zero_grad()
        picture = list_tensors(module(*inputs))[0]
        if truth is None:
            signs = torch.randint(0, 2, picture.shape, generator=generator, dtype=picture.dtype) * 2 - 1
            loss = (picture * signs).sum() / picture.numel() ** 0.5
        else:
            loss = (picture - truth).abs().mean()
        loss.backward()
        _fill_gradients(module)
        if squares is not None:
            squares.accumulate_grad(module)
    for entry, before in asked.items():
        entry.requires_grad_(before)


def _fill_gradients(module: nn.Module) -> None:
    """Give a gradient of 0 to what the picture does not depend on."""
    import torch

    for entry in module.parameters():
        if entry.grad is None:
            entry.grad = torch.zeros_like(entry)

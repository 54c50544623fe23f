"""Make `repeat_interleave` exportable: while a network is traced, every call becomes expand or index_select.

Exporters turn some forms of it into wrong or unloadable graphs (a tensor of repeats has no static output
size). The repeats are in practice constants of the network, so they are read once from an ordinary run and
held fixed while tracing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["exportable_repeat_interleave"]

Repeats = int | tuple[int, ...]


@contextmanager
def exportable_repeat_interleave(module: nn.Module, examples: Sequence[tuple[Tensor, ...]]) -> Iterator[None]:
    """Within this context, `module` can be traced: its calls of repeat_interleave are rewritten.

    `examples` are inputs on which the network is run first, in order to learn the repeats of every call.
    Raises InputError when they differ between examples: then they depend on the input, and no graph of
    fixed shapes can hold them.
    """
    runs = [_record_repeats(module, example) for example in examples]
    if any(run != runs[0] for run in runs):
        raise InputError(
            "repeat_interleave is called with repeats that depend on the input; "
            "the exported graph would be wrong for other inputs: make them constant in the network"
        )
    calls = iter(runs[0] if runs else [])

    def replay(x: Tensor, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None) -> Tensor:
        # `torch.export` may trace the network more than once; a fresh pass begins at the first call again.
        nonlocal calls
        known = next(calls, None)
        if known is None:
            calls = iter(runs[0])
            known = next(calls)
        return _repeat_constant(x, known, dim, indices_only=repeats is None)

    with _patched(replay):
        yield


def _record_repeats(module: nn.Module, example: tuple[Tensor, ...]) -> list[Repeats]:
    import torch

    seen: list[Repeats] = []
    original = torch.repeat_interleave

    def record(x: Tensor, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None) -> Tensor:
        given = x if repeats is None else repeats
        seen.append(_to_constant(given))
        return original(x) if repeats is None else original(x, repeats, dim, output_size=output_size)

    with _patched(record), torch.inference_mode():
        module(*example)
    return seen


def _to_constant(repeats: Any) -> Repeats:
    if isinstance(repeats, int):
        return repeats
    values = tuple(int(value) for value in repeats.reshape(-1).tolist())
    return values if repeats.dim() else values[0]


@contextmanager
def _patched(function: Any) -> Iterator[None]:
    """Put `function` in the place of torch.repeat_interleave and Tensor.repeat_interleave."""
    import torch

    before = torch.repeat_interleave, torch.Tensor.repeat_interleave
    torch.repeat_interleave = function
    torch.Tensor.repeat_interleave = function  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.repeat_interleave, torch.Tensor.repeat_interleave = before  # type: ignore[method-assign]


def _repeat_constant(x: Tensor, repeats: Repeats, dim: int | None, *, indices_only: bool) -> Tensor:
    import torch

    if indices_only:
        counts = (repeats,) if isinstance(repeats, int) else repeats
        return torch.tensor(_list_indices(counts), device=x.device)
    if dim is None:
        x, dim = x.reshape(-1), 0
    dim = dim % x.dim()
    if not isinstance(repeats, int) and len(set(repeats)) == 1:
        repeats = repeats[0]
    if isinstance(repeats, int):
        shape = list(x.shape)
        spread = x.unsqueeze(dim + 1).expand(*shape[: dim + 1], repeats, *shape[dim + 1 :])
        return spread.flatten(dim, dim + 1)
    return x.index_select(dim, torch.tensor(_list_indices(repeats), device=x.device))


def _list_indices(counts: Sequence[int]) -> list[int]:
    return [index for index, count in enumerate(counts) for _ in range(count)]

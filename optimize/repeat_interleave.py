"""Make `repeat_interleave` exportable: while a network is traced, every call becomes expand or index_select.

Exporters turn some forms of it into wrong or unloadable graphs (a tensor of repeats has no static output
size). The repeats are in practice constants of the network, so they are read once from ordinary runs and
held fixed while tracing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .errors import InputError

__all__ = ["exportable_repeat_interleave"]

FUNCTIONS = (torch.repeat_interleave, torch.Tensor.repeat_interleave)
ALIASES = {"x": "input", "a": "input", "x1": "input", "axis": "dim"}
"""Names that torch takes as well, for NumPy's sake."""


class _Call(NamedTuple):
    """One call; `x` is None in the form that has repeats alone and returns indices."""

    x: Tensor | None
    repeats: Any
    dim: int | None


class _Repeats(NamedTuple):
    """The repeats of one call as an ordinary run had them."""

    values: tuple[int, ...]
    in_tensor: bool


@contextmanager
def exportable_repeat_interleave(module: nn.Module, examples: Sequence[tuple[Tensor, ...]]) -> Iterator[None]:
    """Within this context, `module` can be traced: its calls of repeat_interleave are rewritten.

    `examples` are inputs of one shape on which the network is run first, to learn the repeats of every
    call. Integers are taken from the trace itself, so that a size may stay dynamic; tensors are not, for a
    trace does not know their values.

    Raises InputError when the repeats differ between examples: then they depend on what is in the input,
    and no graph of fixed shapes can hold them.
    """
    runs = [_record(module, example) for example in examples]
    if any(run != runs[0] for run in runs):
        raise InputError(
            "repeat_interleave is called with repeats that depend on the input; "
            "the exported graph would be wrong for other inputs: make them constant in the network"
        )
    position = 0

    def rewind(*_: Any) -> None:
        nonlocal position
        position = 0

    def replay(call: _Call, _: Callable[[], Tensor]) -> Tensor:
        nonlocal position
        if position == len(runs[0]):
            raise InputError(
                "the network calls repeat_interleave more often while it is traced than in an ordinary run; "
                "call it the same number of times in both"
            )
        known = runs[0][position]
        position += 1
        return _repeat(call, known)

    # An exporter that fails tries again in another way: every pass begins at the first call.
    hook = module.register_forward_pre_hook(rewind)
    try:
        with _Intercept(replay):
            yield
    finally:
        hook.remove()


class _Intercept(TorchFunctionMode):
    """Hands every call of repeat_interleave to `answer`, whatever name the network has for the function."""

    def __init__(self, answer: Callable[[_Call, Callable[[], Tensor]], Tensor]) -> None:
        super().__init__()
        self._answer = answer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in FUNCTIONS:
            return func(*args, **kwargs)
        return self._answer(_read_call(args, kwargs), lambda: func(*args, **kwargs))


def _read_call(args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Call:
    given = dict(zip(("input", "repeats", "dim"), args, strict=False))
    given |= {ALIASES.get(name, name): value for name, value in kwargs.items()}
    if "repeats" not in given:
        return _Call(None, given["input"], None)
    return _Call(given.get("input"), given["repeats"], given.get("dim"))


def _record(module: nn.Module, example: tuple[Tensor, ...]) -> list[_Repeats]:
    seen: list[_Repeats] = []

    def record(call: _Call, run: Callable[[], Tensor]) -> Tensor:
        in_tensor = isinstance(call.repeats, Tensor)
        values = call.repeats.reshape(-1).tolist() if in_tensor else [call.repeats]
        seen.append(_Repeats(tuple(int(value) for value in values), in_tensor))
        return run()

    # Not inference_mode: a network may keep a tensor that it makes here for the trace.
    with _Intercept(record), torch.no_grad():
        module(*example)
    return seen


def _repeat(call: _Call, known: _Repeats) -> Tensor:
    if call.x is None:
        return _list_indices(known.values, call.repeats.device)
    x, dim = call.x, call.dim
    if dim is None or x.dim() == 0:
        x, dim = x.reshape(-1), 0
    dim = dim % x.dim()
    if len(set(known.values)) == 1:
        repeats = known.values[0] if known.in_tensor else call.repeats
        spread = [-1] * x.dim()
        return x.unsqueeze(dim + 1).expand(*spread[: dim + 1], repeats, *spread[dim + 1 :]).flatten(dim, dim + 1)
    return x.index_select(dim, _list_indices(known.values, x.device))


def _list_indices(counts: Sequence[int], device: torch.device) -> Tensor:
    indices = [index for index, count in enumerate(counts) for _ in range(count)]
    return torch.tensor(indices, dtype=torch.int64, device=device)

"""Tensors in nested tuples, lists, dicts and dataclasses, as code passes them around."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, cast

from torch import Tensor

__all__ = ["list_tensors", "map_tensors"]


def list_tensors(value: Any) -> list[Tensor]:
    """Return the tensors in `value`, in their order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, entry.name) for entry in fields(value)]
    if isinstance(value, list | tuple):
        return [tensor for entry in value for tensor in list_tensors(entry)]
    return []


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return `value` with other tensors; what is no tuple, list or dict stays as it is."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: map_tensors(entry, change) for key, entry in value.items()}
    if isinstance(value, tuple) and type(value) is not tuple:
        entries = [map_tensors(entry, change) for entry in value]
        return cast(Any, type(value))(*entries) if hasattr(value, "_fields") else cast(Any, type(value))(entries)
    if isinstance(value, list | tuple):
        return cast(Any, type(value))(map_tensors(entry, change) for entry in value)
    return value

"""Training checkpoints: read without running code from them, and the weights found inside.

A checkpoint is a pickle, and a pickle may ask for any function to be called. Only tensors and plain
containers are rebuilt; a few objects that training leaves beside the weights become empty placeholders,
and everything else is refused by name.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from .artifacts import detect_kind
from .errors import InputError, NetworkError
from .networks import NETWORKS, build_network
from .provenance import Metadata
from .weights import describe_network, load_weights

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Selection", "read_checkpoint", "select_weights"]

INERT_GLOBALS = (
    "argparse.Namespace",
    "types.SimpleNamespace",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"{module}.{system}Path" for module in ("pathlib", "pathlib._local") for system in ("Posix", "Windows")),
)
"""What a pickle may name although it is no weight. None of it is called, `_Placeholder` is: numpy's own
functions, given a crafted dtype, read memory at any address."""

MAX_DEPTH = 3
COMPILED = "_orig_mod."
WRAPPERS = {"module.", "_forward_module."}
AVERAGE_COUNTER = "n_averaged"
RESAVE = "where it was made, save the weights alone: torch.save(net.state_dict(), 'weights.pth')"

_BOOKKEEPING = re.compile(r"optim|sched|(?<![a-z])scaler|Scaler")
_AVERAGED = re.compile(r"(?<![a-z])ema(?![a-z])|Ema(?![a-z])|EMA|shadow|averaged")


class _Placeholder:
    """Takes any arguments and any state, and keeps none."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def read_checkpoint(path: Path) -> Any:
    """Return what a checkpoint or a .safetensors file holds, on the CPU, without running code from it.

    Raises InputError for a file that is damaged, of another kind, or that needs code to be read.
    """
    kind = detect_kind(path)
    if kind == "weights":
        return load_weights(path)[0]
    if kind != "checkpoint":
        raise InputError(f"{path}: is no checkpoint but {kind}; give the file that training saved")
    import torch
    from torch.serialization import safe_globals

    with warnings.catch_warnings(), safe_globals([(_Placeholder, name) for name in INERT_GLOBALS]):
        warnings.simplefilter("ignore")
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except Exception as error:  # a damaged file may raise anything, KeyError and struct.error included
            raise InputError(f"{path}: {_explain(path, error)}") from error


def _explain(path: Path, error: Exception) -> str:
    if refused := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return f"reading it needs {refused[1]}, and vtopt never runs code from a file; {RESAVE}"
    if "TorchScript archive" in str(error):
        return f"is a TorchScript program, not a checkpoint; {RESAVE}"
    with path.open("rb") as stream:
        head = stream.read(16)
    if head.startswith((b"PK", b"\x80")):
        return "is damaged, cut short, or not written by torch.save; copy it or save it again"
    return f"is not a PyTorch checkpoint (it begins with {head!r}); was it downloaded completely?"


@dataclass(frozen=True)
class Selection:
    """The weights of a checkpoint, and what was left behind."""

    weights: dict[str, Tensor]
    metadata: Metadata
    source: str
    """The dotted path to them inside the checkpoint; empty at the top level."""
    kept: int
    dropped: tuple[str, ...]
    notices: tuple[str, ...]


class _StateDict(NamedTuple):
    """One set of weights in a checkpoint, `prefixes` removed from its names."""

    where: str
    tensors: dict[str, Tensor]
    prefixes: tuple[str, ...] = ()

    @property
    def averaged(self) -> bool:
        return bool(_AVERAGED.search(self.where))

    def __str__(self) -> str:
        return _describe(self.where or "the top level", self.tensors)


def select_weights(checkpoint: Any, path: Path, *, key: str | None = None, network: str | None = None) -> Selection:
    """Find the weights in what `read_checkpoint` returned, and leave everything else behind.

    Averaged weights (EMA) are preferred; what they lack, such as BatchNorm statistics, is taken from the
    raw weights. Names lose `module.`, `_orig_mod.` and `_forward_module.`. Every tensor is a copy of its
    own, so tied weights and views can be written.

    `key` is the dotted path of the weights to take. The network that the checkpoint names is believed when
    it is a registered one or the `network` that the user named: no file chooses which module is imported.

    Raises InputError when there are no weights, or several and no `key`; NetworkError when the
    checkpoint's network cannot be built.
    """
    root: Mapping[Any, Any] = checkpoint if isinstance(checkpoint, Mapping) else {}
    found = [_free_names(where, tensors, path) for where, tensors in _find_state_dicts(root)]
    chosen = _choose(found, path, key)
    notices = [f"removed '{prefix}' from the names" for prefix in chosen.prefixes]
    tensors = dict(chosen.tensors)
    if raw := _find_raw(found, chosen):
        lacking = [name for name in raw.tensors if name not in tensors]
        tensors |= {name: raw.tensors[name] for name in lacking}
        if key is None:
            notices.append(f"took the averaged weights '{chosen.where}'; --key '{raw.where}' takes the raw ones")
        if lacking:
            notices.append(f"{len(lacking)} tensors that it lacks, as {lacking[0]}, come from '{raw.where}'")
    metadata, doubts = _read_network(root, path, network)
    used = ("network", "config") if metadata else ()
    return Selection(
        weights={name: _copy(name, tensor, path) for name, tensor in tensors.items()},
        metadata=metadata,
        source=chosen.where,
        kept=len(tensors),
        dropped=tuple(_list_dropped({k: v for k, v in root.items() if k not in used}, chosen.where)),
        notices=(*notices, *doubts),
    )


def _find_state_dicts(node: Mapping[Any, Any], here: str = "", depth: int = 0) -> list[tuple[str, dict[str, Tensor]]]:
    """Return every mapping, down to MAX_DEPTH, that holds mostly tensors and is no optimizer's state."""
    named = {key: value for key, value in node.items() if isinstance(key, str)}
    own = {key: value for key, value in named.items() if _is_tensor(value)}
    below: list[tuple[str, dict[str, Tensor]]] = []
    for key, value in named.items():
        if isinstance(value, Mapping) and depth < MAX_DEPTH and not _BOOKKEEPING.search(key):
            below += _find_state_dicts(value, _join(here, key), depth + 1)
    others = len(node) - len(own) + sum(len(tensors) for _, tensors in below)
    is_weights = len(own) >= others and any(tensor.dim() for tensor in own.values())  # losses are scalars
    return [(here, own), *below] if is_weights else below


def _free_names(where: str, tensors: Mapping[str, Tensor], path: Path) -> _StateDict:
    """Remove what DataParallel, AveragedModel, torch.compile and Fabric put before names, in any order."""
    kept = [name for name in tensors if name != AVERAGE_COUNTER]
    names = [name.replace(COMPILED, "") for name in kept]
    prefixes = [COMPILED] if names != kept else []
    while len(firsts := {name[: name.find(".") + 1] for name in names}) == 1 and firsts <= WRAPPERS:
        prefixes.append(firsts.pop())
        names = [name.removeprefix(prefixes[-1]) for name in names]
    freed = {name: tensors[old] for name, old in zip(names, kept, strict=True)}
    if len(freed) < len(kept):
        raise InputError(f"{path}: '{where}' has the same names with and without {COMPILED}; save it again")
    return _StateDict(where, freed, tuple(prefixes))


def _choose(found: list[_StateDict], path: Path, key: str | None) -> _StateDict:
    pool = found if key is None else [one for one in found if one.where == key]
    pool = pool or [one for one in found if one.where.startswith(f"{key}.")]
    averaged = [one for one in pool if _find_raw(pool, one)]
    if len(pool) == 1 or (len(pool) == 2 and len(averaged) == 1):
        return (averaged or pool)[0]
    listed = ", ".join(str(one) for one in found)
    if not found:
        raise InputError(f"{path}: holds no named weights; {RESAVE}")
    if not pool:
        raise InputError(f"{path}: holds no weights at '{key}'; choose one with vtopt strip --key: {listed}")
    raise InputError(f"{path}: holds several sets of weights; choose one with vtopt strip --key: {listed}")


def _find_raw(found: list[_StateDict], chosen: _StateDict) -> _StateDict | None:
    """Return the weights of which `chosen` is the average."""
    raw = (one for one in found if not one.averaged and one.tensors.keys() >= chosen.tensors.keys())
    return next(raw, None) if chosen.averaged else None


def _read_network(root: Mapping[Any, Any], path: Path, network: str | None) -> tuple[Metadata, tuple[str, ...]]:
    name, config = root.get("network"), root.get("config")
    if not isinstance(name, str) or not isinstance(config, Mapping):
        return {}, ()
    if name not in NETWORKS and name != network:
        return {}, (f"the file names its network '{name}'; vtopt has none of that name and did not build it",)
    try:
        return describe_network(name, build_network(name, config)), ()
    except (ArithmeticError, LookupError, NetworkError, RuntimeError, TypeError, ValueError) as error:
        raise NetworkError(f"{path}: its network cannot be built as the file says: {error}") from error


def _copy(name: str, tensor: Tensor, path: Path) -> Tensor:
    import torch

    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise InputError(f"{path}: {name} is sparse, quantized or without values; {RESAVE}")
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def _list_dropped(node: Mapping[Any, Any], chosen: str, here: str = "") -> Iterator[str]:
    for key, value in node.items():
        where = _join(here, key)
        if isinstance(value, Mapping) and f"{chosen}.".startswith(f"{where}."):
            yield from _list_dropped(value, chosen, where)
        elif here != chosen or key == AVERAGE_COUNTER or not _is_tensor(value):
            yield _describe(where, value)


def _describe(where: str, value: object) -> str:
    size = _count_bytes(value)
    if not size:
        return where
    return f"{where} ({size / 1e6:.1f} MB)" if size >= 1e5 else f"{where} ({size / 1e3:.1f} kB)"


def _count_bytes(value: object) -> int:
    """Return the bytes of all tensors inside; what occurs twice, or holds itself, counts once."""
    pending, seen = [value], dict[int, object]()
    while pending:
        item = pending.pop()
        if isinstance(item, Mapping) and id(item) not in seen:
            pending += item.values()
        elif isinstance(item, list | tuple) and id(item) not in seen:
            pending += item
        seen[id(item)] = item
    return sum(item.numel() * item.element_size() for item in seen.values() if _is_tensor(item))


def _join(here: str, key: object) -> str:
    return f"{here}.{key}" if here else str(key)


def _is_tensor(value: object) -> TypeGuard[Tensor]:
    from torch import Tensor

    return isinstance(value, Tensor)

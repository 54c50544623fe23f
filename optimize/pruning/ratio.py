"""Pruning ratios as they are written: 0.4, encoder=0.4,decoder=0.25, or both, and counts such as 1.5G."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from ..errors import UsageError

if TYPE_CHECKING:
    from ..networks import Network

__all__ = ["PruningRatio", "find_ratio", "list_empty_parts", "parse_count", "parse_ratio", "resolve_ratio"]

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True)
class PruningRatio:
    """Part of the network -> the share of its channels to remove; the part "" is all that no other names."""

    parts: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        return ",".join(f"{part}={ratio:g}" if part else f"{ratio:g}" for part, ratio in self.parts)


def parse_ratio(text: str) -> PruningRatio:
    """Read ratios, each above 0 and below 1; a part may also have 0, and stays whole then.

    Raises typer.BadParameter (a usage error) for anything else.
    """
    parts: dict[str, float] = {}
    for entry in str(text).split(","):
        part, equals, number = (word.strip() for word in entry.rpartition("="))
        if part in parts or (equals and not part):
            raise typer.BadParameter(f"'{text}': {f'{part} is there twice' if part in parts else 'names no part'}")
        parts[part] = _read_ratio(number, text, whole=not part)
    if not any(parts.values()):
        raise typer.BadParameter(f"'{text}' removes nothing; give a ratio above 0")
    return PruningRatio(tuple(parts.items()))


def _read_ratio(number: str, text: str, *, whole: bool) -> float:
    try:
        ratio = float(number)
    except ValueError:
        ratio = math.nan
    if math.isnan(ratio):
        raise typer.BadParameter(f"'{text}' is no ratio; write 0.4, or encoder=0.4,decoder=0.25")
    if ratio == 0 and whole:
        raise typer.BadParameter("a ratio of 0 removes nothing; give one above 0, the unpruned network you have")
    if ratio >= 1:
        raise typer.BadParameter(f"a ratio of {ratio:g} removes every channel; give one below 1")
    if ratio < 0:
        raise typer.BadParameter(f"a ratio of {ratio:g} would add channels; give one between 0 and 1")
    return ratio


def parse_count(text: str) -> int:
    """Read a number such as 40G, 750M or 40000000000; raises typer.BadParameter for anything else."""
    written = str(text).strip().upper()
    unit = written[-1:] if written[-1:] in UNITS else ""
    try:
        count = float(written.removesuffix(unit)) * UNITS[unit]
    except ValueError:
        count = math.nan
    if not (math.isfinite(count) and count >= 1):
        raise typer.BadParameter(f"'{text}' is no number of multiply-adds; write 40G, 750M or the whole number")
    return round(count)


def resolve_ratio(ratio: PruningRatio, network: Network) -> Mapping[str, float]:
    """Return module -> ratio, for the parts that the network declares and for modules by name; "" is all others.

    Where one module lies in another, `find_ratio` takes the inner one's ratio.

    Raises UsageError for a part that is neither, and for a module that two of the parts are made of.
    """
    resolved: dict[str, float] = {}
    names = [name for name, _ in network.module.named_modules() if name]
    for part, share in ratio.parts:
        starts = network.parts.get(part, (part,))
        for start in starts:
            if not any(_lies_in(name, start) for name in names):
                known = dict.fromkeys([*network.parts, *(name.partition(".")[0] for name in names)])
                raise UsageError(f"prune: the network has no part '{part}'; it has {', '.join(known)}")
            if start in resolved:
                raise UsageError(f"prune: '{start}' lies in part '{part}' and in another of --ratio; name it in one")
            resolved[start] = share
    return resolved


def list_empty_parts(ratio: PruningRatio, network: Network, layers: Iterable[str]) -> list[str]:
    """Return the parts that were to lose channels and have none of these layers, whose channels can be removed."""
    layers = list(layers)
    return [
        part
        for part, share in ratio.parts
        if share and not any(_lies_in(layer, start) for start in network.parts.get(part, (part,)) for layer in layers)
    ]


def find_ratio(layer: str, ratios: Mapping[str, float]) -> float:
    """Return the ratio of the innermost of these modules that the layer lies in, 0 where it lies in none."""
    return ratios[max(around, key=len)] if (around := [part for part in ratios if _lies_in(layer, part)]) else 0.0


def _lies_in(layer: str, part: str) -> bool:
    return not part or layer == part or layer.startswith(f"{part}.")

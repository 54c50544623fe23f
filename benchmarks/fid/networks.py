"""The networks whose features picture sets are compared by: Inception from a file, or the random one without any."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...optimize.artifacts import detect_kind, hash_artifact
from ...optimize.checkpoint import read_checkpoint
from ...optimize.errors import InputError
from ...optimize.fitting import summarize_misfit
from ...optimize.weights import require_finite
from ..fid import inception, random_network
from .published import PUBLISHED

__all__ = ["FeatureNetwork", "open_network"]


@dataclass(frozen=True)
class FeatureNetwork:
    """A network that turns pictures to features, and what a distance on them may be called."""

    name: str
    frechet: str
    """Name of the Frechet distance on its features."""
    kernel: str
    """Name of the kernel distance on its features."""
    note: str
    """What its distances can and cannot say, a sentence."""
    sha256: str | None
    """Of the file of weights."""
    side: int
    features: int
    extract: Callable[[Tensor], Tensor]
    """From pictures (N, 3, side, side) in about [-1, 1] to features (N, `features`)."""


def open_network(weights: Path | None = None, *, trust: bool = False) -> FeatureNetwork:
    """Return Inception with the weights of a file, or without one the random network.

    Only on the published weights, told by their sha256, is a distance called FID or KID. Another file is refused
    unless `trust`. The state-dict is read without pickle. The TorchScript is a program: `torch.jit.load` unpickles no
    Python objects, but running the network runs the TorchScript code in the file, so trust only a file whose maker
    you know.

    Raises InputError for a file of another sha256, and for one that is not Inception v3 of 2015-12-05.
    """
    if weights is None:
        extract = random_network.RandomNetwork().eval().requires_grad_(False)
        return FeatureNetwork(
            "random", "fd_random", "kd_random", RANDOM_NOTE, None, random_network.SIDE, random_network.FEATURES, extract
        )
    detect_kind(weights)
    sha256 = hash_artifact(weights)
    is_published = any(sha256 == file.sha256 for file in PUBLISHED)
    if not (is_published or trust):
        raise InputError(
            f"{weights}: its sha256 {sha256[:16]} is that of no published Inception weights "
            f"({' or '.join(file.name for file in PUBLISHED)}); take one of these, or, if you trust whoever made "
            "the file, pass --trust-weights"
        )
    extract = _load_torchscript(weights) if _is_torchscript(weights) else _load_state_dict(weights)
    names = ("fid", "kid", PUBLISHED_NOTE) if is_published else ("fd_other_weights", "kd_other_weights", OTHER_NOTE)
    return FeatureNetwork("inception-2015-12-05", *names, sha256, inception.SIDE, inception.FEATURES, extract)


PUBLISHED_NOTE = "Comparable only with numbers of the same resize and the same counts: FID falls as pictures are added."
OTHER_NOTE = "The weights are not the published ones, so this is no FID and compares only with numbers of this file."
RANDOM_NOTE = (
    "Features of a random network with a fixed seed: it sees colours, edges and textures, and knows no objects. It "
    "ranks sets of the same counts and resize; it is no FID, compares with no published number, and may miss what "
    "people see."
)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(re.match(r"[^/]+/code/", name) for name in archive.namelist())


def _load_state_dict(path: Path) -> Callable[[Tensor], Tensor]:
    network = inception.Inception()
    expected = network.state_dict()
    tensors = _list_tensors(read_checkpoint(path))
    if misfit := summarize_misfit(expected, tensors):
        raise InputError(f"{path}: is not the Inception of FID; {misfit}. Take {PUBLISHED[0].name}")
    require_finite(tensors, path)
    network.load_state_dict(expected | tensors)
    return network.eval().requires_grad_(False)


def _list_tensors(given: object) -> dict[str, Tensor]:
    entries = given.items() if isinstance(given, Mapping) else ()
    return {str(name): tensor for name, tensor in entries if isinstance(tensor, Tensor)}


def _load_torchscript(path: Path) -> Callable[[Tensor], Tensor]:
    """Return the program's `layers`: what it does before them, resizing and scaling, is done by `resize_picture`."""
    try:
        layers = torch.jit.load(path, map_location="cpu").eval().layers
    except (RuntimeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: is not the TorchScript Inception of FID ({str(error).splitlines()[0]}); take {PUBLISHED[1].name}"
        ) from error
    return lambda pictures: layers(pictures).flatten(1)

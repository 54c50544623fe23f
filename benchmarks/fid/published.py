"""The two files in which the Inception weights of FID are published, and how they are downloaded."""

from __future__ import annotations

import hashlib
import tempfile
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

from ...optimize.artifacts import hash_artifact
from ...optimize.cache_folder import find_cache_folder
from ...optimize.errors import InputError, OutputError

__all__ = ["PUBLISHED", "PublishedFile", "download_weights"]

CHUNK = 1 << 20
TIMEOUT_S = 60


class PublishedFile(NamedTuple):
    """A file, where it is published, and what it must be."""

    name: str
    address: str
    sha256: str
    size: int
    """In bytes."""


PUBLISHED = (
    # Its name has the first eight digits; github.com/toshas/torch-fidelity publishes the same bytes.
    PublishedFile(
        "pt_inception-2015-12-05-6726825d.pth",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        95_628_359,
    ),
    # The digest that github.com/crowsonkb/k-diffusion checks when it downloads from this address.
    PublishedFile(
        "inception-2015-12-05.pt",
        "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
        "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
        95_607_719,
    ),
)
"""The state-dict of pytorch-fid, which is downloaded where one is asked for, and the TorchScript of NVIDIA."""


def download_weights(file: PublishedFile = PUBLISHED[0]) -> Path:
    """Return the published weights in the user's cache, downloaded unless they lie there already.

    Nothing but a file of the published sha256 is kept. Raises InputError where it cannot be downloaded or is
    another, OutputError where the cache cannot be written.
    """
    folder = find_cache_folder()
    if folder is None:
        raise OutputError(f"{file.name}: there is no home folder to keep it in; set XDG_CACHE_HOME")
    path = folder / "weights" / file.name
    if path.is_file() and hash_artifact(path) == file.sha256:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".vtopt-", dir=path.parent) as draft_folder:
            draft = Path(draft_folder) / file.name
            _fetch(file, draft)
            draft.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written: {error.strerror}; set XDG_CACHE_HOME to another folder"
        ) from error
    return path


def _fetch(file: PublishedFile, draft: Path) -> None:
    by_hand = "download it by hand and pass --weights FILE"
    digest = hashlib.sha256()
    left = file.size + 1
    with draft.open("wb") as stream:
        try:
            with urllib.request.urlopen(file.address, timeout=TIMEOUT_S) as answer:
                while left and (chunk := answer.read(min(CHUNK, left))):
                    digest.update(chunk)
                    stream.write(chunk)
                    left -= len(chunk)
        except (OSError, ValueError, HTTPException) as error:
            raise InputError(f"{file.address}: cannot be downloaded ({error}); {by_hand}") from error
    if digest.hexdigest() != file.sha256:
        raise InputError(
            f"{file.address}: what came has sha256 {digest.hexdigest()[:16]}, not the published "
            f"{file.sha256[:16]}; try again, or {by_hand}"
        )

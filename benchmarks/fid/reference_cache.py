"""What was measured of a set of pictures, kept by content: a set that is compared with again is not run again."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...optimize.cache_folder import find_cache_folder
from .moments import FeatureMoments

__all__ = ["SetFeatures", "hash_pictures", "keep_features", "recall_features"]


class SetFeatures(NamedTuple):
    """What distances need of a set of pictures."""

    moments: FeatureMoments
    features: NDArray[np.float32] | None
    """(N, D), where a kernel distance is asked for: 8 KiB a picture on Inception."""


def hash_pictures(pictures: Iterable[NDArray[np.uint8]]) -> str:
    """Return the sha256 of the pictures' pixels and shapes, in their order."""
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(f"{picture.dtype} {picture.shape} ".encode())
        digest.update(np.ascontiguousarray(picture).tobytes())
    return digest.hexdigest()


def recall_features(question: Mapping[str, Any]) -> SetFeatures | None:
    """Return what was kept as the answer to `question`: all that it depends on, as JSON values. None without."""
    path = _find_file(question)
    if path is None:
        return None
    try:
        with np.load(path, allow_pickle=False) as kept:
            moments = FeatureMoments(int(kept["count"]), kept["mean"], kept["scatter"])
            return SetFeatures(moments, kept.get("features"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def keep_features(question: Mapping[str, Any], answer: SetFeatures) -> None:
    """Keep the answer to `question`, all of it or nothing; a cache that cannot be written to is done without."""
    path = _find_file(question)
    if path is None:
        return
    moments = answer.moments
    arrays: dict[str, Any] = {"count": moments.count, "mean": moments.mean, "scatter": moments.scatter}
    if answer.features is not None:
        arrays["features"] = answer.features
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix=".vtopt-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                np.savez(stream, **arrays)
            Path(draft).replace(path)
        finally:
            Path(draft).unlink(missing_ok=True)
    except OSError:
        return


def _find_file(question: Mapping[str, Any]) -> Path | None:
    key = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:32]
    folder = find_cache_folder()
    return folder / "picture_sets" / f"{key}.npz" if folder else None

"""Measure how far a set of pictures is from a reference set: FID and KID, or fd_random without weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ...optimize.errors import InputError, UsageError
from ...optimize.progress import track
from ..reports.tables import format_table
from .distance import measure_frechet_distance, measure_kernel_distance
from .moments import FeatureMoments, measure_moments, merge_moments
from .networks import FeatureNetwork, open_network
from .reference_cache import SetFeatures, hash_pictures, keep_features, recall_features
from .resizing import RESIZES, Resize, resize_picture

__all__ = ["PictureSetDistance", "format_distances", "measure_distances"]

BATCH = 16
FORMAT = 2
"""Of what is kept of a reference set; another number makes it anew."""

Pictures = Iterable[NDArray[np.uint8]]


@dataclass(frozen=True)
class PictureSetDistance:
    """A distance between two sets of pictures, with all that it must be stated with."""

    name: str
    """fid or kid on the published weights; fd_random and kd_random without any; fd_other_weights, kd_other_weights."""
    value: float
    spread: float | None
    """Of a kernel distance over its subsets, their standard deviation."""
    count: int
    reference_count: int
    resize: Resize
    filter: str
    side: int
    """Height and width that pictures were resized to, in pixels."""
    network: str
    features: int
    weights_sha256: str | None
    seed: int | None
    """Of the subsets of a kernel distance."""
    note: str


def measure_distances(
    pictures: Pictures,
    reference: Pictures,
    *,
    weights: Path | None = None,
    resize: Resize = "clean",
    kid: bool = False,
    trust_weights: bool = False,
    seed: int = 0,
) -> list[PictureSetDistance]:
    """Return the Frechet distance of pictures to reference pictures, and with `kid` also the kernel distance.

    Both sets are uint8 (H, W, 3), of any sizes, and pass by one after the other. `weights` is a file of the published
    Inception weights; without one the distances are those of a random network and named so (see `open_network`).
    What is measured of the reference is kept in the user's cache by its content, unless it is an iterator, which can
    be read only once.

    Raises InputError for fewer than two pictures, for what is no picture, and for weights that `open_network` refuses.
    """
    if resize not in RESIZES:
        raise UsageError(f"resize '{resize}' is not known; choose {' or '.join(RESIZES)}")
    network = open_network(weights, trust=trust_weights)
    wanted = _measure_reference(reference, network, resize, kid)
    made = _measure_set(pictures, "pictures", network, resize, kid)
    stated: dict[str, Any] = {
        "count": made.moments.count,
        "reference_count": wanted.moments.count,
        "resize": resize,
        "filter": RESIZES[resize].filter,
        "side": network.side,
        "network": network.name,
        "features": network.features,
        "weights_sha256": network.sha256,
        "note": network.note,
    }
    frechet = measure_frechet_distance(made.moments, wanted.moments)
    distances = [PictureSetDistance(network.frechet, frechet, spread=None, seed=None, **stated)]
    if made.features is not None and wanted.features is not None:
        kernel = measure_kernel_distance(made.features, wanted.features, seed=seed)
        distances.append(PictureSetDistance(network.kernel, kernel.mean, spread=kernel.spread, seed=seed, **stated))
    return distances


def format_distances(distances: Iterable[PictureSetDistance], *, as_json: bool = False) -> str:
    """Return the distances as a table and what is to be known of them, or as JSON."""
    rows = [asdict(distance) for distance in distances]
    if as_json:
        return format_table(rows, list(rows[0]), "json")
    columns = ("name", "value", "spread", "count", "reference_count", "resize", "filter", "side", "network", "features")
    notes = dict.fromkeys(row["note"] for row in rows)
    sha256 = rows[0]["weights_sha256"]
    file = f"Weights: sha256 {sha256}.\n" if sha256 else ""
    return f"{format_table(rows, columns)}\n{file}{' '.join(notes)}\n"


def _measure_reference(reference: Pictures, network: FeatureNetwork, resize: Resize, kid: bool) -> SetFeatures:
    if isinstance(reference, Iterator):
        return _measure_set(reference, "reference", network, resize, kid)
    question = {
        "format": FORMAT,
        "pictures": hash_pictures(reference),
        "network": [network.name, network.sha256, network.side, network.features],
        "resize": resize,
        "features": kid,
        "versions": [torch.__version__, np.__version__, Image.__version__],
    }
    known = recall_features(question)
    if known is None:
        known = _measure_set(reference, "reference", network, resize, kid)
        keep_features(question, known)
    return known


def _measure_set(pictures: Pictures, what: str, network: FeatureNetwork, resize: Resize, kid: bool) -> SetFeatures:
    moments: FeatureMoments | None = None
    kept = np.empty((0, network.features), np.float32)
    for features in _extract_features(pictures, what, network, resize):
        if kid:
            kept = _append_rows(kept, moments.count if moments else 0, features)
        batch = measure_moments(features)
        moments = batch if moments is None else merge_moments(moments, batch)
    if moments is None or moments.count < 2:
        count = moments.count if moments else 0
        raise InputError(f"{what}: {count} of them have no distance to others; give two or more, thousands for an FID")
    return SetFeatures(moments, kept[: moments.count].copy() if kid else None)


def _append_rows(rows: NDArray[np.float32], count: int, more: NDArray[np.float32]) -> NDArray[np.float32]:
    """Write more rows behind the first `count`, to an array of twice the length where they do not fit.

    Kept one by one, they would lie between what each batch frees, and no later batch could use those gaps.
    """
    end = count + len(more)
    if end > len(rows):
        longer = np.empty((2 * end, rows.shape[1]), rows.dtype)
        longer[:count] = rows[:count]
        rows = longer
    rows[count:end] = more
    return rows


def _extract_features(
    pictures: Pictures, what: str, network: FeatureNetwork, resize: Resize
) -> Iterator[NDArray[np.float32]]:
    """Yield features (n, D) of the pictures, batch by batch."""
    shown = track(pictures, what, total=len(pictures)) if isinstance(pictures, Sized) else pictures
    resized = (resize_picture(_check_picture(picture, what), network.side, resize) for picture in shown)
    while batch := list(islice(resized, BATCH)):
        with torch.inference_mode():
            # With channels last convolutions take a quarter less time on CPUs.
            stacked = torch.from_numpy(np.stack(batch)).contiguous(memory_format=torch.channels_last)
            features = network.extract(stacked)
        if features.shape != (len(batch), network.features) or not features.isfinite().all():
            raise InputError(
                f"{network.name}: its features are {list(features.shape)} or not finite, not "
                f"{[len(batch), network.features]} finite numbers; take other weights"
            )
        yield features.float().numpy()


def _check_picture(picture: NDArray[np.uint8], what: str) -> NDArray[np.uint8]:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InputError(f"{what}: a picture is {picture.dtype} {picture.shape}; give uint8 (H, W, 3)")
    return picture

"""Measure how far a set of pictures is from a reference set: FID and KID, or fd_random without weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ...optimize.errors import UsageError
from ...optimize.progress import track
from .collector import FeatureCollector
from .distance import KernelDistance, measure_frechet_distance, measure_kernel_distance
from .networks import FeatureNetwork, open_network
from .picture_distance import PictureSetDistance, Resize
from .reference_cache import SetFeatures, hash_pictures, keep_features, recall_features
from .resizing import RESIZES

__all__ = ["compare_sets", "measure_distances", "measure_reference"]

FORMAT = 2
"""Of what is kept of a reference set; another number makes it anew."""

Pictures = Iterable[NDArray[np.uint8]]


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
    wanted = measure_reference(reference, network, resize, kid=kid)
    made = _measure_set(pictures, "pictures", network, resize, kid)
    return compare_sets(made, wanted, network, resize, seed=seed)


def measure_reference(reference: Pictures, network: FeatureNetwork, resize: Resize, *, kid: bool) -> SetFeatures:
    """Return what distances need of a reference set, from the user's cache where it was measured before."""
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


def compare_sets(
    made: SetFeatures,
    wanted: SetFeatures,
    network: FeatureNetwork,
    resize: Resize,
    *,
    seed: int = 0,
    reference: str = "the reference pictures",
) -> list[PictureSetDistance]:
    """Return the Frechet distance of two sets, and the kernel distance where both kept their features."""
    stated: dict[str, Any] = {
        "count": made.moments.count,
        "reference_count": wanted.moments.count,
        "reference": reference,
        "resize": resize,
        "filter": RESIZES[resize].filter,
        "side": network.side,
        "network": network.name,
        "features": network.features,
        "weights_sha256": network.sha256,
    }
    frechet = PictureSetDistance(
        name=network.frechet,
        value=measure_frechet_distance(made.moments, wanted.moments),
        **dict.fromkeys(("spread", "subsets", "subset_size", "seed")),
        **stated,
        notes=(network.note, *_note_rank(made, wanted, network)),
    )
    if made.features is None or wanted.features is None:
        return [frechet]
    kernel = measure_kernel_distance(made.features, wanted.features, seed=seed)
    estimate = PictureSetDistance(
        name=network.kernel,
        value=kernel.mean,
        spread=kernel.spread,
        subsets=kernel.subsets,
        subset_size=kernel.size,
        seed=seed,
        **stated,
        notes=(network.note, _note_subsets(network.kernel, kernel, seed)),
    )
    return [frechet, estimate]


def _note_rank(made: SetFeatures, wanted: SetFeatures, network: FeatureNetwork) -> list[str]:
    """Say where a covariance of so few pictures is not that of their distribution."""
    least = min(made.moments.count, wanted.moments.count)
    if least > network.features:
        return []
    return [
        f"{network.frechet} of {least:,} pictures is above what more would give: the covariance of {network.features} "
        f"features is of full rank from {network.features + 1:,} pictures on; compare it only at equal counts."
    ]


def _note_subsets(name: str, kernel: KernelDistance, seed: int) -> str:
    if kernel.spread is None:
        return f"{name} compares all {kernel.size:,} pictures of each set once, so that no spread is known."
    return (
        f"{name} is the mean over {kernel.subsets} subsets of {kernel.size:,} pictures of each set, drawn with seed "
        f"{seed}; the spread is their standard deviation."
    )


def _measure_set(pictures: Pictures, what: str, network: FeatureNetwork, resize: Resize, kid: bool) -> SetFeatures:
    collector = FeatureCollector(network, resize, what, keep=kid)
    for picture in track(pictures, what, total=len(pictures)) if isinstance(pictures, Sized) else pictures:
        collector.add(picture)
    return collector.finish()

"""The distances of all pictures of each model to the truth of the pairs: FID and KID, or fd_random without weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...optimize.errors import InputError
from ..engines.sets import Key
from ..quality.sheets import make_picture
from .results import Settings

if TYPE_CHECKING:
    from ...optimize.data.pairs import Pair
    from ..fid.collector import FeatureCollector
    from ..fid.networks import FeatureNetwork
    from ..fid.picture_distance import PictureSetDistance
    from ..fid.reference_cache import SetFeatures

__all__ = ["DistanceMeter", "open_meter"]


class DistanceMeter:
    """Is shown every model's pictures, one at a time, and keeps their features' moments."""

    def __init__(self, network: FeatureNetwork, settings: Settings, pairs: Sequence[Pair]) -> None:
        self.network, self.settings = network, settings
        self.reference = _Reference(pairs)
        self.collectors: dict[Key, FeatureCollector] = {}

    @cached_property
    def wanted(self) -> SetFeatures:
        """What is measured of the truth, when the first distance needs it."""
        from ..fid.measure import measure_reference

        return measure_reference(self.reference, self.network, self.settings.resize, kid=self.settings.kid)

    def watch(self, key: Key, picture: np.ndarray) -> None:
        """Take a picture (3, H, W) in [-1, 1] of a model."""
        from ..fid.collector import FeatureCollector

        if key not in self.collectors:
            what = f"pictures of {' on '.join(key)}"
            self.collectors[key] = FeatureCollector(self.network, self.settings.resize, what, keep=self.settings.kid)
        self.collectors[key].add(_to_pixels(picture))

    def finish(self, key: Key) -> tuple[PictureSetDistance, ...]:
        """Return a model's distances."""
        from ..fid.measure import compare_sets

        made, resize = self.collectors[key].finish(), self.settings.resize
        return tuple(compare_sets(made, self.wanted, self.network, resize, reference=self.reference.what))


def open_meter(settings: Settings, pairs: Sequence[Pair]) -> DistanceMeter | None:
    """Return what measures distances to the truth, which is not measured yet; None where they are not wanted.

    They are where weights are given, and without where there are more pairs than features: fd_random on fewer says
    more of their number than of the pictures. Raises InputError for weights that `open_network` refuses, and for fewer
    than two pairs.
    """
    if settings.weights is None:
        from ..fid.random_network import FEATURES

        if len(pairs) <= FEATURES:
            return None
    from ..fid.networks import open_network

    if len(pairs) < 2:
        raise InputError("distances: of 1 pair there is none; pass --pair-count 2 or more")
    weights = Path(settings.weights) if settings.weights else None
    return DistanceMeter(open_network(weights, trust=settings.trust_weights), settings, pairs)


class _Reference:
    """The truth of the pairs as uint8 (H, W, 3), or their persons where they have none; loaded one at a time."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = pairs
        self.what = "the truth of the pairs"
        if pairs[0].truth is None:
            self.what = "the persons of the pairs, which have no truth"

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (_to_pixels(pair.person if pair.truth is None else pair.truth) for pair in self.pairs)


def _to_pixels(picture: np.ndarray) -> NDArray[np.uint8]:
    return np.asarray(make_picture(picture))

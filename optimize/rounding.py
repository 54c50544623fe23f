"""How much a network's own rounding changes its pictures: what no export of it can be nearer than.

A network that decides, by an argmax for instance, between what is almost equal, decides otherwise here and there as
soon as a sum is taken in another order.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import DifferenceError
from .verify import Difference, compare_engines

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LEAST_PSNR_DB", "compare_rounded", "require_export_close"]

LEAST_PSNR_DB = 60.0
"""Of the picture's largest value; the 8 bits in which a picture is stored come to 59 dB."""

OTHER_ROUNDING = 20.0
"""A runtime's rounding may change pictures so many times as much as the last bit of the inputs does."""

LAST_BIT = 2.0**-23


def require_export_close(difference: Difference, tolerance: float, source: Path, output: Path, **asked: object) -> str:
    """Return a notice, or an empty text, where the pictures of `output` are as near to those of `source` as can be.

    That is within `tolerance` of their largest value or, where the network itself is not steadier than that when the
    last bit of its inputs changes, so near that nobody sees it. `asked` is what `compare_rounded` takes.

    Raises DifferenceError for any other difference.
    """
    if difference.max_relative <= tolerance:
        return ""
    refusal = (
        f"{output}: pictures differ from the input's by {difference.max_relative:.2g} of their largest value "
        f"(at most {tolerance:.0e} is allowed), most on pair {difference.worst_pair}; nothing was written"
    )
    if not math.isfinite(difference.max_relative):
        raise DifferenceError(refusal)
    own = compare_rounded(source, **asked)  # type: ignore[arg-type]
    itself = (
        f"it differs from itself by {own.max_relative:.2g} ({own.psnr_worst_db:.0f} dB) when the last bit of its "
        "inputs changes"
    )
    largest = min(1.0, float(abs(difference.worst_pictures[1]).max()) or 1.0)
    near = difference.psnr_worst_db + 20 * math.log10(largest) >= LEAST_PSNR_DB
    if near and difference.max_relative <= OTHER_ROUNDING * own.max_relative:
        return (
            f"pictures differ from the network's by {difference.max_relative:.2g} of their largest value at most, "
            f"{difference.psnr_worst_db:.0f} dB over all pixels; the network is not steadier: {itself}"
        )
    raise DifferenceError(f"{refusal}. Of the network: {itself}")


def compare_rounded(
    source: Path,
    *,
    pairs: Path | None = None,
    pair_count: int | None = None,
    size: tuple[int, int] | None = None,
    network: str | None = None,
) -> Difference:
    """Compare a model with itself on inputs whose last bit was changed, seeded."""
    import numpy as np

    from ..benchmarks.engines.engine import open_engine
    from .data.pairs import open_pairs

    engine = open_engine(source, network=network)
    generator = np.random.default_rng(0)

    def change(array: NDArray[np.float32]) -> NDArray[np.float32]:
        signs = generator.choice(np.array([-LAST_BIT, LAST_BIT], np.float32), array.shape)
        return array * (1 + signs)

    changed = replace(engine, run=lambda feeds: engine.run({name: change(array) for name, array in feeds.items()}))
    return compare_engines(engine, changed, open_pairs(pairs, size or engine.size, pair_count))

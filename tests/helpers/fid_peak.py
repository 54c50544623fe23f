"""Print how much memory an FID takes, at most, in MiB, and its seconds: `python tests/helpers/fid_peak.py 5000`.

All of it is run: so many pictures of 256x192, drawn as noise, against as many or --reference others, on the whole
Inception with random weights. With --kid their features are kept for the kernel distance.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from seeded_inception import draw_weights, save_state_dict

from vtopt.benchmarks.fid.measure import measure_distances


def draw_pictures(count: int, seed: int) -> Iterator[np.ndarray]:
    draws = np.random.default_rng(seed)
    return (draws.integers(0, 256, (256, 192, 3), dtype=np.uint8) for _ in range(count))


def read_peak() -> float:
    """Return the most memory that was resident in this process, in MiB, as Linux tells it."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int)
    parser.add_argument("--reference", type=int, default=None)
    parser.add_argument("--kid", action="store_true")
    asked = parser.parse_args()
    counts = [asked.count, asked.reference or asked.count]
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        weights = save_state_dict(draw_weights(), Path(folder) / "weights.pth")
        sets = [draw_pictures(count, seed) for seed, count in enumerate(counts)]
        distances = measure_distances(*sets, weights=weights, trust_weights=True, kid=asked.kid)
    assert [distances[0].count, distances[0].reference_count] == counts
    print(f"{read_peak():.0f} MiB {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()

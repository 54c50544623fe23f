"""What each rewrite gains: networks in every form, one group of network, batch and threads after the other."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...optimize.errors import VtoptError
from ..engines.engine import feed_pair, open_engine
from ..host import count_cpus
from .network_forms import Variant, build_seeded, make_variants
from .rewrite_group import Group, Task, measure_group

__all__ = ["DEFAULT_BATCHES", "DEFAULT_NETWORKS", "measure_rewrites"]

DEFAULT_NETWORKS = ("sdafn_plus_3", "sdafn", "sdafn_plus_tiny")
DEFAULT_THREADS = (1, 2, 4)
DEFAULT_BATCHES = (1, 4)


def measure_rewrites(
    networks: Sequence[str] = DEFAULT_NETWORKS,
    *,
    threads: Sequence[int] | None = None,
    batches: Sequence[int] = DEFAULT_BATCHES,
    size: tuple[int, int] | None = None,
    runs: int = 20,
    warmup: int = 3,
) -> Iterator[Group]:
    """Measure every form of each network (see `network_forms`), and yield group after group.

    A group's models are held open together and run in turns; only where they would not fit in memory, each
    runtime has its turns apart, and a notice says so. `threads` defaults to 1, 2 and 4 as far as there are cores.

    A row's ratio is its median time to that of the plain form on the same runtime (of torch: on onnxruntime),
    its difference the largest to that form's outputs, as a share of their largest value. Memory is the peak of
    a fresh process with that model alone; shares are of the time in onnxruntime's nodes.

    Raises VtoptError when nothing can be measured.
    """
    counts = list(dict.fromkeys(threads or [count for count in DEFAULT_THREADS if count <= count_cpus()]))
    built = {name: build_seeded(name) for name in networks}
    measured, fault = False, None
    for name, network in built.items():
        for batch in dict.fromkeys(batches):
            task = Task(network, size or network.size, batch, counts[0], runs, warmup)
            try:
                for group in _measure_batch(task, counts):
                    measured = measured or bool(group.rows)
                    yield group
            except VtoptError as error:
                fault = error
                yield Group((), (), (f"{name} batch {batch} is left out: {error}",))
    if fault and not measured:
        raise fault


def _measure_batch(task: Task, threads: Sequence[int]) -> Iterator[Group]:
    notices: list[str] = []
    with tempfile.TemporaryDirectory(prefix="vtopt-rewrites-") as folder:
        variants = make_variants(task.network, Path(folder), size=task.size, batch=task.batch, notices=notices)
        feeds = _make_feeds(task, variants[0])
        yield Group((), (), tuple(notices))
        for count in threads:
            yield measure_group(replace(task, threads=count), variants, feeds)


def _make_feeds(task: Task, eager: Variant) -> dict[str, np.ndarray]:
    """Return a batch of drawn pairs, each another one, so that mixed-up entries of a batch show as differences."""
    from ...optimize.data.pairs import open_pairs

    engine = open_engine(eager.path, network=task.network.name)
    fed = [feed_pair(engine, pair) for pair in open_pairs(None, task.size, task.batch)]
    return {name: np.concatenate([each[name] for each in fed]) for name in fed[0]}

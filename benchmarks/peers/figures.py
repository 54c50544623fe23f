"""All forms of a network side by side: size, time, how far their pictures and flows are from the float network's."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...optimize.errors import VtoptError
from ...optimize.progress import track
from ..cost.size import measure_size
from ..engines.engine import Engine, feed_pair, open_engine
from ..engines.lots import plan_lots
from ..studies.flow_shifts import FlowReference, measure_flow, read_flow_reference
from ..studies.network_forms import build_seeded
from ..studies.picture_figures import make_pictures, measure_pictures
from ..timing.latency import Latency, count_rounds, measure_latency
from .forms import PLAIN, Form, describe_failure, make_forms
from .task import ChosenPairs, PeersTask, choose_pairs

if TYPE_CHECKING:
    import numpy as np

    from ...optimize.data.pairs import Pair
    from ..engines.sets import Key

__all__ = ["DEFAULT_NETWORKS", "PeersGroup", "measure_network", "measure_peers"]

DEFAULT_NETWORKS = ("sdafn_plus_tiny", "sdafn_plus_3", "pfafn_warp_aligned")


@dataclass(frozen=True)
class PeersGroup:
    """The figures of one network, one row per form and runtime."""

    rows: tuple[Mapping[str, Any], ...]
    notices: tuple[str, ...]


def measure_peers(networks: Sequence[str] = DEFAULT_NETWORKS, **asked: Any) -> Iterator[PeersGroup]:
    """Measure every form of each network, and yield group after group; `asked` are fields of `PeersTask`.

    The demo's network has its trained weights, others random ones from a fixed seed. A network that cannot be
    measured is left out, with a notice.
    """
    built = {name: build_seeded(name) for name in dict.fromkeys(networks)}
    for name, network in built.items():
        try:
            yield measure_network(PeersTask(network, **asked))
        except VtoptError as error:
            yield PeersGroup((), (f"{name} is left out: {error}",))


def measure_network(task: PeersTask) -> PeersGroup:
    """Make and measure the forms of one network.

    Pictures are those of each form on its own runtime, held against those of the float network in torch. All forms on
    one runtime are timed in turns, in lots where memory does not hold them all; a row's ratio is its median time to
    that of the plain form beside it. A form that fails anywhere has the reason in place of figures.

    Raises VtoptError when the plain form cannot be made.
    """
    from ...optimize.weights import describe_network, save_weights

    name = task.network.name
    pairs = choose_pairs(task)
    pairs = replace(pairs, compared=list(track(pairs.compared, f"{name}: pairs", total=len(pairs.compared))))
    notices = list(pairs.notices)
    with tempfile.TemporaryDirectory(prefix="vtopt-peers-") as folder:
        weights = Path(folder) / "weights.safetensors"
        save_weights(task.network.module.state_dict(), weights, describe_network(name, task.network))
        forms = make_forms(task, weights, pairs, Path(folder))
        figures, forms = _measure_quality(task, weights, forms, pairs.compared)
        latency: dict[Key, _Timing] = {}
        for runtime in dict.fromkeys(form.runtime for form in forms if form.path):
            chosen = [form for form in forms if form.path and form.runtime == runtime]
            latency |= _measure_times(task, chosen, pairs.compared[0], notices)
        rows = [_make_row(task, form, pairs, figures.get(form.key, {}), latency.get(form.key)) for form in forms]
    return PeersGroup(tuple(rows), tuple(notices))


def _measure_quality(
    task: PeersTask, weights: Path, forms: Sequence[Form], pairs: Sequence[Pair]
) -> tuple[dict[Key, dict[str, Any]], list[Form]]:
    """Return the figures of every form's pictures, and the forms: one that does not run has lost its path for a note.

    One model is open at a time.
    """
    expected = make_pictures(open_engine(weights, threads=task.threads), pairs)
    flows: dict[Path, FlowReference | None] = {}
    figures: dict[Key, dict[str, Any]] = {}
    left = []
    for form in track(forms, f"{task.network.name}: pictures", total=len(forms)):
        if form.path is None:
            left.append(form)
            continue
        try:
            engine = open_engine(form.path, runtime=form.runtime, threads=task.threads)
            known, _ = measure_pictures(engine, pairs, expected)
        except VtoptError as error:
            left.append(replace(form, path=None, note=describe_failure(error.__cause__ or error, form.path)))
            continue
        if form.source and form.source not in flows:
            flows[form.source] = read_flow_reference(form.source, pairs, task.threads)
        reference = flows[form.source] if form.source else None
        flow = measure_flow(form.path, form.runtime, task.threads, reference, pairs)
        figures[form.key] = {**known, "flow px": flow, "size MiB": measure_size(form.path) / 2**20}
        left.append(form)
    return figures, left


class _Timing(NamedTuple):
    """The times of one form, and its ratio to the plain form in the same lot; None where that does not run."""

    latency: Latency
    ratio: float | None


def _measure_times(task: PeersTask, forms: Sequence[Form], pair: Pair, notices: list[str]) -> dict[Key, _Timing]:
    paths = {form.key: form.path for form in forms if form.path}

    def open_lot(keys: Sequence[Key]) -> dict[Key, Engine]:
        return {key: open_engine(paths[key], runtime=key[1], threads=task.threads) for key in keys}

    def feed(engines: Mapping[Key, Engine]) -> dict[Key, dict[str, np.ndarray]]:
        return {key: feed_pair(engine, pair) for key, engine in engines.items()}

    engines = open_lot(list(paths))
    lots = plan_lots(engines, feed(engines))
    label = f"{task.network.name} on {forms[0].runtime}: latency"
    if len(lots) > 1:
        engines = {}
        told = f"{task.network.name} on {forms[0].runtime}: memory does not hold all models"
        notices.append(f"{told}; they ran in {len(lots)} lots, each beside {forms[0].key[0]}")
    timed: dict[Key, _Timing] = {}
    for number, lot in enumerate(lots, start=1):
        opened = engines or open_lot(lot)
        told = f"{label}, lot {number} of {len(lots)}" if len(lots) > 1 else label
        progress = count_rounds(told, task.runs + task.warmup)
        made = measure_latency(opened, feed(opened), runs=task.runs, warmup=task.warmup, progress=progress)
        plain = next((latency for key, latency in made.items() if key[0].startswith(PLAIN)), None)
        ratios = {key: each.median_ms / plain.median_ms if plain else None for key, each in made.items()}
        timed = {key: _Timing(made[key], ratios[key]) for key in made} | timed
        del opened
    return timed


def _make_row(
    task: PeersTask, form: Form, pairs: ChosenPairs, figures: Mapping[str, Any], timing: _Timing | None
) -> dict[str, Any]:
    latency = timing.latency if timing else None
    size = task.network.size
    return {
        "network": task.network.name,
        "tool": form.tool,
        "form": form.settings,
        "runtime": form.runtime,
        "median ms": latency.median_ms if latency else None,
        "of onnxsim": timing.ratio if timing else None,
        **figures,
        "made in s": form.seconds,
        "note": form.note,
        "p90 ms": latency.p90_ms if latency else None,
        "min ms": latency.min_ms if latency else None,
        "threads": task.threads,
        "runs": latency.runs if latency else task.runs,
        "warmup": latency.warmup if latency else task.warmup,
        "pairs": len(pairs.compared),
        "calibrated on": len(pairs.calibration),
        "pairs from": "drawn pairs" if task.pairs is None else task.pairs.name,
        "picture size": f"{size[0]}x{size[1]}",
    }

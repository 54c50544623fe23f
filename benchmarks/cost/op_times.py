"""Where a runtime's time goes: milliseconds per run by node and by operation type, from its own profiler."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...optimize.errors import InputError
from ..engines.engine import feed_pair, open_engine
from ..engines.feeds import draw_noise
from ..engines.runtimes import Settings, load_model, make_session_options
from ..host import count_cpus, need, take_reason

__all__ = ["OpTimes", "measure_op_times"]

OP_NAMES: Mapping[str, str] = {"FusedConv": "Conv", "NhwcFusedConv": "Conv", "Upsample": "Resize"}
"""How onnxruntime calls an operation inside -> the name it has in ONNX; other names lose a leading "Fused"."""

SECOND = timedelta(seconds=1)

_KERNEL = "_kernel_time"
"""What the profiler puts behind a node's name."""


@dataclass(frozen=True)
class OpTimes:
    """Median milliseconds per run inside a runtime's nodes, and how they were taken."""

    total_ms: float
    """All nodes of one run; less than the run itself, which also moves arrays and dispatches."""
    by_op: Mapping[str, float]
    """Operation type -> milliseconds, largest first."""
    by_node: Mapping[str, float]
    """Node -> milliseconds, largest first."""
    node_ops: Mapping[str, str]
    """Node -> its operation type."""
    runs: int
    warmup: int
    threads: int

    def share(self, *ops: str) -> float:
        """Return the part of the time, from 0 to 1, that nodes of these operation types take."""
        return sum(self.by_op.get(op, 0.0) for op in ops) / self.total_ms if self.total_ms else 0.0


class _Event(NamedTuple):
    node: str
    op: str
    milliseconds: float


def measure_op_times(
    path: Path,
    *,
    runtime: str = "onnxruntime",
    threads: int | None = None,
    runs: int = 5,
    warmup: int = 2,
    feeds: Mapping[str, np.ndarray] | None = None,
) -> OpTimes:
    """Profile an ONNX file on onnxruntime, or that or an IR on openvino, with the settings that engines have.

    The first `warmup` runs do not count: memory is planned in them. `feeds` has an array for each input;
    by default the inputs show a drawn pair, or seeded noise where no picture is known for one.

    Nodes have the names and types that the runtime's optimiser leaves them. On onnxruntime a fused node goes by one of
    its parts or its output, layout changes are ReorderInput and ReorderOutput, Conv covers the activation
    behind it, and a normalisation that was made a convolution of its own. If and Loop include the nodes
    inside them. OpenVINO names types in its own way (Convolution), with Reorder for
    layout changes; a fused node goes by its first part.

    Raises InputError for counts that cannot be measured, and for a file that does not load or run.
    """
    if runs < 1 or warmup < 0:
        raise InputError(f"op times: {runs} runs after {warmup} of warm-up cannot be timed; runs begin at 1")
    threads = count_cpus() if threads is None else threads
    feeds = _make_feeds(path, runtime, threads) if feeds is None else feeds
    if runtime == "openvino":
        events = _profile_openvino(path, threads, runs + warmup, feeds)
    else:
        events = _split_runs(_profile(path, threads, runs + warmup, feeds))
    return _summarize(events[warmup:], warmup, threads)


def _make_feeds(path: Path, runtime: str, threads: int) -> dict[str, np.ndarray]:
    from ...optimize.data.pairs import open_pairs

    engine = open_engine(path, runtime=runtime, threads=threads)
    if set(engine.pictures) == set(engine.inputs):
        return feed_pair(engine, open_pairs(None, engine.size, 1)[0])
    return draw_noise(engine)


def _profile(path: Path, threads: int, runs: int, feeds: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return the profiler's events of so many runs; its file is removed."""
    ort = need("onnxruntime")
    options = make_session_options(threads)
    with tempfile.TemporaryDirectory(prefix="vtopt-profile-") as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        try:
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            given = {node.name: _cast(feeds[node.name], node.type) for node in session.get_inputs()}
            for _ in range(runs):
                session.run(None, given)
            return json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        except KeyError as error:
            raise InputError(f"{path}: input {error} was not given; feed every input") from error
        except Exception as error:  # onnxruntime has exceptions of its own
            raise InputError(
                f"{path}: onnxruntime cannot profile it: {take_reason(error)}; see that vtopt verify runs it"
            ) from error


def _profile_openvino(path: Path, threads: int, runs: int, feeds: Mapping[str, np.ndarray]) -> list[list[_Event]]:
    """Return the node events of each run."""
    events: list[list[_Event]] = []

    def note(request: Any) -> None:
        executed = [node for node in request.get_profiling_info() if node.status == node.Status.EXECUTED]
        events.append(
            [_Event(node.node_name, node.node_type, node.real_time.total_seconds() * 1e3) for node in executed]
        )

    run = load_model(path, "openvino", Settings(threads, after_run=note)).run
    for _ in range(runs):
        run(feeds)
    return events


def _cast(array: np.ndarray, kind: str) -> np.ndarray:
    """Turn an array to the type that onnxruntime writes tensor(float)."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    return np.ascontiguousarray(array, {"float": "float32", "double": "float64"}.get(name, name))


def _split_runs(events: Sequence[Mapping[str, Any]]) -> list[list[_Event]]:
    """Return the node events of each run, in order of the runs."""
    spans = sorted(
        (event["ts"], event["ts"] + event["dur"])
        for event in events
        if event.get("cat") == "Session" and event["name"] == "model_run"
    )
    nodes = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(_KERNEL)]
    return [[_read_event(event) for event in nodes if begin <= event["ts"] <= end] for begin, end in spans]


def _read_event(event: Mapping[str, Any]) -> _Event:
    op = event["args"]["op_name"]
    return _Event(event["name"].removesuffix(_KERNEL), OP_NAMES.get(op, op.removeprefix("Fused")), event["dur"] / 1e3)


def _summarize(runs: Sequence[Sequence[_Event]], warmup: int, threads: int) -> OpTimes:
    ops, nodes = [_add_up(runs, part) for part in ("op", "node")]
    return OpTimes(
        total_ms=statistics.median(sum(event.milliseconds for event in run) for run in runs),
        by_op=ops,
        by_node=nodes,
        node_ops={event.node: event.op for run in runs for event in run},
        runs=len(runs),
        warmup=warmup,
        threads=threads,
    )


def _add_up(runs: Sequence[Sequence[_Event]], part: str) -> dict[str, float]:
    """Add each run's times by operation type or by node, and take the median over the runs."""
    times: defaultdict[str, list[float]] = defaultdict(list)
    for run in runs:
        sums: Counter[str] = Counter()
        for event in run:
            sums[getattr(event, part)] += event.milliseconds  # type: ignore[assignment]
        for name, time in sums.items():
            times[name].append(time)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return dict(sorted(medians.items(), key=lambda entry: -entry[1]))

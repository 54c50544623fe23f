"""Groups in order, networks that fail, and the command; the whole of it, on a small network, is slow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from vtopt.benchmarks.studies import rewrite_times
from vtopt.benchmarks.studies.network_forms import ALL, EAGER, PLAIN, Variant
from vtopt.benchmarks.studies.rewrite_group import Group, Task
from vtopt.benchmarks.studies.rewrite_times import measure_rewrites
from vtopt.optimize.cli import app
from vtopt.optimize.errors import OutputError, VtoptError
from vtopt.optimize.networks import Network
from vtopt.optimize.weights import load_network

SIZE = (64, 48)


@pytest.fixture
def small(small_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name is the small network."""
    monkeypatch.setattr(rewrite_times, "build_seeded", lambda _: load_network(small_checkpoint))


@pytest.fixture
def measured(small: None, small_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Stand in for the forms and the measuring; return what is asked to be measured."""
    calls: list[tuple[Any, ...]] = []

    def make_variants(network: Network, folder: Path, *, notices: list[str], **_: Any) -> list[Variant]:
        notices.append("onnxslim is left out")
        return [Variant(EAGER, "torch", small_checkpoint)]

    def measure_group(task: Task, variants: Sequence[Variant], feeds: dict[str, np.ndarray]) -> Group:
        calls.append((task.batch, task.threads, feeds))
        row = {"form": PLAIN, "threads": task.threads, "batch": task.batch, "size": "64x48", "runs": 1, "warmup": 0}
        return Group((row,), (), ())

    monkeypatch.setattr(rewrite_times, "make_variants", make_variants)
    monkeypatch.setattr(rewrite_times, "measure_group", measure_group)
    return calls


def test_measure_rewrites_goes_through_batches_and_threads_each_once(measured: list[tuple[Any, ...]]) -> None:
    groups = list(measure_rewrites(["small", "small"], threads=[2, 1, 2], batches=[1, 3, 1], size=SIZE))
    assert [call[:2] for call in measured] == [(1, 2), (1, 1), (3, 2), (3, 1)]
    assert [group.notices for group in groups if not group.rows] == [("onnxslim is left out",)] * 2


def test_a_batch_is_of_different_pairs(measured: list[tuple[Any, ...]]) -> None:
    list(measure_rewrites(["small"], threads=[1], batches=[2], size=SIZE))
    feeds = measured[0][2]
    assert {name: array.shape for name, array in feeds.items()} == {
        "person": (2, 3, *SIZE),
        "clothes": (2, 3, *SIZE),
    }
    assert not np.array_equal(feeds["person"][0], feeds["person"][1])


def test_threads_default_to_1_2_and_4_as_far_as_there_are_cores(
    measured: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewrite_times, "count_cpus", lambda: 3)
    list(measure_rewrites(["small"], batches=[1], size=SIZE))
    assert [call[1] for call in measured] == [1, 2]


def test_a_network_that_fails_is_left_out_and_the_others_are_measured(
    measured: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = rewrite_times.make_variants

    def fail_for_batch_2(network: Network, folder: Path, *, batch: int, **how: Any) -> list[Variant]:
        if batch == 2:
            raise VtoptError("torch.onnx cannot export it")
        return make(network, folder, batch=batch, **how)

    monkeypatch.setattr(rewrite_times, "make_variants", fail_for_batch_2)
    groups = list(measure_rewrites(["small"], threads=[1], batches=[1, 2], size=SIZE))
    assert groups[-1].notices == ("small batch 2 is left out: torch.onnx cannot export it",)
    with pytest.raises(VtoptError, match="cannot export"):
        list(measure_rewrites(["small"], threads=[1], batches=[2], size=SIZE))


def test_the_command_prints_json_and_writes_csv(measured: list[tuple[Any, ...]], tmp_path: Path) -> None:
    output = tmp_path / "rewrites.csv"
    asked = ["--network", "small", "--size", "64x48", "--threads", "1", "--batch", "1", "--batch", "2", "--runs", "1"]
    result = CliRunner().invoke(app, ["bench", "rewrites", *asked, "--output", str(output), "--json"])
    assert result.exit_code == 0, result.exception
    assert [row["batch"] for row in json.loads(result.stdout)["rows"]] == [1, 2]
    assert len(output.read_text().splitlines()) == 1 + 2


def test_the_command_refuses_an_existing_csv_before_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "rewrites.csv"
    output.write_text("mine")
    monkeypatch.setattr(rewrite_times, "measure_rewrites", lambda *_, **__: pytest.fail("it measured"))
    result = CliRunner().invoke(app, ["bench", "rewrites", "--output", str(output)])
    assert isinstance(result.exception, OutputError)
    assert output.read_text() == "mine"


def test_the_csv_holds_what_was_measured_before_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: Any, **__: Any) -> Iterator[Group]:
        yield Group(({"network": "one", "batch": 1},), (), ())
        raise KeyboardInterrupt

    monkeypatch.setattr(rewrite_times, "measure_rewrites", measure)
    output = tmp_path / "rewrites.csv"
    result = CliRunner().invoke(app, ["bench", "rewrites", "--output", str(output)])
    assert result.exit_code == 130
    assert len(output.read_text().splitlines()) == 1 + 1


@pytest.mark.slow
def test_measure_rewrites_of_a_small_network_with_the_rewrites_themselves(small: None) -> None:
    groups = list(measure_rewrites(["small"], threads=[1], batches=[2], size=SIZE, runs=1, warmup=1))
    rows = {(row["form"], row["runtime"]): row for group in groups for row in group.rows}
    assert {(form, runtime) for form in (PLAIN, ALL, "export") for runtime in ("onnxruntime", "openvino")} <= set(rows)
    assert all(row["difference"] < 1e-4 for row in rows.values())
    assert rows[PLAIN, "onnxruntime"]["warp share"] > 0

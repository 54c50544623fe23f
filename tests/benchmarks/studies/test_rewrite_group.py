"""One group: ratios and differences to the plain form of the same runtime, and what is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
import torch

from vtopt.benchmarks.studies import rewrite_group
from vtopt.benchmarks.studies.network_forms import ALL, EAGER, PLAIN, Variant
from vtopt.benchmarks.studies.rewrite_group import Task, measure_group
from vtopt.benchmarks.timing.peak_memory import PeakMemory
from vtopt.optimize.networks import InputSpec, Network

SIZE = (32, 24)
FACTOR = 1.25
FEEDS = {"person": np.linspace(-1, 1, 2 * 3 * 32 * 24, dtype=np.float32).reshape(2, 3, *SIZE)}


def _save(path: Path, factor: float) -> Path:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    graph (float[2,3,32,24] person) => (float[2,3,32,24] tryon)
    <float f = {{{factor}}}> {{ tryon = Mul (person, f) }}"""
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def _make_task() -> Task:
    network = Network(torch.nn.Identity(), inputs=(InputSpec("person"),), size=SIZE, name="one")
    return Task(network, SIZE, batch=2, threads=1, runs=2, warmup=1)


@pytest.fixture
def variants(tmp_path: Path) -> list[Variant]:
    """Plain puts the person out unchanged, the other makes it brighter."""
    plain, bright = _save(tmp_path / "plain.onnx", 1), _save(tmp_path / "bright.onnx", FACTOR)
    return [
        Variant(form, runtime, path)
        for form, path in ((PLAIN, plain), (ALL, bright))
        for runtime in ("onnxruntime", "openvino")
    ]


@pytest.fixture
def known_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take memory as known: to measure it takes a process for each model."""
    monkeypatch.setattr(rewrite_group, "measure_peak_memory", lambda *_, **__: PeakMemory(50.0, 60.0))


@pytest.mark.usefixtures("known_memory")
def test_rows_are_relative_to_the_plain_form_of_the_same_runtime(variants: list[Variant]) -> None:
    group = measure_group(_make_task(), variants, FEEDS)
    rows = {(row["form"], row["runtime"]): row for row in group.rows}
    assert len(rows) == len(variants)
    for runtime in ("onnxruntime", "openvino"):
        plain, bright = rows[PLAIN, runtime], rows[ALL, runtime]
        assert (plain["ratio"], plain["difference"]) == (1, 0)
        assert bright["ratio"] == bright["median ms"] / plain["median ms"]
        assert bright["difference"] == pytest.approx(FACTOR - 1, rel=1e-6)
        assert bright["min ms"] <= bright["median ms"] <= bright["p90 ms"]
        assert bright["file MiB"] == variants[2].path.stat().st_size / 2**20
    assert rows[PLAIN, "onnxruntime"]["conv share"] == 0
    assert rows[PLAIN, "openvino"]["conv share"] is None
    assert {(row["network"], row["threads"], row["batch"], row["size"]) for row in group.rows} == {
        ("one", 1, 2, "32x24")
    }
    assert group.notices == ()


@pytest.mark.usefixtures("known_memory")
def test_op_rows_put_both_models_side_by_side_and_end_with_the_sum(variants: list[Variant]) -> None:
    *ops, total = measure_group(_make_task(), variants, FEEDS).op_rows
    assert "Mul" in {row["operation"] for row in ops}
    assert total["operation"] == "(all)"
    assert all(row["plain ms"] >= 0 and row["all rewrites ms"] >= 0 for row in (*ops, total))


def test_a_model_that_does_not_load_is_left_out_with_a_notice(variants: list[Variant], tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x07not a model" * 9)
    group = measure_group(_make_task(), [variants[0], Variant(ALL, "onnxruntime", broken)], FEEDS)
    assert [row["form"] for row in group.rows] == [PLAIN]
    assert group.rows[0]["memory MiB"] > group.rows[0]["imports MiB"]
    (notice,) = group.notices
    assert notice.startswith(f"one batch 2 threads 1: {ALL} on onnxruntime is left out: onnxruntime cannot load it")
    assert str(tmp_path) not in notice
    assert group.op_rows == ()


@pytest.mark.usefixtures("known_memory")
def test_without_the_plain_form_there_is_no_ratio(variants: list[Variant]) -> None:
    (row,) = measure_group(_make_task(), variants[2:3], FEEDS).rows
    assert (row["ratio"], row["difference"]) == (None, None)


@pytest.mark.usefixtures("known_memory")
def test_torch_is_compared_with_plain_on_onnxruntime(
    small_checkpoint: Path, small_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    plainly = rewrite_group.plain_warps
    monkeypatch.setattr(rewrite_group, "plain_warps", lambda: opened.append(True) or plainly())
    feeds = {name: np.zeros((1, 3, 64, 48), np.float32) for name in ("person", "clothes")}
    variants = [Variant(EAGER, "torch", small_checkpoint), Variant(PLAIN, "onnxruntime", small_onnx)]
    network = Network(torch.nn.Identity(), inputs=(), name="sdafn_plus_tiny")
    eager, plain = measure_group(Task(network, (64, 48), 1, 1, runs=1, warmup=0), variants, feeds).rows
    assert eager["ratio"] == eager["median ms"] / plain["median ms"]
    assert eager["difference"] < 1e-4
    assert eager["conv share"] is None
    assert opened


@pytest.mark.usefixtures("known_memory")
def test_models_that_do_not_fit_in_memory_together_are_measured_by_runtime(
    variants: list[Variant], monkeypatch: pytest.MonkeyPatch
) -> None:
    lots = []
    measure = rewrite_group.measure_latency
    monkeypatch.setattr(
        rewrite_group,
        "measure_latency",
        lambda engines, *rest, **how: lots.append([each.runtime for each in engines]) or measure(engines, *rest, **how),
    )
    monkeypatch.setattr(rewrite_group, "MEMORY_SHARE", 0)
    group = measure_group(_make_task(), variants, FEEDS)
    assert lots == [["onnxruntime"] * 2, ["openvino"] * 2]
    assert [row["form"] for row in group.rows] == [variant.form for variant in variants]
    assert "one after the other" in group.notices[0]

"""The forms of int8 that are compared: made from a small network, one that fails left out, and their figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from vtopt.benchmarks.studies import int8_forms, int8_tools
from vtopt.benchmarks.studies.int8_figures import Int8Group, measure_network
from vtopt.benchmarks.studies.int8_forms import FLOAT, Int8Task, open_compared_pairs
from vtopt.benchmarks.studies.network_forms import PLAIN
from vtopt.benchmarks.studies.picture_figures import scale_psnr
from vtopt.benchmarks.studies.plain_warp import export_plainly
from vtopt.optimize.errors import BudgetError
from vtopt.optimize.weights import load_network

SIZE = (64, 48)
RUNTIMES = ("onnxruntime", "openvino")


def _fail(*arguments: object) -> None:
    raise RuntimeError("this tool has broken")


def _make_half(task: Int8Task, rewritten: dict[str, Path]) -> list[int8_forms._Maker]:
    """Yield two of vtopt's forms, and one that misses its budget after its file is written."""
    kept = [
        maker
        for maker in _list_own(task, rewritten)
        if maker.form in {"vtopt int8", "vtopt int8 --weight-only"} and maker.runtimes == ("onnxruntime",)
    ]
    make = kept[1].make

    def miss(path: Path) -> None:
        make(path)
        raise BudgetError(f"{path}: PSNR is too low")

    return [*kept, int8_forms._Maker("missed", ("onnxruntime",), miss)]


_list_own = int8_forms._list_own


@pytest.fixture(scope="module")
def group(small_checkpoint: Path) -> Int8Group:
    task = Int8Task(load_network(small_checkpoint), SIZE, pair_count=2, calibration_count=2, runs=1, warmup=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8_forms, "_list_own", _make_half)
        patch.setattr(int8_tools, "quantize_by_onnxruntime", _fail)
        patch.setattr(int8_tools, "quantize_by_neural_compressor", _fail)  # has a test of its own
        return measure_network(task)


def test_every_form_that_can_be_made_has_a_row(group: Int8Group) -> None:
    rows = {(row["form"], row["runtime"]) for row in group.rows}
    assert rows >= {(form, runtime) for form in (PLAIN, FLOAT, "onnxruntime per tensor") for runtime in RUNTIMES}
    assert rows >= {(form, "onnxruntime") for form in ("vtopt int8", "vtopt int8 --weight-only", "missed")}
    assert "onnxruntime defaults" not in {form for form, _ in rows}


def test_what_is_left_out_or_misses_its_budget_is_told(group: Int8Group) -> None:
    told = "\n".join(group.notices)
    assert "onnxruntime defaults for onnxruntime and openvino is left out: this tool has broken" in told
    assert "missed for onnxruntime misses its budget: PSNR is too low" in told


def test_rows_are_held_against_float(group: Int8Group) -> None:
    rows = {(row["form"], row["runtime"]): row for row in group.rows}
    reference = rows[FLOAT, "onnxruntime"]
    assert "PSNR dB" not in reference
    assert reference["truth PSNR dB"] is not None
    assert rows[PLAIN, "onnxruntime"]["of plain"] == 1
    assert rows[PLAIN, "onnxruntime"]["PSNR dB"] > 80
    small = rows["vtopt int8 --weight-only", "onnxruntime"]
    assert 20 < small["of range dB"] < small["PSNR dB"] < 120
    assert small["size MiB"] < reference["size MiB"]
    assert small["flow px"] > 0


def test_each_form_but_the_reference_shows_its_worst_pair(group: Int8Group) -> None:
    shown = {(worst.variant.form, worst.variant.runtime): worst for worst in group.worst}
    assert (FLOAT, "onnxruntime") not in shown
    assert len(shown) == len(group.rows) - 1
    assert shown["onnxruntime per tensor", "onnxruntime"].picture.shape == (3, *SIZE)


def test_scale_psnr_takes_the_range_of_the_reference() -> None:
    faint = np.array([-0.1, 0.1], np.float32)
    assert scale_psnr(50.0, faint) == pytest.approx(30.0)
    assert scale_psnr(50.0, np.array([-1.0, 1.0])) == pytest.approx(50.0)
    assert scale_psnr(float("inf"), faint) == float("inf")
    assert scale_psnr(50.0, np.zeros(4)) == 50.0


def test_compared_pairs_are_not_those_of_calibration_or_search(small_checkpoint: Path) -> None:
    pairs = open_compared_pairs(Int8Task(load_network(small_checkpoint), SIZE, pair_count=2))
    assert [pair.name for pair in pairs] == ["drawn-001000", "drawn-001001"]


def test_neural_compressor_quantises_the_plain_network(small_checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchao.quantization.pt2e")
    network = replace(load_network(small_checkpoint), size=SIZE)
    plain = export_plainly(network, tmp_path / "plain.onnx", SIZE)
    sample = {spec.name: np.zeros((1, spec.channels, *SIZE), np.float32) for spec in network.inputs}
    int8_tools.quantize_by_neural_compressor(network, plain, [sample], tmp_path / "int8.onnx")
    model = onnx.load(tmp_path / "int8.onnx")
    stored = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    nodes = model.graph.node
    weights = {n.output[0] for n in nodes if n.op_type == "DequantizeLinear" and n.input[0] in stored}
    assert weights
    assert all(node.input[1] in weights for node in nodes if node.op_type == "Conv")

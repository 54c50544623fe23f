"""Int8 of weights that were trained for it: from the weights, or from ONNX on any way that vtopt makes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vtopt.optimize.artifacts import Size
from vtopt.optimize.cpu_target import resolve_target
from vtopt.optimize.errors import InputError, UsageError
from vtopt.optimize.export import export_onnx
from vtopt.optimize.int8.trained import read_ranges
from vtopt.optimize.openvino_ir import convert_openvino
from vtopt.optimize.provenance import INT8_RANGES, read_history, read_metadata
from vtopt.optimize.quantize import quantize_onnx
from vtopt.optimize.rewrite import rewrite_onnx
from vtopt.optimize.training.int8 import open_calibration, prepare_int8_training, split_int8_state
from vtopt.optimize.verify import compare_artifacts
from vtopt.optimize.weights import describe_network, load_network, save_weights

SIZE = Size(64, 48)
HEADS = 6
"""Convolutions that make grids: three a level, two levels."""


@pytest.fixture(scope="module")
def weights(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = load_network(small_checkpoint)
    cpu, _ = resolve_target("auto")
    prepared, _ = prepare_int8_training(network, open_calibration(network, None, SIZE, [], 2), cpu)
    kept, ranges = split_int8_state(prepared.module.state_dict(), cpu)
    path = tmp_path_factory.mktemp("trained") / "trained.safetensors"
    save_weights(kept, path, describe_network(network.name, network) | ranges.to_entries())
    return path


@pytest.fixture(scope="module")
def quantized(weights: Path) -> Path:
    return quantize_onnx(weights, weights.with_name("int8.onnx"), int8=True, size=SIZE, pair_count=1)


def test_weights_that_carry_ranges_are_written_with_them(weights: Path, quantized: Path) -> None:
    record = read_history(quantized)[-1]
    ranges = read_ranges(read_metadata(weights), weights)
    assert ranges
    assert record.settings["engine"] == record.figures["ranges"] == "trained"
    assert record.figures["convolutions_int8"] >= len(ranges.modules)
    assert record.figures["convolutions_float"] == HEADS
    assert INT8_RANGES not in read_metadata(quantized), "they are in the graph now"


def test_openvino_makes_the_same_pictures(quantized: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    converted = convert_openvino(quantized, tmp_path / "int8.xml", pair_count=1)
    assert compare_artifacts(quantized, converted, pair_count=2).psnr_worst_db > 40


def test_onnx_carries_the_ranges_through_export_and_rewrite(weights: Path, tmp_path: Path) -> None:
    plain = export_onnx(weights, tmp_path / "plain.onnx", size=SIZE, pair_count=1)
    rewritten = rewrite_onnx(plain, tmp_path / "rewritten.onnx", pair_count=1)
    made = quantize_onnx(rewritten, tmp_path / "int8.onnx", int8=True, pair_count=1)
    record = read_history(made)[-1]
    assert record.settings["engine"] == "trained"
    assert record.figures["convolutions_float"] == HEADS


def test_another_engine_may_be_asked_for(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="weights are for"):
        quantize_onnx(weights, tmp_path / "int8.onnx", int8=True, engine="onnxruntime")


def test_weights_without_ranges_are_refused(small_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="finetune --int8"):
        quantize_onnx(small_checkpoint, tmp_path / "int8.onnx", int8=True, engine="trained")


def test_a_damaged_entry_is_refused(weights: Path, tmp_path: Path) -> None:
    network = load_network(weights)
    damaged = tmp_path / "damaged.safetensors"
    metadata = read_metadata(weights) | {INT8_RANGES: json.dumps({"target": "avx2"})}
    save_weights(network.module.state_dict(), damaged, metadata)
    with pytest.raises(InputError, match="make the file again"):
        quantize_onnx(damaged, tmp_path / "int8.onnx", int8=True)

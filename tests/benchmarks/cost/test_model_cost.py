"""What files cost: bytes on disk, compressed, as constants, parameters and multiply-adds."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vtopt.benchmarks.cost.model_cost import count_model, measure_compressed, measure_cost


def _save(path: Path, dtype: type = np.float32) -> Path:
    """Save a convolution of 3 to 8 channels whose weights are constants of this type."""
    weight = numpy_helper.from_array(np.ones((8, 3, 3, 3), dtype), "w")
    shape = (1, 3, 16, 12)
    graph = helper.make_graph(
        [helper.make_node("Cast", ["w"], ["k"], to=TensorProto.FLOAT), helper.make_node("Conv", ["x", "k"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 8, 14, 10))],
        [weight],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_measure_cost(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.onnx")
    cost = measure_cost("a", path)
    assert (cost.name, cost.path, cost.kind, cost.bytes) == ("a", str(path), "onnx", path.stat().st_size)
    assert cost.parameters == 8 * 3 * 9
    assert cost.macs == 8 * 14 * 10 * 3 * 9
    assert (cost.uncounted, cost.history) == ({}, ())
    assert cost.compressed_bytes == len(zlib.compress(path.read_bytes(), 6)) < cost.bytes


@pytest.mark.parametrize(("dtype", "each"), [(np.float32, 4), (np.float16, 2), (np.int8, 1)])
def test_weights_in_memory_are_of_their_own_type(dtype: type, each: int, tmp_path: Path) -> None:
    assert count_model(_save(tmp_path / "a.onnx", dtype)).weight_bytes == 8 * 3 * 9 * each


def test_an_ir_is_compressed_with_its_weights(tmp_path: Path) -> None:
    import openvino

    openvino.save_model(openvino.convert_model(_save(tmp_path / "a.onnx")), tmp_path / "a.xml", compress_to_fp16=False)
    files = [tmp_path / "a.xml", tmp_path / "a.bin"]
    assert measure_compressed(tmp_path / "a.xml") == sum(len(zlib.compress(file.read_bytes(), 6)) for file in files)


def test_weights_are_those_of_their_network(small_checkpoint: Path) -> None:
    cost = measure_cost("net", small_checkpoint, size=(64, 48))
    assert cost.kind == "checkpoint"
    assert cost.macs
    assert 4 * cost.parameters <= cost.weight_bytes < cost.bytes


def test_weights_are_loaded_once(small_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vtopt.optimize import weights

    loaded, load = [], weights.load_network
    monkeypatch.setattr(weights, "load_network", lambda *asked: loaded.append(asked) or load(*asked))
    measure_cost("net", small_checkpoint, size=(64, 48))
    assert loaded == [(small_checkpoint, None)]


def test_a_model_of_any_size_is_counted_at_that_of_the_run(small_checkpoint: Path, tmp_path: Path) -> None:
    model = onnx.load(_save(tmp_path / "a.onnx"))
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"side {axis}"
    onnx.save(model, tmp_path / "any.onnx")
    assert count_model(tmp_path / "any.onnx", size=(64, 48)).macs.macs == 8 * 62 * 46 * 3 * 9
    small, large = (count_model(small_checkpoint, size=size).macs.macs for size in ((64, 48), (128, 96)))
    assert 3.9 * small < large < 4.1 * small

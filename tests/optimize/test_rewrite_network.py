"""The step on a whole network as its public code exports it, and what casts and quantisers make of the result."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import ModelProto

from vtopt.optimize import rewrite
from vtopt.optimize.onnx_files import save_onnx
from vtopt.optimize.openvino_ir import convert_openvino
from vtopt.optimize.provenance import read_history
from vtopt.optimize.quantize import quantize_onnx
from vtopt.optimize.rewrite import rewrite_onnx
from vtopt.optimize.rewrites import Runtime
from vtopt.optimize.verify import compare_artifacts
from vtopt.optimize.warp import find_warps, list_grid_nodes, name_nodes
from vtopt.optimize.weights import load_network


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out" / "fast.onnx"


def _measure(source: Path, output: Path) -> float:
    """Return the largest difference of pictures on three pairs, without trusting what the step says of itself."""
    return compare_artifacts(source, output, pair_count=3).max_relative


@pytest.fixture(scope="session")
def plain_onnx(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network as its public code would be exported: repeat_interleave and padding `border`."""
    from vtopt.benchmarks.studies.plain_warp import simplify_plainly, trace_plainly
    from vtopt.optimize.weights import describe_network

    network = load_network(small_checkpoint, None)
    path = tmp_path_factory.mktemp("plain") / "plain.onnx"
    model = simplify_plainly(trace_plainly(network, (64, 48)))
    save_onnx(model, path, describe_network(network.name, network))
    return path


@pytest.fixture(scope="session")
def fast_onnx(plain_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rewrite_onnx(plain_onnx, tmp_path_factory.mktemp("fast") / "fast.onnx", pair_count=1)


WARPS_PER_LEVEL = 2
"""An SDAFN level warps the person's features and those of the clothes."""


def test_every_warp_of_a_plain_network_becomes_fast(plain_onnx: Path, fast_onnx: Path) -> None:
    model = onnx.load(plain_onnx)
    name_nodes(model)
    many = [warp for warp in find_warps(model) if warp.heads > 1]
    assert len(many) >= WARPS_PER_LEVEL
    figures = read_history(fast_onnx)[-1].figures
    assert figures["places_pointwise"] >= 1
    fast = onnx.load(fast_onnx)
    ops = [node.op_type for node in fast.graph.node]
    assert not {"Tile", "Expand"} & set(ops)
    samplers = [node for node in fast.graph.node if node.op_type == "GridSample"]
    assert {onnx.helper.get_node_attr_value(node, "padding_mode") for node in samplers} == {b"zeros"}
    assert _measure(plain_onnx, fast_onnx) <= 1e-4
    name_nodes(fast)
    assert len([warp for warp in find_warps(fast) if warp.heads > 1]) == len(many)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_vtopt_s_own_export_keeps_its_pictures(runtime: Runtime, small_onnx: Path, output: Path) -> None:
    rewrite_onnx(small_onnx, output, runtime=runtime, pair_count=1)
    steps = [record.step for record in read_history(output)]
    assert steps == ["export", "rewrite"]
    assert read_history(output)[-1].figures["places_heads"] >= 1
    assert _measure(small_onnx, output) <= 1e-4


def test_the_plain_network_converts_to_openvino(plain_onnx: Path, output: Path) -> None:
    rewrite_onnx(plain_onnx, output, runtime="openvino", pair_count=1)
    xml = convert_openvino(output, output.with_suffix(".xml"), pair_count=1)
    assert _measure(plain_onnx, xml) <= 1e-3


def test_a_rewritten_network_is_rewritten_no_further(fast_onnx: Path, output: Path) -> None:
    rewrite_onnx(fast_onnx, output, pair_count=1)
    assert onnx.load(output).graph == onnx.load(fast_onnx).graph
    (said,) = read_history(output)[-1].notices
    assert said.startswith("nothing was rewritten of")


def test_what_was_rewritten_for_onnxruntime_is_not_turned_back_and_says_so(fast_onnx: Path, output: Path) -> None:
    rewrite_onnx(fast_onnx, output, runtime="openvino", pair_count=1)
    assert list(read_history(output)[-1].notices) == [rewrite.NO_WAY_BACK_NOTICE]


def _list_types(model: ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def test_fp16_of_a_rewritten_network_keeps_grids_and_offsets_in_float32(fast_onnx: Path, output: Path) -> None:
    quantize_onnx(fast_onnx, output, fp16=True, pair_count=1)
    model = onnx.load(output)
    source = onnx.load(fast_onnx)
    name_nodes(source)
    warps = find_warps(source)
    assert {warp.op for warp in warps} >= {"DeformConv"}
    types = _list_types(model)
    nodes = {node.name: node for node in model.graph.node}
    for name in list_grid_nodes(warps):
        if name in nodes:  # Constant nodes may be folded
            kinds = {types[made] for made in nodes[name].output if made}
            assert onnx.TensorProto.FLOAT16 not in kinds, name
    for node in nodes.values():
        if node.op_type in {"DeformConv", "GridSample"}:
            assert {types[value] for value in node.input if value} == {onnx.TensorProto.FLOAT}
    assert compare_artifacts(fast_onnx, output, pair_count=2).psnr_worst_db > 40


def test_int8_of_a_rewritten_network_keeps_grids_and_offsets_in_float32(fast_onnx: Path, output: Path) -> None:
    quantize_onnx(fast_onnx, output, int8=True, calibration_count=2, pair_count=1)
    model = onnx.load(output)
    assert read_history(output)[-1].figures["convolutions_int8"] > 0
    made_by = {name: node for node in model.graph.node for name in node.output}
    sampled = [node for node in model.graph.node if node.op_type in {"DeformConv", "GridSample"}]
    assert "DeformConv" in {node.op_type for node in sampled}
    for node in sampled:
        place = node.input[2 if node.op_type == "DeformConv" else 1]
        pending, seen = [place], set()
        while pending:
            maker = made_by.get(pending.pop())
            if maker is None or maker.name in seen or maker.op_type in {"Conv", "ConvTranspose", "Shape"}:
                continue
            seen.add(maker.name)
            assert maker.op_type not in {"QuantizeLinear", "DequantizeLinear"}, (node.name, maker.name)
            pending += maker.input
    assert compare_artifacts(fast_onnx, output, pair_count=2).psnr_worst_db > 25

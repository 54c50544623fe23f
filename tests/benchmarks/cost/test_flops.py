"""Multiply-adds: one formula per operation, on graphs of a line or two."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from vtopt.benchmarks.cost.flops import FLOPS_PER_MAC, count_macs
from vtopt.benchmarks.cost.mac_rules import FREE, RULES
from vtopt.optimize.errors import InputError

if TYPE_CHECKING:
    import openvino

H, W = 8, 6
"""Height and width of the pictures below."""


def _parse(text: str, opset: int = 17) -> onnx.ModelProto:
    """Read one line of inputs and outputs, and the nodes; what is asked for is in `FORMS`."""
    header = f'<ir_version: 8, opset_import: ["" : {opset}, "custom" : 1, "com.microsoft" : 1]>'
    return onnx.parser.parse_model(f"{header} graph {text}")


def _to_openvino(model: onnx.ModelProto, folder: Path) -> openvino.Model:
    import openvino

    onnx.save(model, folder / "model.onnx")
    return openvino.Core().read_model(folder / "model.onnx")


CONV = "(float[1,4,8,6] x, float[8,4,3,3] w) => (float[a,b,c,d] y) { y = Conv <pads=[1,1,1,1]> (x, w) }"
FORMS = [
    pytest.param(CONV, 8 * H * W * (4 * 3 * 3), id="a convolution takes channels times kernel for each element"),
    pytest.param(
        "(float[1,4,8,6] x, float[8,4,3,3] w) => (float[a,b,c,d] y) { y = Conv (x, w) }",
        8 * (H - 2) * (W - 2) * (4 * 3 * 3),
        id="a convolution without padding makes fewer elements",
    ),
    pytest.param(
        "(float[1,4,8,6] x, float[8,4,3,3] w) => (float[a,b,c,d] y) "
        "{ y = Conv <pads=[1,1,1,1], strides=[2,2]> (x, w) }",
        8 * (H // 2) * (W // 2) * (4 * 3 * 3),
        id="a convolution with a stride of two makes a quarter of the elements",
    ),
    pytest.param(
        "(float[1,4,8,6] x, float[8,4,3,3] w) => (float[a,b,c,d] y) "
        "{ y = Conv <pads=[2,2,2,2], dilations=[2,2]> (x, w) }",
        8 * H * W * (4 * 3 * 3),
        id="dilation costs nothing",
    ),
    pytest.param(
        "(float[1,4,8,6] x, float[8,2,3,3] w) => (float[a,b,c,d] y) { y = Conv <pads=[1,1,1,1], group=2> (x, w) }",
        8 * H * W * (4 // 2 * 3 * 3),
        id="a convolution in two groups sees half of the channels",
    ),
    pytest.param(
        "(float[1,4,8,6] x, float[4,1,3,3] w) => (float[a,b,c,d] y) { y = Conv <pads=[1,1,1,1], group=4> (x, w) }",
        4 * H * W * (3 * 3),
        id="a depthwise convolution sees one channel",
    ),
    pytest.param(
        "(float[1,4,8,6] x, float[4,5,2,2] w) => (float[a,b,c,d] y) { y = ConvTranspose <strides=[2,2]> (x, w) }",
        4 * H * W * (5 * 2 * 2),
        id="a transposed convolution spreads every element of its input",
    ),
    pytest.param(
        "(float[1,4,8,6] x, float[4,5,2,2] w) => (float[a,b,c,d] y) "
        "{ y = ConvTranspose <strides=[2,2], group=2> (x, w) }",
        4 * H * W * (5 * 2 * 2),
        id="a transposed convolution in two groups spreads it over the channels of its group",
    ),
    pytest.param(
        "(float[2,5,7] x, float[2,7,3] w) => (float[a,b,c] y) { y = MatMul (x, w) }",
        2 * 5 * 3 * 7,
        id="a matrix product in a batch of two",
    ),
    pytest.param(
        "(float[2,5,7] x, float[7,3] w) => (float[a,b,c] y) { y = MatMul (x, w) }",
        2 * 5 * 3 * 7,
        id="a matrix product that broadcasts",
    ),
    pytest.param(
        "(float[1,3,8,6] x, float[1,4,5,2] g) => (float[a,b,c,d] y) { y = GridSample (x, g) }",
        3 * 4 * 5 * 4,
        id="a bilinear sample mixes 4 neighbours",
    ),
    pytest.param(
        '(float[1,3,8,6] x, float[1,4,5,2] g) => (float[a,b,c,d] y) { y = GridSample <mode="bicubic"> (x, g) }',
        3 * 4 * 5 * 16,
        id="a bicubic sample mixes 16 neighbours",
    ),
    pytest.param(
        '(float[1,3,8,6] x, float[1,4,5,2] g) => (float[a,b,c,d] y) { y = GridSample <mode="nearest"> (x, g) }',
        0,
        id="a nearest sample mixes none",
    ),
    pytest.param(
        "(float[1,3,8,6] x) => (float[a,b,c,d] y) <float[4] s = {1,1,2,2}, float[0] r = {}> "
        '{ y = Resize <mode="linear"> (x, r, s) }',
        3 * (2 * H) * (2 * W) * 2 * 2,
        id="a linear resize mixes two neighbours per axis",
    ),
    pytest.param(
        "(float[1,3,8,6] x) => (float[a,b,c,d] y) <float[4] s = {1,1,2,1}, float[0] r = {}> "
        '{ y = Resize <mode="linear"> (x, r, s) }',
        3 * (2 * H) * W * 2,
        id="a linear resize of the height mixes two",
    ),
    pytest.param(
        "(float[1,3,8,6] x) => (float[a,b,c,d] y) <float[4] s = {1,1,1,1}, float[0] r = {}> "
        '{ y = Resize <mode="linear"> (x, r, s) }',
        0,
        id="a linear resize to the same size mixes none",
    ),
    pytest.param(
        "(float[1,3,8,6] x) => (float[a,b,c,d] y) <float[4] s = {1,1,2,2}, float[0] r = {}> "
        '{ y = Resize <mode="nearest"> (x, r, s) }',
        0,
        id="a nearest resize mixes none",
    ),
    pytest.param(
        "(float[1,3,8,6] x) => (float[a,b,c,d] y) { y = AveragePool <kernel_shape=[2,2], strides=[2,2]> (x) }",
        3 * (H // 2) * (W // 2) * (2 * 2),
        id="an average takes as many as it averages",
    ),
    pytest.param(
        "(float[1,3,8,6] x) => (float[a,b,c,d] y) { y = ReduceMean <axes=[2,3]> (x) }",
        3 * H * W,
        id="a mean takes every element once",
    ),
]
"""Graphs that onnx and OpenVINO both read, and their MACs."""

ONNX_FORMS = [
    pytest.param(
        "(float[1,4,8,6] x, float[8,4,3,3] w, float[8] b) => (float[a,b,c,d] y) { y = Conv (x, w, b) }",
        8 * (H - 2) * (W - 2) * (4 * 3 * 3),
        id="the bias is free",
    ),
    pytest.param(
        "(float[1,4,10] x, float[8,4,3] w) => (float[a,b,c] y) { y = Conv (x, w) }",
        8 * 8 * (4 * 3),
        id="a convolution along one axis",
    ),
    pytest.param(
        "(float[5,7] x, float[7] w) => (float[a] y) { y = MatMul (x, w) }",
        5 * 7,
        id="a matrix times a vector",
    ),
    pytest.param(
        "(float[5,7] x, float[7,3] w, float[3] b) => (float[a,b] y) { y = Gemm (x, w, b) }",
        5 * 3 * 7,
        id="Gemm, with a bias that is free",
    ),
    pytest.param(
        "(float[7,5] x, float[3,7] w) => (float[a,b] y) { y = Gemm <transA=1, transB=1> (x, w) }",
        5 * 3 * 7,
        id="Gemm of two transposed matrices",
    ),
    pytest.param(
        '(float[2,5,7] x, float[2,7,3] w) => (float[a,b,c] y) { y = Einsum <equation="bij, bjk -> bik"> (x, w) }',
        2 * 5 * 7 * 3,
        id="an Einsum of two takes every combination of indices",
    ),
    pytest.param(
        '(float[2,5,7] x) => (float[a,b] y) { y = Einsum <equation="bij->bi"> (x) }',
        0,
        id="an Einsum of one is a sum",
    ),
    pytest.param(
        "(float[1,3,8,6] x) => (float[a,b,c,d] y) <float[4] s = {1,1,2,2}, float[0] r = {}> "
        '{ y = Resize <mode="cubic"> (x, r, s) }',
        3 * (2 * H) * (2 * W) * 4 * 4,
        id="a cubic resize mixes four per axis",
    ),
    pytest.param(
        "(float[1,3,8,6] x) => (float[a,b,c,d] y) { y = GlobalAveragePool (x) }",
        3 * H * W,
        id="a global average takes every element once",
    ),
    pytest.param(
        "(int8[1,4,8,6] x, int8[8,4,3,3] w) => (int32[a,b,c,d] y) { y = ConvInteger <pads=[1,1,1,1]> (x, w) }",
        8 * H * W * (4 * 3 * 3),
        id="a convolution of integers counts like float",
    ),
    pytest.param(
        "(uint8[5,7] x, int8[7,3] w) => (int32[a,b] y) { y = MatMulInteger (x, w) }",
        5 * 3 * 7,
        id="a matrix product of integers counts like float",
    ),
    pytest.param(
        "(uint8[1,4,8,6] x, uint8[8,4,3,3] w) => (uint8[a,b,c,d] y) <float s = {0.1}, uint8 z = {0}> "
        "{ y = QLinearConv <pads=[1,1,1,1]> (x, s, z, w, s, z, s, z) }",
        8 * H * W * (4 * 3 * 3),
        id="a QLinearConv counts like float",
    ),
    pytest.param(
        "(float[1,4,8,6] x, float[8,4,3,3] w) => (float[a,b,c,d] y) "
        '{ y = com.microsoft.FusedConv <pads=[1,1,1,1], activation="Relu"> (x, w) }',
        8 * H * W * (4 * 3 * 3),
        id="onnxruntime's FusedConv counts like Conv",
    ),
]


@pytest.mark.parametrize(("text", "macs"), [*FORMS, *ONNX_FORMS])
def test_count_macs(text: str, macs: int) -> None:
    report = count_macs(_parse(text))
    assert report.macs == macs
    assert report.uncounted == {}


@pytest.mark.parametrize(("text", "macs"), FORMS)
def test_count_macs_of_the_same_graph_in_openvino(text: str, macs: int, tmp_path: Path) -> None:
    report = count_macs(_to_openvino(_parse(text), tmp_path))
    assert report.macs == macs
    assert report.uncounted == {}


@pytest.mark.parametrize(("mode", "taps"), [("linear", 2), ("cubic", 4), ("nearest", 0)])
def test_count_macs_knows_the_names_of_modes_that_opset_20_gives(mode: str, taps: int) -> None:
    text = f'(float[1,3,8,6] x, float[1,4,5,2] g) => (float[a,b,c,d] y) {{ y = GridSample <mode="{mode}"> (x, g) }}'
    assert count_macs(_parse(text, opset=20)).macs == 3 * 4 * 5 * taps**2


def test_count_macs_samples_a_volume_with_eight_neighbours() -> None:
    text = "(float[1,3,4,8,6] x, float[1,2,4,5,3] g) => (float[a,b,c,d,e] y) { y = GridSample (x, g) }"
    assert count_macs(_parse(text, opset=20)).macs == 3 * 2 * 4 * 5 * 2**3


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param("y = Relu (x)", id="an activation"),
        pytest.param("y = Add (x, x)", id="a sum of two"),
        pytest.param("y = Softmax (x)", id="a softmax"),
        pytest.param("m = Mul (x, x)\n y = ReduceSum <keepdims=1> (m)", id="an attention written as Mul and ReduceSum"),
        pytest.param("y = MaxPool <kernel_shape=[2,2]> (x)", id="a maximum"),
        pytest.param("y = Transpose (x)", id="what only moves data"),
    ],
)
def test_count_macs_noop(nodes: str) -> None:
    report = count_macs(_parse(f"(float[1,4,8,6] x) => (float[a,b,c,d] y) {{ {nodes} }}"))
    assert (report.macs, report.by_op, report.by_node, report.uncounted) == (0, {}, {}, {})


def test_count_macs_counts_a_qdq_model_like_float() -> None:
    quantized = """(float[1,4,8,6] x, int8[8,4,3,3] w) => (float[a,b,c,d] y) <float s = {0.1}, int8 z = {0}> {
        x8 = QuantizeLinear (x, s, z)
        xf = DequantizeLinear (x8, s, z)
        wf = DequantizeLinear (w, s, z)
        yf = Conv <pads=[1,1,1,1]> (xf, wf)
        y8 = QuantizeLinear (yf, s, z)
        y = DequantizeLinear (y8, s, z)
    }"""
    assert count_macs(_parse(quantized)).by_op == count_macs(_parse(CONV)).by_op == {"Conv": 8 * H * W * 4 * 3 * 3}


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param("N", id="a dynamic batch counts as one"),
        pytest.param("1", id="a batch of one"),
        pytest.param("4", id="a fixed batch is divided by its pictures"),
    ],
)
def test_count_macs_is_of_one_picture(batch: str, tmp_path: Path) -> None:
    model = _parse(CONV.replace("float[1,", f"float[{batch},"))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((8, 4, 3, 3), np.float32), "w"))
    for report in (count_macs(model), count_macs(_to_openvino(model, tmp_path))):
        assert report.macs == 8 * H * W * (4 * 3 * 3)
        assert list(report.by_op.values()) == list(report.by_node.values()) == [report.macs]


def test_count_macs_of_inputs_with_different_first_sides_is_of_the_run() -> None:
    assert count_macs(_parse(CONV.replace("float[1,", "float[4,"))).macs == 4 * 8 * H * W * (4 * 3 * 3)


def test_count_macs_takes_a_dynamic_picture_for_256x192(tmp_path: Path) -> None:
    model = _parse(CONV.replace("float[1,4,8,6]", "float[N,4,H,W]"))
    assert count_macs(model).macs == 8 * 256 * 192 * (4 * 3 * 3)
    assert count_macs(_to_openvino(model, tmp_path)).macs == 8 * 256 * 192 * (4 * 3 * 3)


def test_count_macs_takes_a_dynamic_picture_for_the_size_of_the_run(tmp_path: Path) -> None:
    model = _parse(CONV.replace("float[1,4,8,6]", "float[N,4,H,W]"))
    for source in (model, _to_openvino(model, tmp_path)):
        assert count_macs(source, (64, 48)).macs == 8 * 64 * 48 * (4 * 3 * 3)
    assert count_macs(_parse(CONV), (64, 48)).macs == 8 * H * W * (4 * 3 * 3)  # a fixed size stays


def test_count_macs_sees_through_stale_shapes_of_a_model_that_became_dynamic() -> None:
    """A declared shape of a dynamic model, here of another size, does not stand against the inferred one."""
    model = _parse(CONV.replace("float[1,4,8,6]", "float[N,4,H,W]").replace("float[a,b,c,d] y", "float[N,8,2,2] y"))
    assert count_macs(model).macs == 8 * 256 * 192 * (4 * 3 * 3)


def test_count_macs_works_out_shapes_that_the_graph_computes() -> None:
    """As TorchScript writes an expand: its shape goes through Equal and Where, which inference does not follow."""
    text = """(float[1,4,1,1] x, float[8,4,1,1] w) => (float[a,b,c,d] y)
        <int64[4] wanted = {1, -1, 8, 6}, int64[4] ones = {1, 1, 1, 1}, int64[1] any = {-1}> {
        free = Equal (wanted, any)
        shape = Where (free, ones, wanted)
        wide = Expand (x, shape)
        y = Conv (wide, w)
    }"""
    report = count_macs(_parse(text))
    assert (report.by_op, report.uncounted) == ({"Conv": 8 * H * W * 4}, {})


def test_count_macs_lists_an_operation_without_a_rule() -> None:
    text = """(float[1,4,8,6] x, float[8,4,3,3] w) => (float[1,4,8,6] y) {
        c = Conv (x, w)
        a = custom.Fancy (x)
        b = custom.Fancy (x)
        y = custom.Other (a, b, c)
    }"""
    report = count_macs(_parse(text))
    assert report.uncounted == {"Fancy": 2, "Other": 1}
    assert report.macs == 8 * (H - 2) * (W - 2) * (4 * 3 * 3)  # what can be counted is


def test_count_macs_lists_an_operation_behind_an_unknown_shape() -> None:
    text = "(float[1,4,8,6] x, float[6,3] w) => (float[a,b,c,d] y) { a = custom.Fancy (x)\n y = MatMul (a, w) }"
    assert count_macs(_parse(text)).uncounted == {"Fancy": 1, "MatMul (unknown shape)": 1}


def test_count_macs_lists_an_operation_in_a_form_that_its_rule_does_not_know() -> None:
    text = '(float[2,3] x) => (float[a,b] y) { y = Einsum <equation="ij,jk,kl->il"> (x, x, x) }'
    model = _parse(text.replace("float[2,3]", "float[3,3]"))
    assert count_macs(model).uncounted == {"Einsum (unknown form)": 1}


def test_count_macs_lists_branches() -> None:
    text = """(bool c, float[1] x) => (float[a] y) {
        y = If (c) <
            then_branch = t () => (float[1] a) { a = Identity (x) },
            else_branch = e () => (float[1] b) { b = Neg (x) }
        >
    }"""
    assert count_macs(_parse(text)).uncounted == {"If": 1}


def test_count_macs_adds_up_by_operation_and_by_node() -> None:
    text = """(float[1,4,8,6] x, float[4,4,1,1] w, float[6,6] m) => (float[a,b,c,d] y) {
        [first] c1 = Conv (x, w)
        [first] c2 = Conv (c1, w)
        y = MatMul (c2, m)
    }"""
    report = count_macs(_parse(text))
    conv, product = 4 * H * W * 4, 4 * H * W * W
    assert report.by_op == {"Conv": 2 * conv, "MatMul": product}
    assert list(report.by_op.values()) == sorted(report.by_op.values(), reverse=True)
    assert report.by_node == {"first": conv, "c2": conv, "y": product}  # a name that is taken gives way
    assert report.macs == sum(report.by_op.values()) == sum(report.by_node.values())
    assert report.flops == FLOPS_PER_MAC * report.macs == 2 * report.macs


def test_count_macs_opens_local_functions() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        graph (float[5,7] x, float[7,3] w) => (float[a,b] y) { y = own.Product (x, w) }
        <domain: "own", opset_import: ["" : 17]>
        Product (p, q) => (r) { r = MatMul (p, q) }"""
    assert count_macs(onnx.parser.parse_model(text)).by_op == {"MatMul": 5 * 3 * 7}


def test_count_macs_does_not_change_a_model_in_memory(tmp_path: Path) -> None:
    model = _parse(CONV.replace("float[1,4,8,6]", "float[N,4,H,W]"))
    before = model.SerializeToString(deterministic=True)
    count_macs(model)
    assert model.SerializeToString(deterministic=True) == before
    compiled = _to_openvino(model, tmp_path)
    count_macs(compiled)
    assert compiled.input(0).partial_shape.is_dynamic


def test_count_macs_of_the_network_is_nearly_the_same_in_onnx_and_openvino(small_onnx: Path) -> None:
    """OpenVINO folds constants and writes normalisations in its own way; kernels and samples are the same."""
    import openvino

    before = count_macs(small_onnx)
    after = count_macs(openvino.Core().read_model(small_onnx))
    assert before.uncounted == after.uncounted == {}
    convolutions = sum(macs for op, macs in after.by_op.items() if "Convolution" in op)
    assert convolutions == sum(macs for op, macs in before.by_op.items() if op.startswith("Conv"))
    assert after.by_op["GridSample"] == before.by_op["GridSample"]


def test_count_macs_refuses_what_holds_no_graph(small_checkpoint: Path) -> None:
    with pytest.raises(InputError, match=r"small\.pth: checkpoint hold no graph to count; export them first"):
        count_macs(small_checkpoint)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("model.onnx", b"\x08\x08\x3a\xff", id="an ONNX model that is cut short"),
        pytest.param("model.xml", b"<?xml version='1.0'?><net", id="an IR that is cut short"),
    ],
)
def test_count_macs_names_a_damaged_file(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: .*; copy it again"):
        count_macs(tmp_path / name)


def test_no_operation_is_both_free_and_counted() -> None:
    assert not FREE & RULES.keys()

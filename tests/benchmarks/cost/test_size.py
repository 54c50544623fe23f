"""Size: bytes of all files of an artifact, and the numbers that are weights, each once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from vtopt.benchmarks.cost.size import count_parameters, measure_size
from vtopt.optimize.errors import InputError

KERNEL = np.arange(8 * 4 * 3 * 3, dtype=np.float32).reshape(8, 4, 3, 3) / 288
BIAS = np.linspace(-1, 1, 8, dtype=np.float32)
MATRIX = np.linspace(0, 1, 7 * 3, dtype=np.float32).reshape(7, 3)


def _parse(text: str, **weights: np.ndarray) -> onnx.ModelProto:
    """Read inputs, outputs and nodes, and add initialisers."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> graph {text}')
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return model


def _save(model: onnx.ModelProto, path: Path) -> Path:
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def _convert(source: Path, *, fp16: bool = False) -> Path:
    import openvino

    output = source.with_suffix(".xml")
    openvino.save_model(openvino.convert_model(source), output, compress_to_fp16=fp16)
    return output


CONV = "(float[1,4,8,6] x) => (float[1,8,6,4] y) { y = Conv (x, w, b) }"
"""A convolution of 8 x 4 x 3 x 3 weights and 8 biases."""


def test_measure_size_of_a_single_file_is_its_bytes(tmp_path: Path) -> None:
    path = _save(_parse(CONV, w=KERNEL, b=BIAS), tmp_path / "model.onnx")
    assert measure_size(path) == len(path.read_bytes())
    assert measure_size(path) > 4 * (KERNEL.size + BIAS.size)


def test_measure_size_of_a_checkpoint_is_its_bytes(small_checkpoint: Path) -> None:
    assert measure_size(small_checkpoint) == small_checkpoint.stat().st_size


def test_measure_size_of_an_ir_adds_its_bin(tmp_path: Path) -> None:
    path = _convert(_save(_parse(CONV, w=KERNEL, b=BIAS), tmp_path / "model.onnx"))
    assert measure_size(path) == path.stat().st_size + path.with_suffix(".bin").stat().st_size


def test_measure_size_of_onnx_adds_its_external_data_and_leaves_other_files_alone(tmp_path: Path) -> None:
    model = _parse(CONV, w=KERNEL, b=BIAS)
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="weights.data", size_threshold=0)
    (tmp_path / "other.data").write_bytes(b"0" * 1000)
    data = (tmp_path / "weights.data").stat().st_size
    assert data >= 4 * (KERNEL.size + BIAS.size)
    assert measure_size(tmp_path / "model.onnx") == (tmp_path / "model.onnx").stat().st_size + data


def test_measure_size_counts_several_external_files_once_each(tmp_path: Path) -> None:
    model = _parse(CONV, w=KERNEL, b=BIAS)
    onnx.save(
        model, tmp_path / "model.onnx", save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0
    )
    files = list(tmp_path.iterdir())
    assert len(files) == 3
    assert measure_size(tmp_path / "model.onnx") == sum(file.stat().st_size for file in files)


def test_measure_size_names_the_external_data_that_is_missing(tmp_path: Path) -> None:
    model = _parse(CONV, w=KERNEL, b=BIAS)
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="weights.data", size_threshold=0)
    (tmp_path / "weights.data").unlink()
    with pytest.raises(InputError, match=r"model\.onnx: weights\.data is missing beside it; copy all its files"):
        measure_size(tmp_path / "model.onnx")


def test_measure_size_names_the_bin_that_is_missing(tmp_path: Path) -> None:
    path = _convert(_save(_parse(CONV, w=KERNEL, b=BIAS), tmp_path / "model.onnx"))
    path.with_suffix(".bin").unlink()
    with pytest.raises(InputError, match=r"model\.xml: model\.bin is missing beside it"):
        measure_size(path)


@pytest.mark.parametrize("measure", [measure_size, count_parameters])
def test_measure_refuses_a_file_that_is_not_there(measure: Callable[[Path], int], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.onnx: no such file"):
        measure(tmp_path / "gone.onnx")


PICTURE = "(float[1,4,8,6] x) => (float[a,b,c,d] y)"

COUNTED = [
    pytest.param(CONV, {"w": KERNEL, "b": BIAS}, 8 * 4 * 3 * 3 + 8, id="a kernel and its bias"),
    pytest.param(
        f"{PICTURE} {{ c = Conv (x, w)\n y = Add (c, s) }}",
        {"w": KERNEL, "s": BIAS.reshape(1, 8, 1, 1)},
        8 * 4 * 3 * 3 + 8,
        id="a bias that is added afterwards",
    ),
    pytest.param(
        f"{PICTURE} {{ c = Conv <pads=[1,1,1,1]> (x, w)\n y = Conv <pads=[1,1,1,1]> (c, w) }}",
        {"w": KERNEL[:4]},
        4 * 4 * 3 * 3,
        id="a kernel that is used twice counts once",
    ),
    pytest.param("(float[5,7] x) => (float[a,b] y) { y = MatMul (x, w) }", {"w": MATRIX}, 7 * 3, id="a matrix"),
    pytest.param(
        "(float[5,3] x) => (float[a,b] y) { t = Transpose <perm=[1,0]> (w)\n y = MatMul (x, t) }",
        {"w": MATRIX},
        7 * 3,
        id="a matrix that is transposed",
    ),
    pytest.param(
        "(float[5,7] x) => (float[a,b] y) { y = Gemm (x, w, b) }",
        {"w": MATRIX, "b": BIAS[:3]},
        7 * 3 + 3,
        id="a matrix and its bias in Gemm",
    ),
    pytest.param(
        f"{PICTURE} {{ y = BatchNormalization (x, s, b, m, v) }}",
        {"s": BIAS[:4] + 2, "b": BIAS[:4], "m": BIAS[4:], "v": BIAS[4:] + 2},
        2 * 4,
        id="scale and shift of a normalisation, not its running statistics",
    ),
    pytest.param(
        "(float[5,7] x) => (float[a,b] y) "
        "{ m = ReduceMean <axes=[1]> (x)\n d = Sub (x, m)\n e = Mul (d, s)\n y = Add (e, b) }",
        {"s": MATRIX[:, 0] + 1, "b": MATRIX[:, 1]},
        2 * 7,
        id="scale and shift that are written as Mul and Add",
    ),
    pytest.param(
        f"{PICTURE} {{ y = PRelu (x, s) }}",
        {"s": BIAS[:4].reshape(4, 1, 1)},
        4,
        id="a slope of PRelu for each channel",
    ),
    pytest.param(f"{PICTURE} {{ y = PRelu (x, s) }}", {"s": BIAS[:1]}, 0, id="one slope of PRelu is a setting"),
    pytest.param(
        f"{PICTURE} {{ w = Cast <to=1> (h)\n y = Conv (x, w, b) }}",
        {"h": KERNEL.astype(np.float16), "b": BIAS},
        8 * 4 * 3 * 3 + 8,
        id="a kernel that is stored as float16 has as many numbers",
    ),
    pytest.param(
        f"""{PICTURE} {{
            x8 = QuantizeLinear (x, xs, z)
            xf = DequantizeLinear (x8, xs, z)
            w = DequantizeLinear <axis=0> (w8, ws, wz)
            b = DequantizeLinear <axis=0> (b32, bs, bz)
            yf = Conv (xf, w, b)
            y8 = QuantizeLinear (yf, xs, z)
            y = DequantizeLinear (y8, xs, z)
        }}""",
        {
            "xs": np.array(0.1, np.float32),
            "z": np.array(0, np.int8),
            "w8": (KERNEL * 127).astype(np.int8),
            "ws": np.full(8, 0.1, np.float32),
            "wz": np.zeros(8, np.int8),
            "b32": (BIAS * 1000).astype(np.int32),
            "bs": np.full(8, 0.01, np.float32),
            "bz": np.zeros(8, np.int32),
        },
        8 * 4 * 3 * 3 + 8,
        id="int8 weights count once, their scales and zero points do not",
    ),
    pytest.param(
        f"{PICTURE} {{ f = Cast <to=1> (w8)\n w = Mul (f, s)\n y = Conv (x, w, b) }}",
        {"w8": (KERNEL * 127).astype(np.int8), "s": BIAS.reshape(8, 1, 1, 1) + 2, "b": BIAS},
        8 * 4 * 3 * 3 + 8,
        id="int8 weights that are restored by Cast and Mul count once, their scales do not",
    ),
    pytest.param(
        f"{PICTURE} {{ f = Reshape (x, shape)\n y = Conv (f, w) }}",
        {"shape": np.array([1, 4, 6, 8]), "w": KERNEL},
        8 * 4 * 3 * 3,
        id="a shape is no weight",
    ),
    pytest.param(
        "(float[1,3,8,6] x, float[1,8,6,2] f) => (float[a,b,c,d] y) { g = Add (f, grid)\n y = GridSample (x, g) }",
        {"grid": np.zeros((1, 8, 6, 2), np.float32)},
        0,
        id="a grid of coordinates is no weight",
    ),
    pytest.param(
        f"{PICTURE} {{ m = Mul (x, k)\n y = Add (m, k) }}",
        {"k": np.array([2.0], np.float32)},
        0,
        id="single factors and addends are no weights",
    ),
    pytest.param(
        "(float[5,7] x, float[7,3] w) => (float[a,b] y) { y = MatMul (x, w) }",
        {},
        0,
        id="a matrix that is computed or fed is no weight",
    ),
]


@pytest.mark.parametrize(("text", "weights", "count"), COUNTED)
def test_count_parameters(text: str, weights: dict[str, np.ndarray], count: int, tmp_path: Path) -> None:
    assert count_parameters(_save(_parse(text, **weights), tmp_path / "model.onnx")) == count


@pytest.mark.parametrize(
    ("text", "weights", "count"),
    [param for param in COUNTED if "normalisation" not in str(param.id)],  # OpenVINO folds that one
)
def test_count_parameters_of_the_same_graph_in_openvino(
    text: str, weights: dict[str, np.ndarray], count: int, tmp_path: Path
) -> None:
    source = _save(_parse(text, **weights), tmp_path / "model.onnx")
    assert count_parameters(_convert(source)) == count


def test_count_parameters_of_a_compressed_ir_is_that_of_the_float_one(tmp_path: Path) -> None:
    source = _save(_parse(CONV, w=KERNEL, b=BIAS), tmp_path / "model.onnx")
    assert count_parameters(_convert(source, fp16=True)) == count_parameters(source)


def test_count_parameters_of_external_data_needs_no_data(tmp_path: Path) -> None:
    model = _parse(CONV, w=KERNEL, b=BIAS)
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="weights.data", size_threshold=0)
    (tmp_path / "weights.data").unlink()
    assert count_parameters(tmp_path / "model.onnx") == KERNEL.size + BIAS.size


def test_count_parameters_of_a_checkpoint_is_that_of_its_network(small_checkpoint: Path) -> None:
    """Not the optimiser's state, and the weights once beside their moving average."""
    from vtopt.optimize.weights import load_network

    module = load_network(small_checkpoint).module
    assert count_parameters(small_checkpoint) == sum(parameter.numel() for parameter in module.parameters())


def test_count_parameters_of_an_export_is_that_of_its_network_less_what_is_folded(tmp_path: Path) -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)
    before, folded = nn.BatchNorm2d(3), nn.BatchNorm2d(8)
    for norm in (before, folded):  # distinct numbers: the exporter keeps equal tensors once
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias)
    module = nn.Sequential(before, nn.ReLU(), nn.Conv2d(3, 8, 3, bias=False), folded, nn.ReLU(), nn.Conv2d(8, 3, 1))
    path = tmp_path / "model.onnx"
    torch.onnx.export(module.eval(), (torch.zeros(1, 3, 8, 6),), path, dynamo=False, opset_version=17)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    assert count_parameters(path) == parameters - 8  # scale and shift of `folded` became one bias a channel


def test_count_parameters_of_fp16_is_that_of_float(small_onnx: Path, tmp_path: Path) -> None:
    from vtopt.optimize.fp16 import cast_fp16

    half = tmp_path / "half.onnx"
    onnx.save(cast_fp16(onnx.load(small_onnx)), half)
    assert count_parameters(half) == count_parameters(small_onnx)

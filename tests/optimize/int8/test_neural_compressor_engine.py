"""Int8 by neural-compressor: convolutions of features in 8 bits, nothing that makes a grid, nothing printed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import ModelProto, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from vtopt.optimize.artifacts import Size
from vtopt.optimize.cpu_target import TARGETS
from vtopt.optimize.errors import InputError, MissingExtraError, UsageError
from vtopt.optimize.int8 import Int8Settings
from vtopt.optimize.int8.neural_compressor_engine import quantize_neural_compressor
from vtopt.optimize.networks import InputSpec, Network
from vtopt.optimize.provenance import read_history
from vtopt.optimize.quantize import quantize_onnx
from vtopt.optimize.warp import find_warps, list_grid_nodes, name_nodes

pytest.importorskip("torchao.quantization.pt2e")
pytest.importorskip("neural_compressor.torch.quantization")

WIDE = 16
SIZE = (32, 24)
SETTINGS = Int8Settings(TARGETS["vnni"], "mse")


class Warping(nn.Module):
    """Two encoders, a residual block whose first convolution is read beside its batch-norm, a head and a warp."""

    def __init__(self) -> None:
        super().__init__()
        self.feature, self.again = (nn.Conv2d(3, WIDE, 3, padding=1) for _ in range(2))
        self.norm = nn.BatchNorm2d(WIDE)
        self.deep = nn.Conv2d(WIDE, WIDE, 3, padding=1)
        self.head = nn.Conv2d(WIDE, 2, 3, padding=1)
        self.paint = nn.Conv2d(2 * WIDE + 2, 3, 1)

    def forward(self, person: Tensor, clothes: Tensor) -> Tensor:
        features = F.relu(self.feature(clothes))
        other = self.again(person)
        deep = other + F.relu(self.norm(other)) + self.deep(features)
        flow = torch.tanh(self.head(features)) * 0.5
        warped = F.grid_sample(features, flow.permute(0, 2, 3, 1), align_corners=False, padding_mode="border")
        return self.paint(torch.cat([warped, deep, flow], 1))


CONVOLUTIONS, HEADS = 5, 1


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    module = Warping().eval()
    module.norm.running_mean.fill_(0.3)  # type: ignore[union-attr]
    module.norm.running_var.fill_(4.0)  # type: ignore[union-attr]
    return Network(module, (InputSpec("person"), InputSpec("clothes")), size=SIZE, name="warping")


def _make_feeds(count: int = 3) -> Iterator[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    for _ in range(count):
        yield {name: rng.uniform(-1, 1, (1, 3, *SIZE)).astype(np.float32) for name in ("person", "clothes")}


@pytest.fixture(scope="module")
def quantized(network: Network) -> ModelProto:
    return quantize_neural_compressor(network, _make_feeds(), SETTINGS)


def _run(model: ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    made: Any = session.run(None, feeds)[0]
    return made


def _run_torch(network: Network, feeds: dict[str, np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        return network.module(*(torch.from_numpy(feeds[spec.name]) for spec in network.inputs)).numpy()


def _measure_psnr(made: np.ndarray, expected: np.ndarray) -> float:
    return 10 * np.log10(np.ptp(expected) ** 2 / np.mean((made.astype(np.float64) - expected) ** 2))


def _list_weights(model: ModelProto) -> list[np.ndarray]:
    """Return the stored weight of every convolution, behind DequantizeLinear or as it is."""
    makers = {output: node for node in model.graph.node for output in node.output}
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    names = [node.input[1] for node in model.graph.node if node.op_type == "Conv"]
    return [numpy_helper.to_array(tensors[makers[n].input[0] if n in makers else n]) for n in names]


def _list_kernels(model: ModelProto, folder: Path) -> list[str]:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]


def test_pictures_are_those_of_the_network_beside_a_batch_norm_that_is_not_alone(
    network: Network, quantized: ModelProto
) -> None:
    """torchao folds the batch-norm into the convolution for all that read it; that comes to less than 20 dB."""
    feeds = next(_make_feeds())
    assert _measure_psnr(_run(quantized, feeds), _run_torch(network, feeds)) > 35


def test_convolutions_but_the_heads_are_stored_as_int8(quantized: ModelProto) -> None:
    onnx.checker.check_model(quantized, full_check=True)
    kinds = [weight.dtype for weight in _list_weights(quantized)]
    assert kinds.count(np.dtype(np.int8)) == CONVOLUTIONS - HEADS
    assert kinds.count(np.dtype(np.float32)) == HEADS


def test_nothing_that_makes_a_grid_is_quantised(quantized: ModelProto) -> None:
    model = ModelProto.FromString(quantized.SerializeToString())
    name_nodes(model)
    kinds = {node.name: node.op_type for node in model.graph.node}
    grid = [kinds[name] for name in list_grid_nodes(find_warps(model))]
    assert "GridSample" in grid and "Conv" in grid
    assert not {"QuantizeLinear", "DequantizeLinear"}.intersection(grid)


def test_onnxruntime_computes_every_chosen_convolution_in_int8(quantized: ModelProto, tmp_path: Path) -> None:
    kernels = _list_kernels(quantized, tmp_path)
    assert kernels.count("QLinearConv") == CONVOLUTIONS - HEADS
    assert "AveragePool" not in kernels


@pytest.mark.parametrize(
    ("target", "largest", "kind"), [("avx2", 64, np.uint8), ("vnni", 128, np.uint8), ("arm64", 128, np.int8)]
)
def test_weights_and_activations_have_the_range_of_their_target(
    network: Network, target: str, largest: int, kind: type
) -> None:
    model = quantize_neural_compressor(network, _make_feeds(1), Int8Settings(TARGETS[target]))
    weights = [weight for weight in _list_weights(model) if weight.dtype == np.int8]
    assert all(largest - 2 <= np.abs(weight.astype(int)).max() <= largest for weight in weights)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    zeros = [tensors[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert {zero.dtype for zero in zeros} == {np.dtype(kind)}
    assert np.iinfo(kind).min in {int(zero) for zero in zeros}, "what a Relu makes has all the numbers"


def test_float_nodes_stay_float(network: Network) -> None:
    settings = replace(SETTINGS, float_nodes={"conv2d"})
    kinds = [weight.dtype for weight in _list_weights(quantize_neural_compressor(network, _make_feeds(1), settings))]
    assert kinds.count(np.dtype(np.int8)) == CONVOLUTIONS - HEADS - 1
    with pytest.raises(UsageError, match="not a convolution of the network: other"):
        quantize_neural_compressor(network, _make_feeds(1), replace(SETTINGS, float_nodes={"other"}))


def test_the_network_is_not_changed_and_the_same_input_gives_the_same_bytes(
    network: Network, quantized: ModelProto
) -> None:
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    again = quantize_neural_compressor(network, _make_feeds(), SETTINGS)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.module.state_dict().items())
    assert [n.op_type for n in again.graph.node] == [n.op_type for n in quantized.graph.node]
    feeds = next(_make_feeds())
    assert np.array_equal(_run(again, feeds), _run(quantized, feeds))


@pytest.mark.parametrize("ranges", ["entropy", "percentile"])
def test_ranges_it_does_not_have_are_refused(network: Network, ranges: Any) -> None:
    with pytest.raises(UsageError, match=f"no ranges by {ranges}; it takes minmax, mse"):
        quantize_neural_compressor(network, _make_feeds(), Int8Settings(TARGETS["vnni"], ranges))


def test_samples_that_are_missing_or_not_finite_are_refused(network: Network) -> None:
    with pytest.raises(InputError, match="no samples to calibrate on"):
        quantize_neural_compressor(network, [], SETTINGS)
    wrong = {name: np.full((1, 3, *SIZE), np.nan, np.float32) for name in ("person", "clothes")}
    with pytest.raises(InputError, match="sample 1: NaN"):
        quantize_neural_compressor(network, [wrong], SETTINGS)


def test_without_torchao_the_extra_is_named(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchao.quantization.pt2e", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vtopt\[neural-compressor\]'"):
        quantize_neural_compressor(network, _make_feeds(), SETTINGS)


def test_nothing_is_printed(network: Network, capfd: pytest.CaptureFixture[str]) -> None:
    quantize_neural_compressor(network, _make_feeds(1), SETTINGS)
    assert capfd.readouterr() == ("", "")


def test_quantize_takes_weights_and_says_what_it_did(
    small_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "int8.onnx"
    settings: dict[str, Any] = {"int8": True, "engine": "neural-compressor"}
    quantize_onnx(small_checkpoint, output, **settings, size=Size(64, 48), calibration_count=2, pair_count=1)
    record = read_history(output)[-1]
    assert (record.settings["engine"], record.settings["size"]) == ("neural-compressor", "64x48")
    assert (record.figures["ranges"], record.figures["calibrated_on_pairs"]) == ("mse", 2)
    assert record.figures["convolutions_float"] == 3 * 2  # 3 flow heads for each of 2 levels
    assert record.figures["convolutions_int8"] > record.figures["convolutions_float"]
    assert "WARNING" not in capfd.readouterr().err


def test_the_source_must_fit_the_engine(small_checkpoint: Path, small_onnx: Path, tmp_path: Path) -> None:
    output = tmp_path / "int8.onnx"
    with pytest.raises(UsageError, match="give it the weights, not ONNX"):
        quantize_onnx(small_onnx, output, int8=True, engine="neural-compressor")
    for settings in ({"int8": True}, {"fp16": True}, {"int8": True, "dynamic": True}, {"int8": True, "engine": "nncf"}):
        with pytest.raises(UsageError, match="weights are for --int8 --engine neural-compressor"):
            quantize_onnx(small_checkpoint, output, **settings)
    with pytest.raises(UsageError, match="--size is for weights"):
        quantize_onnx(small_onnx, output, int8=True, size=Size(64, 48))


def test_smooth_quant_has_nothing_for_convolutions() -> None:
    """It needs Intel's extension for PyTorch and lists linear layers alone; a version that can do more fails this."""
    from neural_compressor.torch.quantization import SmoothQuantConfig, prepare

    convolution = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 1))
    with pytest.raises(ImportError, match="intel_extension_for_pytorch"):
        prepare(convolution, SmoothQuantConfig(), example_inputs=(torch.zeros(1, 3, 8, 8),))
    SmoothQuantConfig.register_supported_configs()
    kinds = [kind for entry in SmoothQuantConfig.supported_configs for kind in entry.operators]
    assert kinds == [nn.Linear]

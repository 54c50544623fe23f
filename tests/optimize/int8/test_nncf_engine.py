"""Int8 by NNCF: convolutions of features in 8 bits on either runtime, nothing that makes a grid, nothing printed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from vtopt.optimize.cpu_target import TARGETS
from vtopt.optimize.errors import InputError, UsageError
from vtopt.optimize.int8 import Int8Settings
from vtopt.optimize.int8.nncf_engine import quantize_nncf
from vtopt.optimize.int8.settings import RangeMethod
from vtopt.optimize.rewrites.sites import Runtime

WIDE = 16
SETTINGS = Int8Settings(TARGETS["vnni"])

WARP = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,32,24] person, float[1,3,32,24] clothes) => (float[1,3,32,24] tryon) {
  [feature] raw = Conv <pads = [1, 1, 1, 1]> (clothes, w_feature, b_wide)
  [relu] features = Relu (raw)
  [again] other = Conv <pads = [1, 1, 1, 1]> (person, w_again, b_wide)
  [leaky] active = LeakyRelu <alpha = 0.1> (other)
  [deep] deep = Conv <pads = [1, 1, 1, 1]> (features, w_deep, b_wide)
  [head] flow = Conv <pads = [1, 1, 1, 1]> (features, w_head, b_two)
  [tanh] bounded = Tanh (flow)
  [turn] grid = Transpose <perm = [0, 2, 3, 1]> (bounded)
  [warp] warped = GridSample <padding_mode = "border"> (features, grid)
  [both] both = Concat <axis = 1> (warped, deep, bounded)
  [paint] painted = Conv (both, w_paint, b_three)
  [last] last = Conv (active, w_last, b_three)
  [add] tryon = Add (painted, last)
}"""
FEATURE_CONVOLUTIONS = {"feature", "again", "deep", "paint", "last"}
NONE = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,32,24] person, float[1,3,32,24] clothes) => (float[1,3,32,24] tryon) {
  tryon = Add (person, clothes)
}"""


def _make_model(text: str = WARP) -> ModelProto:
    rng = np.random.default_rng(0)
    shapes = {
        "w_feature": (WIDE, 3, 3, 3),
        "w_again": (WIDE, 3, 3, 3),
        "w_deep": (WIDE, WIDE, 3, 3),
        "w_head": (2, WIDE, 3, 3),
        "w_paint": (3, 2 * WIDE + 2, 1, 1),
        "w_last": (3, WIDE, 1, 1),
    }
    constants = {
        name: rng.normal(size=shape) / np.sqrt(np.prod(shape[1:])) / (50 if name == "w_head" else 1)
        for name, shape in shapes.items()
    }
    constants |= {"b_wide": rng.normal(size=WIDE) / 10, "b_two": np.zeros(2), "b_three": np.zeros(3)}
    model = onnx.parser.parse_model(text)
    used = {name for node in model.graph.node for name in node.input}
    for name, values in constants.items():
        if name in used:
            model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    onnx.checker.check_model(model, full_check=True)
    return model


def _make_feeds(count: int = 3) -> Iterator[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    for _ in range(count):
        yield {name: rng.uniform(-1, 1, (1, 3, 32, 24)).astype(np.float32) for name in ("person", "clothes")}


def _run(model: ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    made: Any = session.run(None, feeds)[0]
    return made


def _run_openvino(model: ModelProto, folder: Path, feeds: dict[str, np.ndarray]) -> np.ndarray:
    import openvino

    onnx.save(model, folder / "int8.onnx")
    compiled = openvino.compile_model(openvino.convert_model(folder / "int8.onnx"), "CPU")
    return compiled(feeds)[0]


def _measure_psnr(made: np.ndarray, expected: np.ndarray) -> float:
    return 10 * np.log10(2**2 / np.mean((made.astype(np.float64) - expected) ** 2))


def _name(model: ModelProto) -> dict[str, NodeProto]:
    return {node.name: node for node in model.graph.node}


def _read_weights(model: ModelProto) -> dict[str, np.ndarray]:
    """Return the stored weight of every convolution, behind DequantizeLinear or as it is."""
    makers = {output: node for node in model.graph.node for output in node.output}
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    stored = {name: node.input[1] for name, node in _name(model).items() if node.op_type == "Conv"}
    return {
        name: numpy_helper.to_array(tensors[makers[weight].input[0] if weight in makers else weight])
        for name, weight in stored.items()
    }


def _list_int8(model: ModelProto) -> set[str]:
    return {name for name, weight in _read_weights(model).items() if weight.dtype == np.int8}


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("target", "largest"), [("avx2", 64), ("vnni", 127), ("arm64", 127)])
def test_convolutions_of_features_are_int8_in_the_range_of_the_target(
    target: str, largest: int, runtime: Runtime
) -> None:
    model = quantize_nncf(_make_model(), _make_feeds(), Int8Settings(TARGETS[target]), runtime=runtime)
    assert _list_int8(model) == FEATURE_CONVOLUTIONS
    for name in FEATURE_CONVOLUTIONS:
        assert largest - 1 <= np.abs(_read_weights(model)[name].astype(int)).max() <= largest + 1


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_what_makes_a_grid_reads_float_where_a_convolution_reads_the_same_in_int8(runtime: Runtime) -> None:
    text = WARP.replace("Relu (raw)", "Abs (raw)")  # no int8 kernel makes it, so it has a float form
    nodes = _name(quantize_nncf(_make_model(text), _make_feeds(), SETTINGS, runtime=runtime))
    assert nodes["head"].input[0] == nodes["warp"].input[0] == "features"
    assert nodes["deep"].input[0] != "features"
    assert [nodes[name].input[0] for name in ("tanh", "turn")] == ["flow", "bounded"]
    assert nodes["warp"].input[1] == "grid"


@pytest.mark.parametrize(
    ("target", "kind"), [("avx2", TensorProto.UINT8), ("vnni", TensorProto.UINT8), ("arm64", TensorProto.INT8)]
)
def test_activations_have_the_sign_of_their_target(target: str, kind: int) -> None:
    model = quantize_nncf(_make_model(), _make_feeds(), Int8Settings(TARGETS[target]))
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    zeros = [tensors[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert {zero.data_type for zero in zeros} == {kind}
    least = -128 if target == "arm64" else 0
    assert least in {int(numpy_helper.to_array(zero)) for zero in zeros}, "what a Relu makes has all the numbers"


def test_onnxruntime_computes_every_chosen_convolution_in_int8(tmp_path: Path) -> None:
    """With NNCF's own places for Q/DQ, and its mixture of int8 and uint8, it computes most of them in float."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    model = quantize_nncf(_make_model(), _make_feeds(), SETTINGS)
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kernels = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert kernels.count("QLinearConv") == len(FEATURE_CONVOLUTIONS)


def test_for_openvino_a_convolution_and_its_activation_are_quantised_together() -> None:
    for runtime, between in (("openvino", "Conv"), ("onnxruntime", "DequantizeLinear")):
        model = quantize_nncf(_make_model(), _make_feeds(), SETTINGS, runtime=runtime)
        makers = {output: node for node in model.graph.node for output in node.output}
        assert makers[_name(model)["leaky"].input[0]].op_type == between
        assert makers[_name(model)["last"].input[0]].op_type == "DequantizeLinear"


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("target", ["avx2", "arm64"])
def test_pictures_stay_near_on_both_runtimes(target: str, runtime: Runtime, tmp_path: Path) -> None:
    """30 dB on noise through random weights."""
    feeds = next(_make_feeds(1))
    expected = _run(_make_model(), feeds)
    model = quantize_nncf(_make_model(), _make_feeds(), Int8Settings(TARGETS[target]), runtime=runtime)
    assert _measure_psnr(_run(model, feeds), expected) >= 30
    assert _measure_psnr(_run_openvino(model, tmp_path, feeds), expected) >= 30


def test_a_network_with_warps_runs_in_int8_on_both_runtimes(small_onnx: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    sides = (1, 3, 64, 48)
    samples = [{name: rng.uniform(-1, 1, sides).astype(np.float32) for name in ("person", "clothes")} for _ in range(2)]
    source = onnx.load(small_onnx)
    before = source.SerializeToString()
    model = quantize_nncf(source, samples, SETTINGS)
    assert source.SerializeToString() == before
    expected = _run(source, samples[0])
    assert _measure_psnr(_run(model, samples[0]), expected) >= 30
    assert _measure_psnr(_run_openvino(model, tmp_path, samples[0]), expected) >= 30
    assert len(_list_int8(model)) == len(_read_weights(model)) - 6  # three heads at each of two levels


def test_the_same_model_gives_the_same_bytes() -> None:
    one, two = (quantize_nncf(_make_model(), _make_feeds(), SETTINGS) for _ in range(2))
    assert one.SerializeToString() == two.SerializeToString()


def test_named_convolutions_stay_float() -> None:
    settings = Int8Settings(TARGETS["vnni"], float_nodes={"deep", "head"})
    assert _list_int8(quantize_nncf(_make_model(), _make_feeds(), settings)) == FEATURE_CONVOLUTIONS - {"deep"}


def test_a_model_without_convolutions_is_left_alone() -> None:
    assert [node.op_type for node in quantize_nncf(_make_model(NONE), _make_feeds(), SETTINGS).graph.node] == ["Add"]


def test_ranges_follow_the_settings() -> None:
    """One number far from the others widens the range of extremes most."""
    samples = list(_make_feeds(1))
    samples[0]["person"][0, 0, 0, 0] = 100

    def find_scale(ranges: RangeMethod) -> float:
        model = quantize_nncf(_make_model(), samples, Int8Settings(TARGETS["vnni"], ranges))
        scale = next(node.input[1] for node in model.graph.node if node.input[0] == "person")
        return next(float(numpy_helper.to_array(one)) for one in model.graph.initializer if one.name == scale)

    assert find_scale("minmax") == pytest.approx((100 + 1) / 255, rel=0.01)
    assert find_scale("percentile") < 0.9 * find_scale("minmax")
    assert find_scale("mse") != find_scale("minmax")


def test_calibration_is_read_once_and_one_sample_at_a_time() -> None:
    alive = read = 0

    def give() -> Iterator[dict[str, np.ndarray]]:
        nonlocal alive, read
        for feeds in _make_feeds(3):
            alive += 1
            assert alive == 1
            yield feeds
            alive -= 1
            read += 1

    quantize_nncf(_make_model(), give(), SETTINGS)
    assert (alive, read) == (0, 3)


def test_nothing_is_printed_and_nothing_is_sent(capfd: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    import nncf.telemetry.decorator

    sent, said = [], []
    monkeypatch.setattr(nncf.telemetry.decorator.telemetry, "send_event", lambda **event: sent.append(event))
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", said.append)
    logger = logging.getLogger("nncf")
    logger.addHandler(handler)
    try:
        quantize_nncf(_make_model(), _make_feeds(), SETTINGS)
    finally:
        logger.removeHandler(handler)
    assert (sent, said, *capfd.readouterr()) == ([], [], "", "")


def test_bad_settings_and_models_are_refused() -> None:
    with pytest.raises(UsageError, match="NNCF has no ranges by entropy; it takes minmax, percentile, mse"):
        quantize_nncf(_make_model(), _make_feeds(), Int8Settings(TARGETS["vnni"], "entropy"))
    with pytest.raises(UsageError, match="not a convolution of the model: nothing; it has feature, again"):
        quantize_nncf(_make_model(), _make_feeds(), Int8Settings(TARGETS["vnni"], float_nodes={"nothing"}))
    with pytest.raises(InputError, match="opset 12, and NNCF needs 13"):
        quantize_nncf(_make_model(NONE.replace("17", "12")), _make_feeds(), SETTINGS)
    with pytest.raises(InputError, match="int8 already; quantise the float32 model"):
        quantize_nncf(quantize_nncf(_make_model(), _make_feeds(), SETTINGS), _make_feeds(), SETTINGS)


def test_bad_samples_are_refused() -> None:
    with pytest.raises(InputError, match="no samples to calibrate on"):
        quantize_nncf(_make_model(), [], SETTINGS)
    samples = list(_make_feeds(2))
    samples[1]["person"][0, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="calibration sample 2: NaN or infinite values in input 'person'"):
        quantize_nncf(_make_model(), samples, SETTINGS)
    with pytest.raises(InputError, match=r"NNCF cannot quantise the model: .*engine onnxruntime"):
        quantize_nncf(_make_model(), [{"person": samples[0]["person"]}], SETTINGS)

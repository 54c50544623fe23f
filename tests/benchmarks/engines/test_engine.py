"""Engines: the runtimes agree on a network, and what does not fit is refused with the file's name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from vtopt.benchmarks.engines import runtimes
from vtopt.benchmarks.engines.engine import Engine, feed_pair, infer_picture, open_engine
from vtopt.benchmarks.engines.runtimes import RUNTIMES
from vtopt.benchmarks.host import count_cpus
from vtopt.optimize.data.pairs import open_pairs
from vtopt.optimize.errors import InputError, MissingExtraError, NetworkError

SIZE = (64, 48)
"""Height and width of `small_onnx`."""
AGREE = 1e-4
"""Largest difference between runtimes in float32, on the scale of [-1, 1]: they add in another order."""

BLEND = """<ir_version: 8, opset_import: ["" : 17]>
graph (float[1,3,32,24] person, float[1,3,32,24] clothes) => (float[1,3,32,24] tryon) {
    tryon = Max (person, clothes)
}"""


def _save(text: str, path: Path) -> Path:
    onnx.save(onnx.parser.parse_model(text), path)
    return path


@pytest.fixture
def blend(tmp_path: Path) -> Path:
    """A model that makes the brighter of person and clothes, at 32x24."""
    return _save(BLEND, tmp_path / "blend.onnx")


def _feed(engine: Engine, value: float = 0.5, size: tuple[int, int] = (32, 24)) -> dict[str, np.ndarray]:
    return {name: np.full((1, 3, *size), value, np.float32) for name in engine.inputs}


@pytest.fixture(scope="module")
def small_ir(small_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network as OpenVINO IR in float32, without what vtopt writes into it."""
    import openvino

    output = tmp_path_factory.mktemp("ir") / "small.xml"
    openvino.save_model(openvino.convert_model(small_onnx), output, compress_to_fp16=False)
    return output


def test_runtimes_agree_on_a_network(small_checkpoint: Path, small_onnx: Path, small_ir: Path) -> None:
    (pair,) = open_pairs(None, SIZE, 1)
    engines = [
        open_engine(small_checkpoint, threads=1),
        open_engine(small_onnx, threads=1),
        open_engine(small_onnx, runtime="openvino", threads=1),
        open_engine(small_ir, threads=1),
    ]
    assert [engine.runtime for engine in engines] == ["torch", "onnxruntime", "openvino", "openvino"]
    reference, *others = (infer_picture(engine, pair) for engine in engines)
    assert reference.shape == (3, *SIZE)
    assert reference.std() > 10 * AGREE  # it is a picture, so that agreeing tells something
    for picture in others:
        np.testing.assert_allclose(picture, reference, rtol=0, atol=AGREE)


def test_open_engine_says_what_the_model_takes_and_makes(small_onnx: Path) -> None:
    engine = open_engine(small_onnx, threads=1)
    assert {name: shape[2:] for name, shape in engine.inputs.items()} == dict.fromkeys(engine.inputs, SIZE)
    assert set(engine.pictures) == set(engine.inputs)
    assert (engine.outputs[0], engine.size, engine.threads, engine.path) == ("tryon", SIZE, 1, small_onnx)


def test_open_engine_of_weights_leaves_the_size_open(small_checkpoint: Path) -> None:
    engine = open_engine(small_checkpoint, threads=1)
    assert all(shape[0] is None and shape[2:] == (None, None) for shape in engine.inputs.values())
    assert engine.size == (256, 192)  # the network's own


def test_open_engine_believes_what_an_export_says_of_its_inputs(tmp_path: Path) -> None:
    from vtopt.optimize.provenance import set_onnx_metadata

    text = BLEND.replace("person", "first").replace("clothes", "second")
    plain = _save(text, tmp_path / "plain.onnx")
    model = onnx.load(plain)
    set_onnx_metadata(model, {"vtopt.pictures": '{"first": "clothes", "second": "person"}'})
    onnx.save(model, tmp_path / "told.onnx")
    assert open_engine(plain, threads=1).pictures == {"first": "person", "second": "clothes"}
    assert open_engine(tmp_path / "told.onnx", threads=1).pictures == {"first": "clothes", "second": "person"}


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_open_engine_runs_an_engine_again_without_changing_what_it_made(runtime: str, blend: Path) -> None:
    engine = open_engine(blend, runtime=runtime, threads=1)
    first = engine.run(_feed(engine, 0.5))["tryon"]
    second = engine.run(_feed(engine, -0.5))["tryon"]
    assert (first == 0.5).all()
    assert (second == -0.5).all()


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_engines_cast_inputs_to_the_types_of_the_model(runtime: str, dtype: type, tmp_path: Path) -> None:
    """A model that takes float16 and makes float16 gets and gives it; the engine speaks float32."""
    half = _save(BLEND.replace("float[", "float16["), tmp_path / "half.onnx")
    engine = open_engine(half, runtime=runtime, threads=1)
    feeds = {name: array.astype(dtype) for name, array in _feed(engine, 1 / 3).items()}
    made = engine.run(feeds)["tryon"]
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, 1 / 3, rtol=2.0**-11)  # half a unit in the last place of float16


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_engines_take_arrays_that_are_not_contiguous(runtime: str, blend: Path) -> None:
    engine = open_engine(blend, runtime=runtime, threads=1)
    turned = np.random.default_rng(0).random((1, 3, 24, 32), np.float32).transpose(0, 1, 3, 2)
    made = engine.run(dict.fromkeys(engine.inputs, turned))["tryon"]
    np.testing.assert_array_equal(made, turned)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_open_engine_runs_a_dynamic_size(runtime: str, tmp_path: Path) -> None:
    path = _save(BLEND.replace("[1,3,32,24]", "[N,3,H,W]"), tmp_path / "dynamic.onnx")
    engine = open_engine(path, runtime=runtime, threads=1)
    assert set(engine.inputs.values()) == {(None, 3, None, None)}
    assert engine.size == (256, 192)  # what is taken where a model leaves it open
    (pair,) = open_pairs(None, (48, 36), 1)
    np.testing.assert_array_equal(infer_picture(engine, pair), np.maximum(pair.person, pair.clothes))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_open_engine_keeps_the_names_and_the_order_of_outputs(runtime: str, tmp_path: Path) -> None:
    text = BLEND.replace("(float[1,3,32,24] tryon)", "(float[1,3,32,24] flow, float[1,3,32,24] tryon)").replace(
        "{\n", "{\n    flow = Min (person, clothes)\n"
    )
    engine = open_engine(_save(text, tmp_path / "two.onnx"), runtime=runtime, threads=1)
    assert engine.outputs == ("flow", "tryon")
    (pair,) = open_pairs(None, (32, 24), 1)
    np.testing.assert_array_equal(infer_picture(engine, pair), np.maximum(pair.person, pair.clothes))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_open_engine_precise_gives_the_same_picture_in_float(runtime: str, blend: Path) -> None:
    engine = open_engine(blend, runtime=runtime, threads=1, precise=True)
    assert (engine.run(_feed(engine))["tryon"] == 0.5).all()


@pytest.mark.parametrize("precise", [False, True])
def test_open_engine_precise_runs_int8_convolutions_that_share_their_weights(precise: bool, tmp_path: Path) -> None:
    """Integers up to 127 and a scale of 1: what int8 kernels make is exact, and so is what float kernels make."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    graph (float[1,1,4,4] person, float[1,1,4,4] clothes) => (float[1,1,4,4] tryon)
    <float s = {1.0}, int8 z = {0}, int8[1,1,1,1] w8 = {3}> {
        w = DequantizeLinear (w8, s, z)
        p8 = QuantizeLinear (person, s, z)
        p = DequantizeLinear (p8, s, z)
        c8 = QuantizeLinear (clothes, s, z)
        c = DequantizeLinear (c8, s, z)
        pw = Conv (p, w)
        cw = Conv (c, w)
        p3 = QuantizeLinear (pw, s, z)
        c3 = QuantizeLinear (cw, s, z)
        py = DequantizeLinear (p3, s, z)
        cy = DequantizeLinear (c3, s, z)
        tryon = Add (py, cy)
    }"""
    engine = open_engine(_save(text, tmp_path / "shared.onnx"), threads=1, precise=precise)
    ones = np.ones((1, 1, 4, 4), np.float32)
    np.testing.assert_array_equal(engine.run({"person": 5 * ones, "clothes": 7 * ones})["tryon"], 3 * (5 + 7) * ones)


def test_open_engine_of_weights_leaves_the_threads_of_torch_alone(small_checkpoint: Path) -> None:
    import torch

    before = torch.get_num_threads()
    engine = open_engine(small_checkpoint, threads=before + 1)
    (pair,) = open_pairs(None, SIZE, 1)
    engine.run(feed_pair(engine, pair))
    assert torch.get_num_threads() == before


def test_open_engine_takes_the_cores_that_are_there(blend: Path) -> None:
    assert open_engine(blend).threads == count_cpus()
    assert open_engine(blend, threads=3).threads == 3


@pytest.mark.parametrize("threads", [0, -1])
def test_open_engine_refuses_too_few_threads(threads: int, blend: Path) -> None:
    with pytest.raises(InputError, match=f"threads: {threads} is too few; give 1 or more"):
        open_engine(blend, threads=threads)


@pytest.mark.parametrize(
    ("file", "runtime", "choice"),
    [
        pytest.param("small_onnx", "torch", "kind onnx; choose onnxruntime or openvino", id="ONNX in torch"),
        pytest.param("small_checkpoint", "onnxruntime", "kind checkpoint; choose torch", id="weights in onnxruntime"),
        pytest.param("small_ir", "onnxruntime", "kind openvino; choose openvino", id="IR in onnxruntime"),
    ],
)
def test_open_engine_refuses_a_runtime_that_does_not_run_the_file(
    file: str, runtime: str, choice: str, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(InputError, match=f"{runtime} does not run a file of {choice}"):
        open_engine(request.getfixturevalue(file), runtime=runtime)


def test_open_engine_names_the_runtimes_it_knows(blend: Path) -> None:
    with pytest.raises(InputError, match=f"runtime 'tvm' is not known; choose one of {', '.join(RUNTIMES)}"):
        open_engine(blend, runtime="tvm")


@pytest.mark.parametrize(
    ("name", "runtime", "content"),
    [
        pytest.param("model.onnx", "onnxruntime", b"\x08\x08\x3a\xff\xff", id="ONNX in onnxruntime"),
        pytest.param("model.onnx", "openvino", b"\x08\x08\x3a\xff\xff", id="ONNX in OpenVINO"),
        pytest.param("model.xml", "openvino", b"<?xml version='1.0'?><net", id="IR"),
    ],
)
def test_open_engine_names_a_damaged_model(name: str, runtime: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: {runtime} cannot load it: .+; make it again from its parent"):
        open_engine(tmp_path / name, runtime=runtime, threads=1)


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
def test_open_engine_names_damaged_weights(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(InputError, match=name):
        open_engine(tmp_path / name, threads=1)


def test_open_engine_refuses_an_ir_without_its_bin(small_ir: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.xml"
    alone.write_bytes(small_ir.read_bytes())
    with pytest.raises(InputError, match=r"alone\.xml: openvino cannot load it"):
        open_engine(alone, threads=1)


def test_open_engine_refuses_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.onnx: no such file"):
        open_engine(tmp_path / "gone.onnx")


def test_open_engine_refuses_a_model_without_inputs(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    graph () => (float[1] y) { y = Constant <value_floats = [1.0]> () }"""
    with pytest.raises(InputError, match="has 0 inputs and 1 outputs; export again"):
        open_engine(_save(text, tmp_path / "constant.onnx"), threads=1)


def test_open_engine_keeps_the_error_of_weights_that_name_no_network(tmp_path: Path) -> None:
    import torch

    torch.save({"weight": torch.zeros(3)}, tmp_path / "bare.pth")
    with pytest.raises(NetworkError, match="pass --network"):
        open_engine(tmp_path / "bare.pth", threads=1)


def test_open_engine_names_the_package_that_is_missing(blend: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def miss(name: str) -> None:
        raise MissingExtraError(f"{name} cannot be imported; run: pip install 'vtopt[{name}]'")

    monkeypatch.setattr(runtimes, "need", miss)
    with pytest.raises(MissingExtraError, match=r"pip install 'vtopt\[openvino\]'"):
        open_engine(blend, runtime="openvino", threads=1)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_engine_names_the_input_that_was_not_given(runtime: str, blend: Path) -> None:
    engine = open_engine(blend, runtime=runtime, threads=1)
    feeds = _feed(engine)
    del feeds["clothes"]
    with pytest.raises(InputError, match=r"blend\.onnx: input 'clothes' was not given; it takes person, clothes"):
        engine.run(feeds)


def test_engine_ignores_what_is_not_its_input(blend: Path) -> None:
    engine = open_engine(blend, threads=1)
    made = engine.run({**_feed(engine), "edge": np.zeros((1, 1, 32, 24), np.float32)})
    assert (made["tryon"] == 0.5).all()


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("shape", "written"),
    [
        pytest.param((1, 3, 24, 32), "1x3x24x32", id="height and width swapped"),
        pytest.param((2, 3, 32, 24), "2x3x32x24", id="another batch"),
        pytest.param((3, 32, 24), "3x32x24", id="no batch"),
    ],
)
def test_engine_refuses_another_shape(runtime: str, shape: tuple[int, ...], written: str, blend: Path) -> None:
    engine = open_engine(blend, runtime=runtime, threads=1)
    feeds = _feed(engine) | {"person": np.zeros(shape, np.float32)}
    with pytest.raises(InputError) as caught:
        engine.run(feeds)
    assert str(caught.value) == (f"{blend}: input 'person' is 1x3x32x24, it was given {written}; feed it 1x3x32x24")


@pytest.mark.parametrize("threads", [1, 2])  # OpenVINO itself is silent with one
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param("tryon = Max (person, clothes)", id="two pictures of different sizes"),
        pytest.param(
            "sides = Constant <value_ints = [1, 3, 32, 24]> () tryon = Reshape (clothes, sides)",
            id="a size that is fixed inside the model",
        ),
    ],
)
def test_engine_turns_an_error_of_the_runtime_to_one_that_names_the_file(
    nodes: str, runtime: str, threads: int, tmp_path: Path
) -> None:
    """A dynamic model takes any size, and fails only when it is run."""
    text = BLEND.replace("[1,3,32,24]", "[N,3,H,W]").replace("tryon = Max (person, clothes)", nodes)
    engine = open_engine(_save(text, tmp_path / "dynamic.onnx"), runtime=runtime, threads=threads)
    feeds = {"person": np.zeros((1, 3, 32, 24), np.float32), "clothes": np.zeros((1, 3, 30, 20), np.float32)}
    with pytest.raises(InputError, match=rf"dynamic\.onnx: {runtime} fails to run it: .+; try another --runtime"):
        engine.run(feeds)

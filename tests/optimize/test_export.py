"""Exporting: the graph makes the network's pictures, and a failure leaves nothing behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from vtopt.optimize import export
from vtopt.optimize.artifacts import Size
from vtopt.optimize.errors import (
    DifferenceError,
    InputError,
    NetworkError,
    OutputError,
    VtoptError,
)
from vtopt.optimize.export import MAX_RELATIVE_DIFFERENCE, export_onnx
from vtopt.optimize.networks import build_network
from vtopt.optimize.provenance import read_history, read_pictures
from vtopt.optimize.weights import load_network

OWN = "own_tryon:build"
OWN_SOURCE = '''
import torch
from torch import nn
from vtopt.optimize.networks import InputSpec, Network

class TryOn(nn.Module):
    """Warps the clothes by a flow, and paints them over the person."""

    def __init__(self):
        super().__init__()
        self.flow = nn.Conv2d(6, 2, 3, padding=1)
        self.paint = nn.Conv2d(3, 3, 1)

    def forward(self, person, clothes):
        flow = torch.tanh(self.flow(torch.cat([person, clothes], 1)))
        grid = flow.permute(0, 2, 3, 1)
        warped = nn.functional.grid_sample(clothes, grid, padding_mode="border", align_corners=False)
        return self.paint(warped) + person

def build():
    return Network(TryOn(), inputs=(InputSpec("person"), InputSpec("clothes")), size=(32, 24), multiple_of=4)

def build_three():
    inputs = (InputSpec("person"), InputSpec("clothes"), InputSpec("edge", 1))
    return Network(TryOn(), inputs=inputs, size=(32, 24))
'''


@pytest.fixture(scope="module")
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a user's own network, own_tryon.py, and its weights, own.pth."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_tryon.py").write_text(OWN_SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        torch.manual_seed(0)
        torch.save(build_network(OWN).module.state_dict(), folder / "own.pth")
    yield folder
    sys.modules.pop("own_tryon", None)


@pytest.fixture
def own(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights of that network, with its folder as the working folder."""
    monkeypatch.chdir(own_folder)
    return own_folder / "own.pth"


@pytest.fixture(scope="module")
def dynamic(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small SDAFN_plus at 64x48, by dynamo, with a dynamic batch."""
    output = tmp_path_factory.mktemp("dynamic") / "small.onnx"
    return export_onnx(small_checkpoint, output, size=Size(64, 48), exporter="dynamo", dynamic_batch=True, pair_count=1)


def _export(source: Path, output: Path, **settings: Any) -> Path:
    """Export the own network with TorchScript, which is quick."""
    return export_onnx(source, output, **{"network": OWN, "exporter": "torchscript", "pair_count": 1, **settings})


def _require_parity(path: Path, source: Path, batch: int, network: str | None = None) -> None:
    size = tuple(side.dim_value for side in onnx.load(path).graph.input[0].type.tensor_type.shape.dim[2:])
    generator = torch.Generator().manual_seed(batch)
    person, clothes = (torch.rand((batch, 3, *size), generator=generator) * 2 - 1 for _ in range(2))
    with torch.no_grad():
        expected = load_network(source, network).module(person, clothes).numpy()
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    made: Any = session.run(["tryon"], {"person": person.numpy(), "clothes": clothes.numpy()})[0]
    assert made.shape == expected.shape
    assert np.abs(made - expected).max() <= MAX_RELATIVE_DIFFERENCE * np.abs(expected).max()


def test_export_of_sdafn_plus_equals_torch(small_checkpoint: Path, small_onnx: Path) -> None:
    _require_parity(small_onnx, small_checkpoint, batch=1)


def test_export_names_inputs_and_outputs(small_onnx: Path, dynamic: Path) -> None:
    for path in (small_onnx, dynamic):
        graph = onnx.load(path).graph
        assert [value.name for value in graph.input] == ["person", "clothes"]
        assert [value.name for value in graph.output] == ["tryon"]
        assert read_pictures(path) == {"person": "person", "clothes": "clothes"}


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_dynamic_batch_runs_with_any(small_checkpoint: Path, dynamic: Path, batch: int) -> None:
    _require_parity(dynamic, small_checkpoint, batch)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_dynamic_batch_runs_with_any_by_torchscript(own: Path, tmp_path: Path, batch: int) -> None:
    _require_parity(_export(own, tmp_path / "own.onnx", dynamic_batch=True), own, batch, OWN)


def test_a_batch_is_fixed_unless_asked(own: Path, tmp_path: Path) -> None:
    session = ort.InferenceSession(_export(own, tmp_path / "own.onnx"), providers=["CPUExecutionProvider"])
    assert [node.shape for node in session.get_inputs()] == [[1, 3, 32, 24]] * 2


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize("opset", [16, 17, 18])
def test_the_opset_is_the_one_asked_for(own: Path, tmp_path: Path, opset: int, exporter: str) -> None:
    model = onnx.load(_export(own, tmp_path / "own.onnx", opset=opset, exporter=exporter))
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == opset
    (warp,) = [node for node in model.graph.node if node.op_type == "GridSample"]
    assert {a.name: a.s or a.i for a in warp.attribute} == {
        "mode": b"bilinear", "padding_mode": b"border", "align_corners": 0
    }  # fmt: skip


def test_the_default_opset_is_17(small_onnx: Path) -> None:
    assert {entry.domain: entry.version for entry in onnx.load(small_onnx).opset_import}[""] == 17


def test_an_opset_that_dynamo_cannot_write_is_not_taken_for_granted(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = torch.onnx.export

    def write_18(*arguments: Any, **settings: Any) -> Any:
        return write(*arguments, **{**settings, "opset_version": 18})

    monkeypatch.setattr(torch.onnx, "export", write_18)
    with pytest.raises(VtoptError, match="cannot write opset 17, only 18"):
        _export(own, tmp_path / "own.onnx", exporter="dynamo")


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_no_source_path_is_in_the_file(own: Path, tmp_path: Path, exporter: str) -> None:
    content = _export(own, tmp_path / "own.onnx", exporter=exporter).read_bytes()
    for trace in (b"own_tryon.py", b"site-packages", b"forward", str(own.parent).encode(), b'File "'):
        assert trace not in content


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_equal_weights_give_equal_bytes(own: Path, tmp_path: Path, exporter: str) -> None:
    one = _export(own, tmp_path / "one.onnx", exporter=exporter)
    two = _export(own, tmp_path / "two.onnx", exporter=exporter)
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_nothing_is_printed(own: Path, tmp_path: Path, exporter: str, capfd: pytest.CaptureFixture[str]) -> None:
    _export(own, tmp_path / "own.onnx", exporter=exporter)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_the_log_is_as_it_was_after_an_export(own: Path, tmp_path: Path) -> None:
    import logging

    _export(own, tmp_path / "own.onnx")
    assert logging.root.manager.disable == logging.NOTSET


def test_the_record_has_settings_and_figures(own: Path, tmp_path: Path) -> None:
    (record,) = read_history(_export(own, tmp_path / "own.onnx", size=Size(32, 24)))
    assert (record.step, record.parent, list(record.notices)) == ("export", "own.pth", [])
    assert (record.settings["opset"], record.settings["size"]) == (17, "32x24")
    assert record.figures["nodes"] == len(onnx.load(tmp_path / "own.onnx").graph.node)
    assert record.figures["max_relative"] <= MAX_RELATIVE_DIFFERENCE


def test_auto_falls_back_to_torchscript_and_says_so(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        try:
            raise KeyError("aten.strange")
        except KeyError as cause:
            raise RuntimeError("This is step 1/3") from cause

    monkeypatch.setattr(export, "trace_dynamo", fail)
    (record,) = read_history(_export(own, tmp_path / "own.onnx", exporter="auto"))
    assert list(record.notices) == ["the dynamo exporter failed, TorchScript was used: 'aten.strange'"]
    _require_parity(tmp_path / "own.onnx", own, 1, OWN)
    with pytest.raises(VtoptError, match=r"dynamo exporter failed: 'aten.strange'; try --exporter torchscript"):
        _export(own, tmp_path / "again.onnx", exporter="dynamo")


def test_auto_is_dynamo_where_that_works(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_trace_torchscript", lambda *_: pytest.fail("not needed"))
    (record,) = read_history(_export(own, tmp_path / "own.onnx", exporter="auto"))
    assert list(record.notices) == []
    _require_parity(tmp_path / "own.onnx", own, 1, OWN)


def _spoil(source: Path, value: float) -> Path:
    weights = torch.load(source, weights_only=True)
    weights["paint.bias"][0] = value
    path = source.with_name(f"spoilt{value}.pth")
    torch.save(weights, path)
    return path


def test_weights_of_nan_are_refused(own: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"NaN or infinite values in paint\.bias"):
        _export(_spoil(own, float("nan")), tmp_path / "own.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_size_the_pyramid_cannot_halve_names_one_that_fits(small_checkpoint: Path, tmp_path: Path) -> None:
    # Two levels: multiples of 2**2. 62 / 4 = 15.5, which rounds to 16; 49 / 4 = 12.25, to 12.
    with pytest.raises(InputError, match=r"size 62x49 .* multiples of 4: use --size 64x48$"):
        export_onnx(small_checkpoint, tmp_path / "small.onnx", size=Size(62, 49))
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_network_are_refused(own: Path, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"own\.pth as sdafn_plus_tiny: the weights do not fit"):
        _export(own, tmp_path / "own.onnx", network="sdafn_plus_tiny")
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_fails_on_its_inputs_is_blamed_itself(own: Path, tmp_path: Path) -> None:
    shapes = "person 1x3x32x24, clothes 1x3x32x24, edge 1x1x32x24"
    with pytest.raises(InputError, match=f"network 'own_tryon:build_three' fails on inputs {shapes}: "):
        _export(own, tmp_path / "own.onnx", network="own_tryon:build_three")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_refused_and_untouched(own: Path, tmp_path: Path) -> None:
    output = tmp_path / "own.onnx"
    output.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already"):
        _export(own, output)
    assert output.read_bytes() == b"precious"
    _export(own, output, force=True)
    assert list(tmp_path.iterdir()) == [output]
    _require_parity(output, own, 1, OWN)


@pytest.mark.parametrize(
    ("stage", "error"),
    [
        ("_trace_torchscript", KeyboardInterrupt()),
        ("_trace_torchscript", RuntimeError("no symbolic")),
        ("check_onnx", InputError("not valid")),
        ("compare_artifacts", KeyboardInterrupt()),
        ("require_export_close", DifferenceError("differs")),
    ],
)
def test_a_failure_leaves_nothing(
    stage: str, error: BaseException, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    (tmp_path / "other.onnx").write_bytes(b"other")
    before = sorted(tmp_path.iterdir()), sorted(own.parent.iterdir())
    monkeypatch.setattr(export, stage, fail)
    expected = type(error) if not isinstance(error, RuntimeError) else VtoptError
    with pytest.raises(expected):
        _export(own, tmp_path / "own.onnx")
    assert (sorted(tmp_path.iterdir()), sorted(own.parent.iterdir())) == before


def test_an_interrupted_dynamo_trace_is_not_taken_for_a_failure(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "trace_dynamo", interrupt)
    monkeypatch.setattr(export, "_trace_torchscript", lambda *_: pytest.fail("must not go on"))
    with pytest.raises(KeyboardInterrupt):
        _export(own, tmp_path / "own.onnx", exporter="auto")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_makes_other_pictures_is_refused(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = export._trace_torchscript

    def trace_wrongly(*arguments: Any) -> onnx.ModelProto:
        model = trace(*arguments)
        (bias,) = [t for t in model.graph.initializer if t.name == "paint.bias"]
        shifted = onnx.numpy_helper.to_array(bias) + np.float32(0.01)
        bias.CopyFrom(onnx.numpy_helper.from_array(shifted, bias.name))
        return model

    monkeypatch.setattr(export, "_trace_torchscript", trace_wrongly)
    with pytest.raises(DifferenceError, match="nothing was written"):
        _export(own, tmp_path / "own.onnx")
    assert list(tmp_path.iterdir()) == []

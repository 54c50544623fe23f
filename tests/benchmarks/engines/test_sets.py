"""Models opened together: their runtimes, and inputs that must fit each other."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.parser
import pytest

from vtopt.benchmarks.engines import sets as engine_sets
from vtopt.benchmarks.engines.engine import open_engine
from vtopt.benchmarks.engines.sets import feed_engines, open_engines, shows_pictures
from vtopt.optimize.data.pairs import open_pairs
from vtopt.optimize.errors import InputError, MissingExtraError, UsageError

SIZE = (32, 24)


def _save(path: Path, inputs: str = "float[1,3,32,24] person, float[1,3,32,24] clothes") -> Path:
    first = inputs.split(",")[-1].split()[-1]
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    graph ({inputs}) => (float[N,3,H,W] tryon) {{ tryon = Tanh ({first}) }}"""
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def test_onnx_is_opened_on_both_runtimes(tmp_path: Path) -> None:
    engines, notices = open_engines({"a": _save(tmp_path / "a.onnx")}, threads=1)
    assert list(engines) == [("a", "onnxruntime"), ("a", "openvino")]
    assert notices == []


def test_runtimes_can_be_chosen(tmp_path: Path) -> None:
    engines, _ = open_engines({"a": _save(tmp_path / "a.onnx")}, threads=1, runtimes=("openvino",))
    assert list(engines) == [("a", "openvino")]


def test_a_runtime_that_runs_none_of_a_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="torch do not run a file of kind onnx; add onnxruntime or openvino"):
        open_engines({"a": _save(tmp_path / "a.onnx")}, runtimes=("torch",))


def test_an_unknown_runtime_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="runtime 'tensorrt' is not known; choose of torch"):
        open_engines({"a": _save(tmp_path / "a.onnx")}, runtimes=("tensorrt",))


def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_sets, "list_gpu_runtimes", lambda: ())
    with pytest.raises(InputError, match="runtime 'openvino-gpu' is not on this machine, or its package has no GPU"):
        open_engines({"a": _save(tmp_path / "a.onnx")}, runtimes=("openvino-gpu",))


def test_a_gpu_is_a_further_runtime_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_sets, "list_gpu_runtimes", lambda: ("onnxruntime-cuda", "openvino-gpu"))
    opened: list[str] = []

    def note(path: Path, *, runtime: str, **settings: object):
        opened.append(runtime)
        return open_engine(path, runtime=runtime.split("-")[0], threads=1)

    monkeypatch.setattr(engine_sets, "open_engine", note)
    open_engines({"a": _save(tmp_path / "a.onnx")})
    assert opened == ["onnxruntime", "openvino", "onnxruntime-cuda", "openvino-gpu"]


@pytest.fixture
def no_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *, runtime: str, **settings: object):
        if runtime == "openvino":
            raise MissingExtraError("openvino cannot be imported (none); run: pip install openvino")
        return open_engine(path, runtime=runtime, threads=1)

    monkeypatch.setattr(engine_sets, "open_engine", refuse)


@pytest.mark.usefixtures("no_openvino")
def test_a_runtime_that_is_not_installed_is_told_where_another_serves(tmp_path: Path) -> None:
    engines, notices = open_engines({"a": _save(tmp_path / "a.onnx")})
    assert list(engines) == [("a", "onnxruntime")]
    assert notices == ["a has no row on openvino: openvino cannot be imported (none)"]


@pytest.mark.usefixtures("no_openvino")
def test_a_runtime_that_is_not_installed_and_was_asked_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingExtraError, match="pip install openvino"):
        open_engines({"a": _save(tmp_path / "a.onnx")}, runtimes=("onnxruntime", "openvino"))


def test_models_of_different_inputs_are_named_with_them(tmp_path: Path) -> None:
    models = {
        "a": _save(tmp_path / "a.onnx", "float[1,3,32,24] x"),
        "b": _save(tmp_path / "b.onnx", "float[1,5,32,24] x"),
    }
    engines, _ = open_engines(models, threads=1)
    assert not shows_pictures(engines)
    with pytest.raises(InputError, match=r"a takes x 1x3x32x24, b takes x 1x5x32x24, .*; name models with the same"):
        feed_engines(engines, open_pairs(None, SIZE, 1)[0], [1])


def test_models_of_unknown_inputs_get_the_same_noise(tmp_path: Path) -> None:
    models = {name: _save(tmp_path / f"{name}.onnx", "float[1,3,32,24] x") for name in "ab"}
    engines, _ = open_engines(models, threads=1)
    feeds = feed_engines(engines, open_pairs(None, SIZE, 1)[0], [1])
    first, *others = (fed["x"] for fed in feeds.values())
    assert all((first == other).all() for other in others)
    assert first.std() > 0.1


def test_a_free_batch_is_fed_as_many_pictures(tmp_path: Path) -> None:
    free = "float[N,3,32,24] person, float[N,3,32,24] clothes"
    engines, _ = open_engines({"a": _save(tmp_path / "a.onnx", free)}, threads=1)
    feeds = feed_engines(engines, open_pairs(None, SIZE, 1)[0], [1, 4])
    assert {(key[2], array.shape) for key, fed in feeds.items() for array in fed.values()} == {
        (1, (1, 3, *SIZE)),
        (4, (4, 3, *SIZE)),
    }


def test_a_fixed_batch_takes_no_other(tmp_path: Path) -> None:
    engines, _ = open_engines({"a": _save(tmp_path / "a.onnx")}, threads=1)
    with pytest.raises(InputError, match="input 'person' takes a batch of 1, not 4; pass --batch 1, or export again"):
        feed_engines(engines, open_pairs(None, SIZE, 1)[0], [4])

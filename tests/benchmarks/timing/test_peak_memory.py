"""Peak memory: of the model's own process, whatever the measuring one holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from vtopt.benchmarks.timing.peak_memory import measure_peak_memory
from vtopt.optimize.errors import InputError

SIDE = 2048
MIB = SIDE * SIDE * 4 / 2**20
"""One activation of the model."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of one picture of 16 MiB, in and out."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    graph (float[1,1,{SIDE},{SIDE}] x) => (float[1,1,{SIDE},{SIDE}] y) {{ y = Sigmoid (x) }}"""
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def _feed() -> dict[str, np.ndarray]:
    return {"x": np.ones((1, 1, SIDE, SIDE), np.float32)}


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_measure_peak_memory_is_that_of_the_model_alone(model: Path, runtime: str) -> None:
    held = np.ones((600, 2**20), np.uint8)  # 600 MiB here, which are none of the model's
    memory = measure_peak_memory(model, _feed(), runtime=runtime, threads=1)
    assert held.all()
    assert 20 < memory.imported_mib < 500
    assert MIB / 2 < memory.peak_mib - memory.imported_mib < 300


def test_measure_peak_memory_of_a_network_in_torch(small_checkpoint: Path) -> None:
    feeds = {name: np.zeros((1, 3, 64, 48), np.float32) for name in ("person", "clothes")}
    memory = measure_peak_memory(small_checkpoint, feeds, runtime="torch", threads=1, plain=True)
    assert memory.peak_mib > memory.imported_mib > 50


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak cannot be set back on this system")
def test_what_was_let_go_before_the_model_is_not_its_peak() -> None:
    code = """
import numpy as np
from vtopt.benchmarks.timing.memory import read_memory, reset_peak
held = np.ones((200, 2**20), np.uint8)
del held
before = read_memory("VmHWM")
reset_peak()
print(before - read_memory("VmHWM"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 150


def test_loading_imports_little_that_is_not_imported_before(small_checkpoint: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from vtopt.benchmarks.timing.memory import import_runtime
from vtopt.benchmarks.engines.runtimes import Settings, load_model
import_runtime("torch")
before = set(sys.modules)
load_model(Path({str(small_checkpoint)!r}), "torch", Settings(1, None))
print(*(name for name in set(sys.modules) - before if name.startswith("vtopt.optimize") and "networks" not in name))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_measure_peak_memory_says_in_a_line_why_a_file_does_not_load(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x07not a model" * 9)
    with pytest.raises(InputError) as refused:
        measure_peak_memory(broken, {}, runtime="onnxruntime", threads=1)
    assert str(refused.value).startswith(f"{broken}: onnxruntime cannot load it")
    assert "\n" not in str(refused.value)

"""A signal after OpenVINO, where two models were loaded at once and dropped in the order they came."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

PROGRAM = """
import gc, os, signal, sys
from pathlib import Path
from vtopt.benchmarks.engines.engine import open_engine

first, second = (open_engine(Path(sys.argv[1]), runtime="openvino") for _ in range(2))
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGCHLD, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGCHLD)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGCHLD"), reason="this system has no such signal")
def test_a_signal_is_heard_after_two_models(tmp_path: Path) -> None:
    shape = [1, 3, 16, 16]
    convolution = helper.make_node("Conv", ["person", "weight"], ["tryon"], pads=[1, 1, 1, 1])
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [3, 3, 3, 3], [0.1] * 81)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("person", "tryon")]
    graph = helper.make_graph([convolution], "net", values[:1], values[1:], [weight])
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, env=dict(os.environ), check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "heard\n"), ended.stderr

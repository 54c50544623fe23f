"""The project's own promises: its packaging, its imports, and what it points to."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PRODUCT = ("optimize", "benchmarks", "recipes", "checkpoints")


def test_every_folder_of_the_product_is_a_listed_package() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {file.parent.relative_to(ROOT) for name in PRODUCT for file in (ROOT / name).rglob("*.py")}
    assert sorted(listed) == sorted("vtopt." + ".".join(folder.parts) for folder in folders)


@pytest.mark.parametrize("heavy", ["torch", "onnx", "onnxruntime", "openvino", "numpy", "pydantic"])
def test_the_command_line_starts_without_heavy_packages(heavy: str) -> None:
    code = f"import sys, vtopt.optimize.cli; sys.exit('{heavy}' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_imports_inside_the_product_are_relative() -> None:
    files = [file for name in PRODUCT for file in (ROOT / name).rglob("*.py")]
    assert files
    absolute = [str(file) for file in files if re.search(r"^\s*(from|import) vtopt", file.read_text(), re.M)]
    assert absolute == []

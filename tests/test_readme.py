"""Every shell block of the README, run as written, in the order it is written: each needs those before it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
FILES = {"python": "mynet.py", "yaml": "mine.yaml"}
"""What the README calls the files whose text it shows."""
INSTALLS = 2
"""The first two shell blocks install vtopt and run the tests; CI runs them."""


def list_commands() -> list[str]:
    shell = [text for language, text in BLOCKS if language == "sh"]
    return [line for text in shell[INSTALLS:] for line in text.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with the files that the README shows, and the repository's checkpoints."""
    folder = tmp_path_factory.mktemp("readme")
    for language, text in BLOCKS:
        if language in FILES:
            (folder / FILES[language]).write_text(text, encoding="utf-8")
    (folder / "checkpoints").symlink_to(ROOT / "checkpoints")
    return folder


def test_nothing_is_left_to_fill_in() -> None:
    assert "@@" not in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_first_blocks_are_those_that_ci_runs() -> None:
    shell = [text for language, text in BLOCKS if language == "sh"]
    assert "vtopt run cpu-int8" in shell[0]
    assert "pytest" in shell[1]


@pytest.mark.parametrize("command", list_commands())
def test_a_command_of_the_readme_runs(command: str, folder: Path) -> None:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_STATE_HOME": str(folder / "state"),
    }
    result = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr

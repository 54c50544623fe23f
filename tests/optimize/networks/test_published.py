"""Every network with a published implementation, in its plain form, against the outputs of that.

Random weights make some of them chaotic: noise of 1e-6 on the input, about what another processor's rounding is,
changes every pixel. In the plain form, on the instruction set and threads that the published outputs were computed on,
every sum is rounded as it was there, and the difference is 0. That the usual form is the same network is shown where
it is not chaotic, in the tests of each network.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import published_outputs
import pytest
from published import needs_upstream

TOLERANCE = 1e-4
"""Largest difference to the public network, of the output's largest value."""

FAST = ("sdafn_plus_3", "pfafn_warp", "pfafn_warp_aligned", "pfafn_gen", "hrviton_tocg")
SLOW = ("sdafn", "sdafn_plus_4", "sdafn_plus_5", "hrviton_gen")

pytestmark = needs_upstream


def _run(name: str) -> dict[str, Any]:
    command = [sys.executable, published_outputs.__file__, name]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(published_outputs.__file__).parent
    )
    said = json.loads(done.stdout)
    if said["instructions"] != "AVX2":
        pytest.skip(f"torch computes with {said['instructions']} here, the published outputs with AVX2")
    return said["differences"]


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_outputs_are_the_published_ones(name: str) -> None:
    differences = _run(name)
    print(f"{name}: {differences}")
    assert differences
    assert max(differences.values()) <= TOLERANCE

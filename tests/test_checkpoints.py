"""The shipped checkpoint is the one that the manifest describes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml

from vtopt.checkpoints import DEMO_CHECKPOINT

MANIFEST = yaml.safe_load((Path(__file__).parent.parent / "checkpoints" / "manifest.yaml").read_text())
MAX_BYTES = 12_000_000


@pytest.mark.parametrize("name", MANIFEST)
def test_the_file_is_the_one_described(name: str) -> None:
    path = DEMO_CHECKPOINT.parent / MANIFEST[name]["file"]
    content = path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == MANIFEST[name]["sha256"]
    assert len(content) <= MAX_BYTES


def test_the_demo_checkpoint_is_as_training_leaves_it() -> None:
    from vtopt.optimize.checkpoint import read_checkpoint
    from vtopt.optimize.weights import load_network

    checkpoint = read_checkpoint(DEMO_CHECKPOINT)
    described = MANIFEST[checkpoint["network"]]
    assert {"state_dict", "ema", "optimizer", "step", "settings"} <= set(checkpoint)
    assert checkpoint["step"] == sum(steps for _, _, steps, _ in checkpoint["settings"]["stages"])
    module = load_network(DEMO_CHECKPOINT).module
    assert sum(parameter.numel() for parameter in module.parameters()) == described["parameters"]


def test_the_demo_checkpoint_beats_the_unchanged_person_on_a_held_out_pair() -> None:
    from vtopt.benchmarks.engines.engine import infer_picture, open_engine
    from vtopt.benchmarks.quality.pictures import compare_pictures
    from vtopt.optimize.data.pairs import open_pairs

    engine = open_engine(DEMO_CHECKPOINT)
    for pair in open_pairs(None, engine.size, 2):
        assert pair.truth is not None
        trivial = compare_pictures(pair.person, pair.truth).psnr
        assert compare_pictures(infer_picture(engine, pair), pair.truth).psnr > trivial + 3

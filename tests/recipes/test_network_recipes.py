"""The recipe of each network, from its published files to every format and a report, at small widths."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch
from small_registered import SMALL, build_small

from vtopt.benchmarks.reports.run_report import write_run_report
from vtopt.optimize.networks import NETWORKS
from vtopt.optimize.provenance import read_history
from vtopt.optimize.runner import run_recipe

REPORTED = ["fp32", "fp16", "int8", "fp16-ir", "int8-ir"]
LEAST_DB = {"fp16": 60.0, "int8": 30.0, "fp16-ir": 60.0, "int8-ir": 25.0}
"""PSNR to what each format was made of; the IR's is that of another runtime's rounding."""
FLIPS_DB = {"fp16": 40.0, "int8": 26.0, "fp16-ir": 40.0, "int8-ir": 25.0}
"""That of HR-VITON, which decides between classes that random weights make almost equal."""


def _save_parts(name: str, folder: Path) -> list[Path]:
    """Write the weights of a network's parts, or of a whole that was published as one, as training leaves them."""
    module = build_small(name).module
    parts = dict(module.named_children()) if name in ("pfafn_aligned", "hrviton") else {name: module}
    paths = [folder / f"{part}.pth" for part in parts]
    for path, part in zip(paths, parts.values(), strict=True):
        torch.save({f"module.{key}": tensor for key, tensor in part.state_dict().items()}, path)
    return paths


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "name"), [("pfafn", "pfafn_aligned"), ("hrviton", "hrviton"), ("completion", "completion")]
)
def test_one_command_takes_a_network_to_every_format(
    recipe: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, settings = NETWORKS[name]
    monkeypatch.setitem(cast(dict, NETWORKS), name, (target, {**settings, **SMALL[name][0]}))
    weights, *further = _save_parts(name, tmp_path)
    output = tmp_path / "out"
    result = run_recipe(recipe, weights=weights, with_=further, network=None, pairs=None, output=output)
    made = {artifact.name: artifact for artifact in result.artifacts}
    assert read_history(made["strip"].path)[0].settings["network"] == name
    for format, least in (FLIPS_DB if name == "hrviton" else LEAST_DB).items():
        record = made[format].record
        assert record is not None
        assert (record.figures["psnr_worst_db"] or 200) >= least, format
    table = write_run_report(output, count=1, threads=1, fmt="md")
    assert all(f"| {format} " in table for format in REPORTED)

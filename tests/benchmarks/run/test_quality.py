"""What bench run says of pictures: all measures, distances to the truth under their names, and tables with FID."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from bench_results import SETTINGS, make_entry
from seeded_inception import draw_weights, save_state_dict
from seeded_lpips import draw_weights as draw_lpips
from seeded_lpips import save_weights as save_lpips
from typer.testing import CliRunner

from vtopt.benchmarks.fid import networks
from vtopt.benchmarks.fid.measure import measure_distances
from vtopt.benchmarks.fid.published import PUBLISHED
from vtopt.benchmarks.fid.random_network import FEATURES
from vtopt.benchmarks.quality.comparison import compare_by_all
from vtopt.benchmarks.quality.lpips import load_lpips
from vtopt.benchmarks.run import measure as module
from vtopt.benchmarks.run.distances import open_meter
from vtopt.benchmarks.run.measure import measure_run
from vtopt.benchmarks.run.results import read_results
from vtopt.benchmarks.timing.processes import Job
from vtopt.benchmarks.timing.sampling import Plan, Sample
from vtopt.optimize.artifacts import hash_artifact
from vtopt.optimize.cli import app
from vtopt.optimize.data.pairs import open_pairs
from vtopt.optimize.errors import InputError, UsageError

SIZE = HEIGHT, WIDTH = 48, 36
SMALL = replace(SETTINGS, runtimes=("onnxruntime",), processes=1)
SHAPE = f"float[1,3,{HEIGHT},{WIDTH}]"


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Path]:
    """The person as it is, and at 0.9 and 0.5 of its values."""
    paths = {name: tmp_path / f"{name}.onnx" for name in ("full", "near", "far")}
    for factor, path in zip((1.0, 0.9, 0.5), paths.values(), strict=True):
        text = f"""<ir_version: 8, opset_import: ["" : 17]>
        graph ({SHAPE} person) => ({SHAPE} tryon) <float factor = {{{factor}}}> {{ tryon = Mul (person, factor) }}"""
        onnx.save(onnx.parser.parse_model(text), path)
    return paths


@pytest.fixture(autouse=True)
def _no_times(monkeypatch: pytest.MonkeyPatch) -> None:
    def block(jobs: Sequence[Job], plan: Plan, process: int, *, advance: Any) -> list[Sample]:
        return [replace(make_entry(job.path.stem, 10.0).samples[0], process=process) for job in jobs]

    monkeypatch.setattr(module, "measure_block", block)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_state_dict(draw_weights(), tmp_path_factory.mktemp("weights") / PUBLISHED[0].name)


@pytest.fixture
def published(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random weights that pass for the published ones."""
    as_published = PUBLISHED[0]._replace(sha256=hash_artifact(weights))
    monkeypatch.setattr(networks, "PUBLISHED", (as_published,))
    return weights


def _run(models: dict[str, Path], output: Path, *options: object) -> None:
    asked = [*map(str, models.values()), "--runtime", "onnxruntime", "--pair-count", "2", "-o", str(output)]
    result = CliRunner().invoke(app, ["bench", "run", *asked, *map(str, options)])
    assert result.exit_code == 0, result.output


def _print_table(results: Path, name: str) -> list[dict[str, str]]:
    result = CliRunner().invoke(app, ["bench", "report", str(results), "--table", name, "--format", "csv"])
    assert result.exit_code == 0, result.output
    return list(csv.DictReader(line for line in io.StringIO(result.stdout) if not line.startswith("#")))


def test_pictures_are_compared_by_all_measures(models: dict[str, Path], tmp_path: Path) -> None:
    files = save_lpips(draw_lpips("alex"), tmp_path)
    settings = replace(SMALL, pair_count=3, lpips=tuple(map(str, files)))
    measure_run(models, tmp_path / "r.json", settings)
    quality = read_results(tmp_path / "r.json").find_quality("far", "onnxruntime")
    assert quality
    assert quality.to_truth
    pairs, lpips = open_pairs(None, SIZE, 3), load_lpips(*files)
    made = [pair.person * np.float32(0.5) for pair in pairs]
    for measured, references in (
        (quality.to_first, [pair.person for pair in pairs]),
        (quality.to_truth, [pair.truth for pair in pairs]),
    ):
        scores = [compare_by_all(*each, lpips=lpips) for each in zip(made, references, strict=True)]
        assert measured.ms_ssim_worst == pytest.approx(min(score.ms_ssim for score in scores), abs=1e-6)
        assert measured.lpips_worst == pytest.approx(max(score.lpips for score in scores), rel=1e-4)
        ordered = sorted((score.psnr, pair.name) for score, pair in zip(scores, pairs, strict=True))
        assert list(measured.worst_pairs) == [name for _, name in ordered]
    assert quality.to_first.ms_ssim_scales == 2


@pytest.mark.slow
def test_distances_are_to_the_truth_and_no_fid_on_other_weights(
    models: dict[str, Path], weights: Path, tmp_path: Path
) -> None:
    del models["near"]
    _run(models, tmp_path / "r.json", "--weights", weights, "--trust-weights", "--kid")
    results = read_results(tmp_path / "r.json")
    pairs = open_pairs(None, SIZE, 2)
    truth, made = (
        [np.rint((panel + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0) for panel in panels]
        for panels in ([pair.truth for pair in pairs], [pair.person * np.float32(0.5) for pair in pairs])
    )
    expected = measure_distances(made, truth, weights=weights, trust_weights=True, kid=True)
    found = results.quality[1].distances
    assert [each.name for each in found] == ["fd_other_weights", "kd_other_weights"]
    assert [each.value for each in found] == pytest.approx([each.value for each in expected], abs=1e-3)
    assert {each.reference for each in found} == {"the truth of the pairs"}
    (said,) = (each for each in results.notices if each.startswith("fd_other_weights: 2 pictures to 2, the truth of"))
    assert "resize clean (bicubic, antialiased, as clean-fid 0.1.35) to 299x299" in said
    assert "covariance of 2048 features is of full rank from 2,049 pictures on" in said
    shown = _print_table(tmp_path / "r.json", "report")[1:]
    assert [float(row["fd_other_weights"]) for row in shown] == [each.distances[0].value for each in results.quality]
    assert {row["FID"] for row in _print_table(tmp_path / "r.json", "final")} == {""}


def test_the_tables_have_the_fid_of_a_run(models: dict[str, Path], published: Path, tmp_path: Path) -> None:
    del models["near"]
    _run(models, tmp_path / "r.json", "--weights", published)
    values = {each.model: each.distances[0].value for each in read_results(tmp_path / "r.json").quality}
    assert values["far"] > values["full"]
    names = ("final", "quantisation", "pruning")
    final, quantised, pruned = (_print_table(tmp_path / "r.json", name) for name in names)
    assert {row["precision"]: float(row["FID"]) for row in final} == values
    assert [float(row["CPU-FID"]) for row in quantised] == [values["far"]]
    assert [float(row["FID loss"]) for row in pruned[1:]] == [values["far"] - values["full"]]


def test_few_pairs_have_no_distance_without_weights(models: dict[str, Path], tmp_path: Path) -> None:
    results = measure_run(models, tmp_path / "r.json", SMALL)
    assert {each.distances for each in results.quality} == {()}


def test_more_pairs_than_features_have_fd_random() -> None:
    pair = open_pairs(None, SIZE, 1)[0]
    assert open_meter(SETTINGS, [pair] * FEATURES) is None
    meter = open_meter(SETTINGS, [replace(pair, truth=None)] * (FEATURES + 1))
    assert meter
    for _ in range(2):
        meter.watch(("a", "torch"), pair.person)
    (distance,) = meter.finish(("a", "torch"))
    assert (distance.name, distance.count, distance.reference_count) == ("fd_random", 2, FEATURES + 1)
    assert distance.value == pytest.approx(0, abs=1e-3)
    assert distance.reference == "the persons of the pairs, which have no truth"


def test_one_pair_has_no_fid(models: dict[str, Path], weights: Path, tmp_path: Path) -> None:
    settings = replace(SMALL, pair_count=1, weights=str(weights), trust_weights=True)
    with pytest.raises(InputError, match="distances: of 1 pair there is none; pass --pair-count 2 or more"):
        measure_run(models, tmp_path / "r.json", settings)
    assert not (tmp_path / "r.json").exists()


def test_lpips_needs_both_files(models: dict[str, Path], tmp_path: Path) -> None:
    asked = ["bench", "run", str(models["full"]), "--lpips-trunk", "alexnet.pth", "-o", str(tmp_path / "r.json")]
    error = CliRunner().invoke(app, asked).exception
    assert isinstance(error, UsageError)
    assert "pass --lpips-trunk and --lpips-linear together" in str(error)

"""The page of models that were measured in one process: where its parts come from."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.parser
import pytest

from vtopt.benchmarks.page.models_page import make_models_page, profile_models
from vtopt.benchmarks.reports.command import report_command
from vtopt.benchmarks.reports.quick_measure import measure_models
from vtopt.optimize.artifacts import hash_artifact
from vtopt.optimize.provenance import add_record, set_onnx_metadata

SIZE = "float[1,3,32,24]"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models: one copies the person, one makes it darker."""
    folder = tmp_path_factory.mktemp("models")
    nodes = {"plain": "tryon = Max (person, person)", "dark": "tryon = Mul (person, half)"}
    for name, node in nodes.items():
        model = onnx.parser.parse_model(
            f"""<ir_version: 8, opset_import: ["" : 17]>
            graph ({SIZE} person, {SIZE} clothes) => ({SIZE} tryon) <float[1] half = {{0.5}}> {{ {node} }}"""
        )
        path = folder / f"{name}.onnx"
        onnx.save(model, path)
        said = ("the same for both", *(["of one"] if name == "dark" else []))
        set_onnx_metadata(model, add_record({}, "export", path, settings={}, figures={}, notices=said))
        onnx.save(model, path)
    return {name: folder / f"{name}.onnx" for name in nodes}


def test_a_page_has_all_that_was_measured(models: dict[str, Path]) -> None:
    report = measure_models(models, count=2, threads=1, runs=1, warmup=0)
    profiles = profile_models(report, models)
    page = make_models_page(report, models, title="both", profiles=profiles)
    keys = [(name, runtime) for name in models for runtime in ("onnxruntime", "openvino")]
    assert [point.key for point in page.points] == [(profile.model, profile.runtime) for profile in profiles] == keys
    assert profiles[2].by_op.keys() == {"Mul"}
    assert page.reference == page.baseline == keys[0]
    assert {view.model for view in page.views} == {"dark"}
    assert [artifact.sha256 for artifact in page.artifacts] == [hash_artifact(path) for path in models.values()]
    assert page.notices[-2:] == ("plain, dark: the same for both", "dark: of one")


def test_the_command_writes_the_page_of_models(models: dict[str, Path], tmp_path: Path) -> None:
    report_command([*models.values()], pair_count=1, runs=1, threads=1, format="html", output=tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "<title>plain, dark – vtopt report</title>" in text
    assert all(hash_artifact(path) in text for path in models.values())

"""Pictures beside the results: a file for each, a folder that is all old or all new, and none that is not a run's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from bench_results import SETTINGS
from PIL import Image

from vtopt.benchmarks.quality.comparison import ShownPair
from vtopt.benchmarks.run import pictures as module
from vtopt.benchmarks.run.measure import measure_run
from vtopt.benchmarks.run.pictures import keep_shown
from vtopt.optimize.errors import OutputError


def _show(value: float) -> tuple[ShownPair, ...]:
    flat = np.full((3, 8, 6), value, np.float32)
    return (ShownPair("worst", "pair-0", 30.0, flat, -flat),)


def _list(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_models_whose_names_look_alike_have_pictures_of_their_own(tmp_path: Path) -> None:
    long = "x" * 300
    values = {"full/warp": 1.0, "full-warp": 0.0, "full warp": -1.0, long: 0.5, f"{long}y": -0.5}
    kept = keep_shown({(name, "torch"): _show(value) for name, value in values.items()}, tmp_path / "r.json")
    assert len({file for shown in kept for file in (shown.picture, shown.reference)}) == 2 * len(values)
    for shown in kept:
        for file, value in ((shown.picture, values[shown.model]), (shown.reference, -values[shown.model])):
            assert np.abs(np.asarray(Image.open(tmp_path / file)) / 127.5 - 1 - value).max() < 0.01
    assert kept[0].picture == "r-pictures/000-full-warp-torch-worst.png"


def test_a_later_run_leaves_none_of_the_old_pictures(tmp_path: Path) -> None:
    keep_shown({("a", "torch"): _show(1.0), ("b", "torch"): _show(1.0)}, tmp_path / "r.json")
    keep_shown({("b", "torch"): _show(1.0)}, tmp_path / "r.json")
    assert _list(tmp_path / "r-pictures") == ["000-b-torch-worst-reference.png", "000-b-torch-worst.png"]
    keep_shown({}, tmp_path / "r.json")
    assert _list(tmp_path) == []


def test_the_old_pictures_stay_until_all_new_ones_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_shown({("a", "torch"): _show(1.0)}, tmp_path / "r.json")
    before = _list(tmp_path / "r-pictures")

    def write(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_picture", write)
    with pytest.raises(KeyboardInterrupt):
        keep_shown({("b", "torch"): _show(1.0)}, tmp_path / "r.json")
    assert (_list(tmp_path), _list(tmp_path / "r-pictures")) == (["r-pictures"], before)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        pytest.param("r-pictures/holiday.png", "holds holiday.png, which is of no run", id="a folder with other files"),
        pytest.param("r-pictures/a/b-worst.png", "holds a, which is of no run", id="a folder with folders"),
        pytest.param("r-pictures", "is no folder", id="a file"),
    ],
)
def test_what_no_run_made_is_refused_before_anything_is_measured(other: str, said: str, tmp_path: Path) -> None:
    (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / other).touch()
    shape = "float[1,3,32,24]"
    text = f'<ir_version: 8, opset_import: ["" : 17]> g ({shape} person) => ({shape} tryon) {{ tryon = Tanh (person) }}'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "a.onnx")
    settings = replace(SETTINGS, runtimes=("onnxruntime",))
    with pytest.raises(OutputError, match=f"{said}.*move it away, or choose another --output"):
        measure_run({"a": tmp_path / "a.onnx"}, tmp_path / "r.json", settings, force=True)
    assert (tmp_path / other).exists()
    assert not (tmp_path / "r.json").exists()

"""Distances of picture sets: how they grow, what is kept of the reference, and what is refused; on drawn pictures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import linalg
from typer.testing import CliRunner

from vtopt.benchmarks.cli import bench
from vtopt.benchmarks.fid import measure
from vtopt.benchmarks.fid.measure import measure_distances
from vtopt.benchmarks.fid.networks import open_network
from vtopt.benchmarks.fid.picture_distance import format_distances
from vtopt.benchmarks.fid.picture_folder import PictureFolder
from vtopt.benchmarks.fid.resizing import resize_picture
from vtopt.optimize.data.synthetic import draw_pair
from vtopt.optimize.errors import InputError, UsageError

Pictures = list[NDArray[np.uint8]]
PEAK_LIMIT_MIB = 3 * 1024


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return [draw_pair(seed, (64, 48)).person for seed in range(40)]


def _add_noise(pictures: Pictures, strength: float) -> Pictures:
    draws = np.random.default_rng(0)
    noisy = (picture + strength * draws.normal(size=picture.shape) for picture in pictures)
    return [picture.round().clip(0, 255).astype(np.uint8) for picture in noisy]


def _measure(pictures: Pictures, reference: Pictures, **options) -> float:
    return measure_distances(pictures, reference, **options)[0].value


@pytest.mark.parametrize("resize", ["clean", "legacy"])
def test_a_set_is_0_from_itself_and_noise_takes_it_away(resize, pictures: Pictures) -> None:
    distances = [_measure(_add_noise(pictures, strength), pictures, resize=resize) for strength in (0, 16, 32, 64)]
    assert distances[0] == pytest.approx(0, abs=1e-3)
    assert distances == sorted(distances)
    assert distances[1] > 1e-3


@pytest.mark.parametrize("resize", ["clean", "legacy"])
def test_two_halves_are_apart_and_noise_takes_one_further_from_the_other(resize, pictures: Pictures) -> None:
    one, other = pictures[:20], pictures[20:]
    distances = [_measure(_add_noise(one, strength), other, resize=resize) for strength in (0, 16, 32, 64)]
    assert distances == sorted(distances)
    assert distances[0] > 1e-3


@pytest.mark.filterwarnings("ignore:Matrix is singular")
def test_a_distance_of_pictures_is_that_of_scipys_root(pictures: Pictures) -> None:
    """Features all at once, their covariances by numpy, and the root of the product: no batches, no factors."""
    network = open_network()
    features = [
        network.extract(torch.from_numpy(np.stack([resize_picture(each, network.side, "clean") for each in half])))
        for half in (pictures[:23], pictures[23:])
    ]
    c1, c2 = (np.cov(each.double().numpy(), rowvar=False) for each in features)
    shift = (features[0].double().mean(0) - features[1].double().mean(0)).numpy()
    expected = shift @ shift + np.trace(c1 + c2 - 2 * linalg.sqrtm(c1 @ c2).real)
    assert _measure(pictures[:23], pictures[23:]) == pytest.approx(expected, abs=1e-3)


def test_the_kernel_distance_grows_with_noise_too(pictures: Pictures) -> None:
    values = [
        measure_distances(_add_noise(pictures, strength), pictures, kid=True)[1].value for strength in (0, 16, 64)
    ]
    assert values == sorted(values)
    assert values[0] <= 0 < values[2]  # unbiased: below 0 for a set and itself


def test_a_distance_is_stated_with_all_it_depends_on(pictures: Pictures) -> None:
    fd, kd = measure_distances(pictures[:5], pictures[5:12], resize="legacy", kid=True, seed=7)
    for distance in (fd, kd):
        assert (distance.count, distance.reference_count) == (5, 7)
        assert (distance.resize, distance.filter, distance.side) == ("legacy", "bilinear, not antialiased", 128)
        assert (distance.network, distance.features, distance.weights_sha256) == ("random", 240, None)
    assert (fd.name, fd.seed, kd.name, kd.seed) == ("fd_random", None, "kd_random", 7)
    assert (fd.subsets, kd.subsets, kd.subset_size, kd.spread is None) == (None, 100, 5, False)
    said = format_distances([fd, kd])
    assert "no FID" in said
    assert "kd_random is the mean over 100 subsets of 5 pictures of each set, drawn with seed 7" in said
    assert "fd_random of 5 pictures is above what more would give" in said
    assert "from 241 pictures on" in said


def test_sets_that_are_compared_once_have_no_spread(pictures: Pictures) -> None:
    _, kd = measure_distances(pictures[:5], pictures[5:10], kid=True)
    assert (kd.spread, kd.subsets, kd.subset_size) == (None, 1, 5)
    assert "kd_random compares all 5 pictures of each set once" in format_distances([kd])


def test_more_pictures_than_features_have_a_covariance_of_full_rank(pictures: Pictures) -> None:
    many = [pictures[index % 40] for index in range(241)]
    for count, said in ((241, 1), (240, 2)):
        (distance,) = measure_distances(many[:count], many)
        assert len(distance.notes) == said


def test_pictures_of_any_sizes_are_compared(pictures: Pictures) -> None:
    larger = [np.asarray(Image.fromarray(picture).resize((96, 128))) for picture in pictures[:6]]
    assert _measure(larger, pictures) < _measure(_add_noise(pictures[:6], 64), pictures)


def test_the_reference_is_run_once(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    measure_set = measure._measure_set
    monkeypatch.setattr(measure, "_measure_set", lambda *asked: runs.append(asked[1]) or measure_set(*asked))
    first, again = (
        format_distances(measure_distances(pictures[:9], pictures[9:], kid=True), as_json=True) for _ in range(2)
    )
    assert first == again
    assert runs == ["reference", "pictures", "pictures"]
    for changed in ({"resize": "legacy", "kid": True}, {"kid": False}):
        measure_distances(pictures[:9], pictures[9:], **changed)
    measure_distances(pictures[:9], pictures[10:], kid=True)
    assert runs[3:] == ["reference", "pictures"] * 3


def test_a_damaged_or_missing_cache_is_done_without(
    pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = _measure(pictures[:9], pictures[9:])
    (kept,) = Path(os.environ["XDG_CACHE_HOME"]).rglob("*.npz")
    kept.write_bytes(kept.read_bytes()[:1000])
    assert _measure(pictures[:9], pictures[9:]) == value
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert _measure(pictures[:9], pictures[9:]) == value


def test_iterators_are_read_once(pictures: Pictures) -> None:
    assert _measure(iter(pictures[:9]), iter(pictures[9:])) == _measure(pictures[:9], pictures[9:])


@pytest.mark.parametrize(
    ("made", "real", "message"),
    [
        pytest.param(1, 3, "pictures: 1 of them have no distance", id="one picture"),
        pytest.param(3, 0, "reference: 0 of them have no distance", id="no reference"),
    ],
)
def test_fewer_than_two_are_refused(made: int, real: int, message: str, pictures: Pictures) -> None:
    with pytest.raises(InputError, match=message):
        measure_distances(pictures[:made], pictures[:real])


def test_what_is_no_picture_is_refused(pictures: Pictures) -> None:
    with pytest.raises(InputError, match=r"pictures: a picture is float32 \(64, 48, 3\); give uint8 \(H, W, 3\)"):
        measure_distances([picture.astype(np.float32) for picture in pictures], pictures)
    with pytest.raises(UsageError, match="resize 'nearest' is not known; choose clean or legacy"):
        measure_distances(pictures, pictures, resize="nearest")  # type: ignore[arg-type]


@pytest.fixture
def folders(pictures: Pictures, tmp_path: Path) -> tuple[Path, Path]:
    for name, shown in (("made", pictures[:4]), ("real", pictures[4:9])):
        (tmp_path / name).mkdir()
        for index, picture in enumerate(shown):
            Image.fromarray(picture).save(tmp_path / name / f"{index}.png")
        (tmp_path / name / "notes.txt").touch()
    return tmp_path / "made", tmp_path / "real"


def test_a_folder_gives_its_pictures_by_name(folders: tuple[Path, Path], pictures: Pictures) -> None:
    folder = PictureFolder(folders[0])
    assert len(folder) == 4
    for _ in range(2):
        np.testing.assert_array_equal(np.stack(list(folder)), np.stack(pictures[:4]))


def test_bench_fid_prints_what_is_measured(folders: tuple[Path, Path], pictures: Pictures) -> None:
    done = CliRunner().invoke(bench, ["fid", *map(str, folders), "--kid", "--json"], catch_exceptions=False)
    fd, kd = json.loads(done.stdout)
    assert (fd["name"], fd["count"], fd["reference_count"]) == ("fd_random", 4, 5)
    assert [fd["value"], kd["value"]] == [
        distance.value for distance in measure_distances(pictures[:4], pictures[4:9], kid=True)
    ]
    table = CliRunner().invoke(bench, ["fid", *map(str, folders)], catch_exceptions=False).stdout
    assert "fd_random" in table
    assert "knows no objects" in table


def test_bench_fid_refuses_folders_without_pictures_and_weights_twice(folders: tuple[Path, Path]) -> None:
    empty = folders[0] / "empty"
    empty.mkdir()
    for folder, message in ((empty, "holds no pictures"), (folders[0] / "none", "is not a folder")):
        error = CliRunner().invoke(bench, ["fid", str(folder), str(folders[1])]).exception
        assert isinstance(error, InputError)
        assert message in str(error)
    asked = ["fid", *map(str, folders), "--weights", "x.pth", "--download-weights"]
    assert isinstance(CliRunner().invoke(bench, asked).exception, UsageError)


PEAK_SCRIPT = """
import re
from dataclasses import replace
from pathlib import Path
import numpy as np, torch
from vtopt.benchmarks.fid import measure
from vtopt.benchmarks.fid.inception import FEATURES, SIDE, Inception
from vtopt.benchmarks.fid.networks import open_network

network, inception, batches = open_network(), Inception().eval(), [0]
draws = torch.Generator().manual_seed(0)

def extract(pictures):
    batches[0] += 1
    features = inception(pictures) if batches[0] <= 4 else torch.zeros(len(pictures), FEATURES)
    return features + torch.rand(features.shape, generator=draws)

def show(seed):
    draws = np.random.default_rng(seed)
    for _ in range(5000):
        yield draws.integers(0, 256, (256, 192, 3), dtype=np.uint8)

measure.open_network = lambda *asked, **more: replace(network, side=SIDE, features=FEATURES, extract=extract)
distances = measure.measure_distances(show(0), show(1), kid=True)
assert [distance.count for distance in distances] == [5000, 5000], distances
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the process status of Linux")
def test_5000_pictures_take_less_than_3_gib() -> None:
    """Two sets of 5,000 at 256x192 with 2048 features. Inception runs on the first batches alone: each of the others
    would take as much memory, and it a second a batch."""
    done = subprocess.run([sys.executable, "-c", PEAK_SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 500 < float(done.stdout) < PEAK_LIMIT_MIB


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the process status of Linux")
def test_twice_the_pictures_take_no_more_memory() -> None:
    """On the whole Inception, all of it run: 300 pictures more, resized, are 307 MiB; peaks vary by 60 MiB anyway."""
    script = Path(__file__).parents[2] / "helpers" / "fid_peak.py"
    peaks = []
    for count in (300, 600):
        asked = [sys.executable, str(script), str(count), "--reference", "16"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        peaks.append(float(done.stdout.split()[0]))
    assert max(peaks) < PEAK_LIMIT_MIB
    assert peaks[1] - peaks[0] < 120

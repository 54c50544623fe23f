"""Feature networks: both layouts of the weights give the same features, and only the published ones are called FID."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from seeded_inception import draw_weights, save_state_dict, save_torchscript

from vtopt.benchmarks.fid import networks
from vtopt.benchmarks.fid.measure import measure_distances
from vtopt.benchmarks.fid.networks import open_network
from vtopt.benchmarks.fid.published import PUBLISHED
from vtopt.benchmarks.fid.random_network import RandomNetwork
from vtopt.benchmarks.fid.resizing import resize_picture
from vtopt.optimize.artifacts import hash_artifact
from vtopt.optimize.data.synthetic import draw_pair
from vtopt.optimize.errors import InputError


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same random weights in both layouts."""
    folder, weights = tmp_path_factory.mktemp("weights"), draw_weights()
    return {
        "state_dict": save_state_dict(weights, folder / PUBLISHED[0].name),
        "torchscript": save_torchscript(weights, folder / PUBLISHED[1].name),
    }


@pytest.mark.parametrize("resize", ["clean", "legacy"])
def test_both_layouts_give_the_same_features(resize, files: dict[str, Path]) -> None:
    opened = [open_network(path, trust=True) for path in files.values()]
    picture = torch.from_numpy(resize_picture(draw_pair(0, (64, 48)).person, 299, resize)).unsqueeze(0)
    with torch.inference_mode():
        features, others = (network.extract(picture) for network in opened)
    assert features.shape == (1, 2048)
    torch.testing.assert_close(features, others, rtol=1e-4, atol=1e-4 * float(features.abs().max()))


def test_weights_that_are_not_published_are_refused(files: dict[str, Path]) -> None:
    for path in files.values():
        with pytest.raises(InputError, match=r"its sha256 [0-9a-f]{16} is that of no published .* --trust-weights"):
            open_network(path)


def test_weights_that_are_trusted_are_not_called_fid(files: dict[str, Path]) -> None:
    network = open_network(files["state_dict"], trust=True)
    assert (network.frechet, network.kernel) == ("fd_other_weights", "kd_other_weights")
    assert network.sha256 == hash_artifact(files["state_dict"])
    assert "no FID" in network.note


def test_published_weights_are_called_fid(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    as_published = PUBLISHED[0]._replace(sha256=hash_artifact(files["state_dict"]))
    monkeypatch.setattr(networks, "PUBLISHED", (as_published, PUBLISHED[1]))
    network = open_network(files["state_dict"])
    assert (network.frechet, network.kernel) == ("fid", "kid")
    assert (network.features, network.side, network.sha256) == (2048, 299, as_published.sha256)


@pytest.mark.slow
def test_a_distance_on_inception_is_its_definition(files: dict[str, Path]) -> None:
    network = open_network(files["state_dict"], trust=True)
    sets = [[draw_pair(seed, (64, 48)).person for seed in range(first, first + 8)] for first in (0, 8)]
    (distance,) = measure_distances(*sets, weights=files["state_dict"], trust_weights=True)
    features = []
    for pictures in sets:
        resized = torch.from_numpy(np.stack([resize_picture(picture, 299, "clean") for picture in pictures]))
        features.append(network.extract(resized).double().numpy())
    c1, c2 = (np.cov(one, rowvar=False) for one in features)
    shift = features[0].mean(axis=0) - features[1].mean(axis=0)
    expected = shift @ shift + np.trace(c1 + c2) - 2 * np.sqrt(np.linalg.eigvals(c1 @ c2).astype(complex)).real.sum()
    assert distance.value == pytest.approx(expected, abs=1e-3)


def test_without_weights_nothing_is_called_fid() -> None:
    network = open_network()
    assert (network.frechet, network.kernel, network.sha256) == ("fd_random", "kd_random", None)
    assert "knows no objects" in network.note


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param({"fc.weight": torch.zeros(1000, 2048)}, r"missing: Conv2d_1a_3x3.*other shape", id="another one"),
        pytest.param({"fc.weight": "none"}, r"missing: Conv2d_1a_3x3", id="no tensors"),
        pytest.param([1], r"missing: Conv2d_1a_3x3", id="no state_dict"),
    ],
)
def test_a_state_dict_of_another_network_is_refused(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(InputError, match=rf"other\.pth: is not the Inception of FID; {message}"):
        open_network(tmp_path / "other.pth", trust=True)


def test_weights_that_are_not_finite_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    weights = torch.load(files["state_dict"], weights_only=True)
    weights["fc.bias"][0] = torch.nan
    torch.save(weights, tmp_path / "nan.pth")
    with pytest.raises(InputError, match=r"NaN or infinite values in fc\.bias"):
        open_network(tmp_path / "nan.pth", trust=True)


def test_torchscript_of_another_network_is_refused(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"other\.pt: is not the TorchScript Inception of FID \(.*layers.*\); take"):
        open_network(tmp_path / "other.pt", trust=True)


def test_a_file_that_is_missing_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        open_network(tmp_path / "none.pth")


def test_the_random_network_is_always_the_same() -> None:
    """Its first weights are numpy's frozen stream of seed 0, scaled by sqrt(2 / 27)."""
    torch.manual_seed(1)
    first = RandomNetwork().state_dict()["layers.0.weight"].flatten()[:2].numpy()
    np.testing.assert_allclose(first, np.sqrt(2 / 27) * np.array([1.76405235, 0.40015721]), rtol=1e-6)
    assert RandomNetwork()(torch.zeros(1, 3, 128, 128)).shape == (1, 240)

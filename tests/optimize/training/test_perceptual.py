"""The perceptual loss: VGG19 as torchvision stores it, and the Laplacian pyramids that stand in for it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from vtopt.optimize.errors import InputError
from vtopt.optimize.training import perceptual
from vtopt.optimize.training.perceptual import (
    BLOCKS,
    FEATURES,
    build_vgg19,
    compare_features,
    compare_pyramids,
    load_vgg19,
    make_perceptual_loss,
)

CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)
"""Where torchvision's vgg19().features has its convolutions, up to conv5_1."""


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        perceptual, "BLOCKS", tuple(tuple(4 + index for _ in block) for index, block in enumerate(BLOCKS))
    )


@pytest.fixture
def weights(narrow: None) -> dict[str, Tensor]:
    """A file's content as torchvision's, narrow: also what lies behind relu5_1."""
    torch.manual_seed(0)
    state = {f"features.{name}": tensor for name, tensor in build_vgg19().state_dict().items()}
    return state | {"features.30.weight": torch.ones(8, 8, 3, 3), "classifier.0.weight": torch.ones(10, 8)}


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_vgg19_has_torchvisions_layers() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in build_vgg19().state_dict().items()}
    widths = [width for block in BLOCKS for width in block]
    assert shapes == {
        name: shape
        for index, width, before in zip(CONVOLUTIONS, widths, [3, *widths[:-1]], strict=True)
        for name, shape in ((f"{index}.weight", (width, before, 3, 3)), (f"{index}.bias", (width,)))
    }
    assert [type(build_vgg19()[index]).__name__ for index in FEATURES] == ["ReLU"] * 5
    assert sum(tensor.numel() for tensor in build_vgg19().parameters()) == 12_944_960  # of all 20,024,384


@pytest.mark.parametrize("only_features", [False, True], ids=["the whole network", "its features alone"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_vgg19_is_read_from(suffix: str, only_features: bool, weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / f"vgg19{suffix}"
    saved = (
        {name.removeprefix("features."): tensor for name, tensor in weights.items() if "features" in name}
        if only_features
        else weights
    )
    torch.save(saved, path) if suffix == ".pth" else save_file(saved, path)
    network = load_vgg19(path)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, weights[f"features.{name}"])


def test_half_precision_weights_are_widened(weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({name: tensor.half() for name, tensor in weights.items()}, tmp_path / "vgg.pth")
    assert {tensor.dtype for tensor in load_vgg19(tmp_path / "vgg.pth").state_dict().values()} == {torch.float32}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda w: w.pop("features.5.weight"), r"features\.5\.weight is missing", id="a layer is missing"),
        pytest.param(
            lambda w: w.update({"features.7.bias": torch.ones(3)}),
            r"features\.7\.bias is \[3\], not \[5\]",
            id="a shape",
        ),
        pytest.param(lambda w: w["features.0.bias"].fill_(torch.nan), r"NaN or infinite values", id="NaN"),
    ],
)
def test_a_file_that_is_not_vgg19_is_refused(
    change: Callable[[dict[str, Tensor]], object], message: str, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    change(weights)
    torch.save(weights, tmp_path / "vgg.pth")
    with pytest.raises(InputError, match=rf"vgg\.pth: .*{message}"):
        load_vgg19(tmp_path / "vgg.pth")


def test_features_are_weighted_means_of_their_differences(narrow: None) -> None:
    torch.manual_seed(1)
    vgg = build_vgg19()
    a, b = _draw(2, 3, 4, 4), _draw(2, 3, 4, 4, seed=1)

    def look(picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (perceptual.MEAN, perceptual.DEVIATION))
        first = F.relu(vgg[0](((picture + 1) / 2 - mean) / deviation))
        second = F.relu(vgg[5](F.max_pool2d(F.relu(vgg[2](first)), 2)))
        return first, second, F.relu(vgg[10](F.max_pool2d(F.relu(vgg[7](second)), 2)))

    differences = [(one - other).abs().mean() for one, other in zip(look(a), look(b), strict=True)]
    expected = differences[0] / 32 + differences[1] / 16 + differences[2] / 8  # 4x4 pixels are halved twice
    torch.testing.assert_close(compare_features(vgg, a, b), expected)


@pytest.mark.parametrize("size", [(1, 1), (15, 40), (64, 48)], ids=str)
def test_every_size_can_be_compared(size: tuple[int, int], narrow: None) -> None:
    vgg, picture = build_vgg19().requires_grad_(False), _draw(1, 3, *size)
    for compare in (lambda *pictures: compare_features(vgg, *pictures), compare_pyramids):
        assert float(compare(picture, picture)) == 0.0
        assert float(compare(picture, -picture)) > 0.0


def test_a_shade_is_all_in_the_last_level() -> None:
    picture = _draw(1, 3, 32, 24)
    assert float(compare_pyramids(picture + 0.25, picture)) == pytest.approx(0.25, rel=1e-4)


def test_pyramids_are_the_formula_of_lap1() -> None:
    a, b = _draw(1, 1, 8, 10).expand(1, 3, 8, 10), _draw(1, 1, 8, 10, seed=1).expand(1, 3, 8, 10)

    def shrink(x: np.ndarray) -> np.ndarray:
        padded, weights = np.pad(x, 2, mode="edge"), np.array([1, 4, 6, 4, 1]) / 16
        blurred = np.zeros_like(x)
        for (i, wi), (j, wj) in product(enumerate(weights), repeat=2):
            blurred += wi * wj * padded[i : i + x.shape[0], j : j + x.shape[1]]
        return blurred[::2, ::2]

    def list_bands(x: np.ndarray) -> list[np.ndarray]:
        if min(x.shape) < 4:
            return [x]
        low = shrink(x)
        wide = F.interpolate(torch.from_numpy(low)[None, None], size=x.shape, mode="bilinear")[0, 0].numpy()
        return [x - wide, *list_bands(low)]

    one, other = (list_bands(picture[0, 0].double().numpy()) for picture in (a, b))
    levels = [4**level * np.abs(x - y).sum() for level, (x, y) in enumerate(zip(one, other, strict=True))]
    assert len(levels) == 3
    pixels = [4**level * x.size for level, x in enumerate(one)]  # about those of the picture, on every level
    expected = sum(level / count for level, count in zip(levels, pixels, strict=True))
    assert float(compare_pyramids(a, b)) == pytest.approx(expected, rel=1e-5)


def test_without_a_file_pyramids_stand_in(weights: dict[str, Tensor], tmp_path: Path) -> None:
    a, b = _draw(1, 3, 16, 16), _draw(1, 3, 16, 16, seed=1)
    torch.testing.assert_close(make_perceptual_loss(None)(a, b), compare_pyramids(a, b))
    torch.save(weights, tmp_path / "vgg.pth")
    expected = compare_features(load_vgg19(tmp_path / "vgg.pth"), a, b)
    torch.testing.assert_close(make_perceptual_loss(tmp_path / "vgg.pth")(a, b), expected)


@pytest.mark.parametrize("kind", ["features", "pyramids"])
def test_looks_can_be_learned(kind: str, narrow: None) -> None:
    torch.manual_seed(0)
    vgg, truth = build_vgg19().requires_grad_(False), _draw(1, 3, 32, 24)
    picture = torch.zeros_like(truth).requires_grad_()
    optimizer = torch.optim.Adam([picture], lr=0.05)
    losses = []
    for _ in range(40):
        loss = compare_features(vgg, picture, truth) if kind == "features" else compare_pyramids(picture, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]

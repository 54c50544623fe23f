"""Inception v3 of FID: its names and shapes, and its features against the same written out layer by layer."""

from __future__ import annotations

import torch
from seeded_inception import draw_weights
from torch import Tensor
from torch.nn import functional as F

from vtopt.benchmarks.fid.inception import BLOCKS, CLASSES, FEATURES, Inception

TRUNK_OF_TORCHVISION = 23_834_568 - (FEATURES * 1000 + 1000)
"""Parameters of torchvision's inception_v3 without its auxiliary classifier, less those of its 1000 classes."""


def test_it_has_the_published_names_and_shapes() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in Inception().state_dict().items()}
    for name, shape in {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Conv2d_4a_3x3.bn.running_var": (192,),
        "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_5d.branch_pool.conv.weight": (64, 288, 1, 1),
        "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3),
        "Mixed_6b.branch7x7_2.conv.weight": (128, 128, 1, 7),
        "Mixed_6e.branch7x7dbl_5.conv.weight": (192, 192, 1, 7),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7b.branch3x3_2a.conv.weight": (384, 384, 1, 3),
        "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
        "Mixed_7c.branch1x1.bn.bias": (320,),
        "fc.weight": (CLASSES, FEATURES),
        "fc.bias": (CLASSES,),
    }.items():
        assert shapes[name] == shape, name
    assert len([name for name in shapes if name.endswith("conv.weight")]) == 94
    assert [name for name, _ in Inception().named_children()][5:-1] == list(BLOCKS)
    parameters = sum(parameter.numel() for parameter in Inception().parameters())
    assert parameters == TRUNK_OF_TORCHVISION + (FEATURES + 1) * CLASSES


def test_its_features_are_those_of_the_layers_written_out() -> None:
    weights = draw_weights()
    network = Inception().eval()
    network.load_state_dict(weights)
    pictures = torch.rand(2, 3, 107, 123, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        features, expected = network(pictures), _run_written_out(weights, pictures)
    assert expected.std() > 0.01
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def _run_written_out(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    def conv(name: str, x: Tensor, stride: int = 1, padding: tuple[int, int] = (0, 0)) -> Tensor:
        x = F.conv2d(x, weights[f"{name}.conv.weight"], None, stride, padding)
        mean, variance = weights[f"{name}.bn.running_mean"], weights[f"{name}.bn.running_var"]
        return F.batch_norm(
            x, mean, variance, weights[f"{name}.bn.weight"], weights[f"{name}.bn.bias"], eps=1e-3
        ).relu()

    def average(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, 1, 1) / F.avg_pool2d(torch.ones_like(x), 3, 1, 1)

    def small(b: str, x: Tensor) -> Tensor:
        five = conv(f"{b}.branch5x5_2", conv(f"{b}.branch5x5_1", x), padding=(2, 2))
        three = conv(f"{b}.branch3x3dbl_2", conv(f"{b}.branch3x3dbl_1", x), padding=(1, 1))
        three = conv(f"{b}.branch3x3dbl_3", three, padding=(1, 1))
        return torch.cat([conv(f"{b}.branch1x1", x), five, three, conv(f"{b}.branch_pool", average(x))], 1)

    def factored(b: str, x: Tensor) -> Tensor:
        row, column = (0, 3), (3, 0)
        seven = conv(f"{b}.branch7x7_2", conv(f"{b}.branch7x7_1", x), padding=row)
        seven = conv(f"{b}.branch7x7_3", seven, padding=column)
        twice = conv(f"{b}.branch7x7dbl_1", x)
        for index, padding in ((2, column), (3, row), (4, column), (5, row)):
            twice = conv(f"{b}.branch7x7dbl_{index}", twice, padding=padding)
        return torch.cat([conv(f"{b}.branch1x1", x), seven, twice, conv(f"{b}.branch_pool", average(x))], 1)

    def spread(b: str, x: Tensor, pooled: Tensor) -> Tensor:
        three = conv(f"{b}.branch3x3_1", x)
        twice = conv(f"{b}.branch3x3dbl_2", conv(f"{b}.branch3x3dbl_1", x), padding=(1, 1))
        return torch.cat(
            [
                conv(f"{b}.branch1x1", x),
                conv(f"{b}.branch3x3_2a", three, padding=(0, 1)),
                conv(f"{b}.branch3x3_2b", three, padding=(1, 0)),
                conv(f"{b}.branch3x3dbl_3a", twice, padding=(0, 1)),
                conv(f"{b}.branch3x3dbl_3b", twice, padding=(1, 0)),
                conv(f"{b}.branch_pool", pooled),
            ],
            1,
        )

    x = conv("Conv2d_2a_3x3", conv("Conv2d_1a_3x3", x, stride=2))
    x = F.max_pool2d(conv("Conv2d_2b_3x3", x, padding=(1, 1)), 3, 2)
    x = F.max_pool2d(conv("Conv2d_4a_3x3", conv("Conv2d_3b_1x1", x)), 3, 2)
    x = small("Mixed_5d", small("Mixed_5c", small("Mixed_5b", x)))
    three = conv("Mixed_6a.branch3x3dbl_2", conv("Mixed_6a.branch3x3dbl_1", x), padding=(1, 1))
    three = conv("Mixed_6a.branch3x3dbl_3", three, stride=2)
    x = torch.cat([conv("Mixed_6a.branch3x3", x, stride=2), three, F.max_pool2d(x, 3, 2)], 1)
    for block in "bcde":
        x = factored(f"Mixed_6{block}", x)
    three = conv("Mixed_7a.branch3x3_2", conv("Mixed_7a.branch3x3_1", x), stride=2)
    seven = conv("Mixed_7a.branch7x7x3_2", conv("Mixed_7a.branch7x7x3_1", x), padding=(0, 3))
    seven = conv("Mixed_7a.branch7x7x3_4", conv("Mixed_7a.branch7x7x3_3", seven, padding=(3, 0)), stride=2)
    x = torch.cat([three, seven, F.max_pool2d(x, 3, 2)], 1)
    x = spread("Mixed_7b", x, average(x))
    x = spread("Mixed_7c", x, F.max_pool2d(x, 3, 1, 1))
    return x.flatten(2).mean(2)

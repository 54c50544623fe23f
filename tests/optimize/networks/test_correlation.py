"""The correlation layer: one sum per place and shift, written as loops, and what it is exported to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vtopt.optimize.export import trace_dynamo
from vtopt.optimize.networks import InputSpec, Network
from vtopt.optimize.networks.correlation import Correlation, correlate, correlate_slices

TOLERANCE = {"atol": 1e-6, "rtol": 0.0}


def _draw(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def _correlate_by_hand(first: Tensor, second: Tensor, radius: int) -> Tensor:
    count, channels, height, width = first.shape
    side = 2 * radius + 1
    result = torch.zeros(count, side * side, height, width)
    for shift in range(side * side):
        dy, dx = shift // side - radius, shift % side - radius
        for y in range(max(0, -dy), min(height, height - dy)):
            for x in range(max(0, -dx), min(width, width - dx)):
                result[:, shift, y, x] = (first[:, :, y, x] * second[:, :, y + dy, x + dx]).sum(1) / channels
    return result


@pytest.mark.parametrize("form", [correlate, correlate_slices])
@pytest.mark.parametrize(
    ("shape", "radius"),
    [
        pytest.param((1, 5, 8, 6), 3, id="the coarsest level"),
        pytest.param((2, 4, 17, 9), 3, id="sides that no tile divides"),
        pytest.param((1, 3, 2, 1), 3, id="smaller than the shifts"),
        pytest.param((1, 3, 12, 16), 1, id="shifts of one pixel"),
    ],
)
def test_every_form_equals_the_sums_by_hand(form, shape: tuple[int, ...], radius: int) -> None:
    first, second = _draw(*shape)
    expected = _correlate_by_hand(first, second, radius)
    torch.testing.assert_close(form(first, second, radius), expected, **TOLERANCE)


def test_both_forms_have_the_same_gradients() -> None:
    gradients = []
    for form in (correlate, correlate_slices):
        inputs = [value.requires_grad_() for value in _draw(1, 4, 9, 10)]
        form(*inputs).square().mean().backward()
        gradients.append([value.grad for value in inputs])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, **TOLERANCE)


@pytest.mark.parametrize("size", [(16, 24), (12, 9)], ids=["whole tiles", "parts of tiles"])
def test_it_is_exported_for_older_opsets_without_custom_operators(size: tuple[int, int]) -> None:
    import onnxruntime

    first, second = _draw(1, 8, *size)
    inputs = (InputSpec("first", 8), InputSpec("second", 8))
    model = trace_dynamo(Network(module=Correlation(), inputs=inputs, outputs=("volume",)), (first, second), 17)
    assert {node.domain for node in model.graph.node} == {""}
    assert "MatMul" in {node.op_type for node in model.graph.node}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (made,) = session.run(None, {"first": first.numpy(), "second": second.numpy()})
    torch.testing.assert_close(torch.from_numpy(made), correlate_slices(first, second), **TOLERANCE)


def test_it_is_a_module_without_weights_that_steps_can_try() -> None:
    first, second = _draw(1, 4, 8, 8)
    layer = Correlation(2)
    assert not [*layer.parameters(), *layer.buffers()]
    assert layer(first[:, :3], second[:, :3]).shape == layer(first, second).shape == (1, 25, 8, 8)

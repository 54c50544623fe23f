"""Every form of repeat_interleave exports, by both exporters, and gives what torch gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch import repeat_interleave as imported_by_name

from vtopt.optimize import export
from vtopt.optimize.artifacts import Size
from vtopt.optimize.errors import InputError
from vtopt.optimize.networks import InputSpec, Network
from vtopt.optimize.repeat_interleave import exportable_repeat_interleave

TOLERANCE = 1e-6
SIZE = Size(3, 4)
COUNTS = [2, 0, 1]
TOTAL = sum(COUNTS)
GROWN = {"RepeatInterleave", "Loop", "SequenceEmpty", "SplitToSequence", "NonZero"}
"""What exporters make of calls that are not rewritten, and runtimes refuse or run slowly."""

Forward = Callable[[nn.Module, Tensor], Tensor]


class Net(nn.Module):
    """Calls `forward_with` on a picture (N, 3, 3, 4)."""

    def __init__(self, forward_with: Forward) -> None:
        super().__init__()
        self.forward_with = forward_with
        self.register_buffer("counts", torch.tensor(COUNTS))
        self.inner = Inner() if forward_with is call_submodule_twice else None

    def forward(self, person: Tensor) -> Tensor:
        return self.forward_with(self, person)


class Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(torch.tensor([1, 2] * (x.shape[1] // 2) + [3] * (x.shape[1] % 2)), 1)


def call_submodule_twice(net: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(net.inner, Inner)
    return net.inner(net.inner(x))


def _mix(net: nn.Module, x: Tensor) -> Tensor:
    high = x.repeat_interleave(2, 2)
    wide = torch.repeat_interleave(high, torch.tensor([1, 2, 3, 4]), 3)
    return wide.repeat_interleave(net.counts, dim=1) * wide.shape[0]


FORMS: dict[str, Forward] = {
    "an integer along a dimension": lambda net, x: torch.repeat_interleave(x, 2, 1),
    "an integer along a negative dimension": lambda net, x: x.repeat_interleave(3, -1),
    "an integer along the batch": lambda net, x: x.repeat_interleave(2, dim=0),
    "an integer of one": lambda net, x: x.repeat_interleave(1, 1),
    "an integer without a dimension": lambda net, x: torch.repeat_interleave(x, 2),
    "an integer that is a size": lambda net, x: x.repeat_interleave(x.shape[3], 1),
    "an integer that is the batch": lambda net, x: x.repeat_interleave(x.shape[0], 1).sum(1),
    "a tensor without dimensions": lambda net, x: x.repeat_interleave(torch.tensor(2), 1),
    "a tensor of one element": lambda net, x: x.repeat_interleave(torch.tensor([2]), 2),
    "a tensor of equal elements": lambda net, x: x.repeat_interleave(torch.full((3,), 2), 1),
    "a tensor of a count per picture": lambda net, x: x.repeat_interleave(torch.full((x.shape[0],), 2), 0),
    "a buffer": lambda net, x: x.repeat_interleave(net.counts, 1),
    "a tensor made in forward": lambda net, x: torch.repeat_interleave(x, torch.tensor(COUNTS), 1),
    "a tensor along a negative dimension": lambda net, x: x.repeat_interleave(net.counts, -2),
    "repeats alone": lambda net, x: x[:, torch.repeat_interleave(net.counts)],
    "repeats alone by keyword": lambda net, x: x[:, torch.repeat_interleave(repeats=net.counts)],
    "keywords": lambda net, x: torch.repeat_interleave(input=x, repeats=net.counts, dim=1),
    "keywords in another order": lambda net, x: x.repeat_interleave(dim=1, repeats=2),
    "keywords as NumPy has them": lambda net, x: torch.repeat_interleave(x=x, repeats=2, axis=1),
    "an output size": lambda net, x: x.repeat_interleave(net.counts, 1, output_size=TOTAL),
    "a function imported by name": lambda net, x: imported_by_name(x, net.counts, 1),
    "several calls": _mix,
    "a submodule used twice": call_submodule_twice,
}

TRACERS = {"dynamo": export.trace_dynamo, "torchscript": export._trace_torchscript}


def _make_network(forward_with: Forward) -> Network:
    return Network(Net(forward_with).eval(), (InputSpec("person"),), size=SIZE, name="net")


def _make_picture(batch: int) -> Tensor:
    return torch.arange(batch * 3 * SIZE.height * SIZE.width).reshape(batch, 3, *SIZE) / 8  # sums are exact


def _trace(network: Network, exporter: str, dynamic_batch: bool) -> ModelProto:
    notices: list[str] = []
    model = export._trace(network, SIZE, 17, dynamic_batch, exporter, notices)
    assert notices == []
    return model


def _require_equal(model: ModelProto, module: nn.Module, batch: int) -> None:
    import onnxruntime as ort

    picture = _make_picture(batch)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    made: Any = session.run(None, {"person": picture.numpy()})[0]
    expected = module(picture).numpy()
    assert made.shape == expected.shape
    np.testing.assert_allclose(made, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("exporter", TRACERS)
@pytest.mark.parametrize("form", FORMS)
def test_a_form_exports(form: str, exporter: str) -> None:
    network = _make_network(FORMS[form])
    model = _trace(network, exporter, dynamic_batch=False)
    _require_equal(model, network.module, batch=1)
    assert not {node.op_type for node in model.graph.node} & GROWN


@pytest.mark.parametrize("exporter", TRACERS)
@pytest.mark.parametrize(
    "form",
    [
        "an integer along the batch",
        "an integer that is the batch",
        "a tensor of a count per picture",
        "a buffer",
        "several calls",
    ],
)
def test_a_form_exports_with_a_dynamic_batch(form: str, exporter: str) -> None:
    network = _make_network(FORMS[form])
    model = _trace(network, exporter, dynamic_batch=True)
    for batch in (1, 2, 3):
        _require_equal(model, network.module, batch)


@pytest.mark.parametrize("exporter", TRACERS)
def test_a_network_without_it_exports_as_it_is(exporter: str) -> None:
    network = _make_network(lambda net, x: x * 2)
    model = _trace(network, exporter, dynamic_batch=False)
    assert [node.op_type for node in model.graph.node if node.op_type != "Constant"] == ["Mul"]


@pytest.mark.parametrize(
    "forward_with",
    [
        pytest.param(lambda net, x: x.repeat_interleave((x[0, 0, 0, :3] > 0).long(), 1), id="in a tensor"),
        pytest.param(lambda net, x: x.repeat_interleave(int(x[0, 0, 0, 0] > 0), 1), id="as an integer"),
        pytest.param(lambda net, x: x.repeat_interleave(2, 1) if x[0, 0, 0, 0] > 0 else x, id="in the number of calls"),
    ],
)
def test_repeats_that_depend_on_the_input_are_refused(forward_with: Forward) -> None:
    examples = [(torch.full((1, 3, *SIZE), sign),) for sign in (-1.0, 1.0)]
    with (
        pytest.raises(InputError, match=r"repeats that depend on the input; .* make them constant"),
        exportable_repeat_interleave(Net(forward_with), examples),
    ):
        pytest.fail("the network must not be traced")


def test_a_pass_that_broke_off_does_not_shift_the_next() -> None:
    calls = 0

    def break_off_once(net: nn.Module, x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        x = x.repeat_interleave(torch.tensor(COUNTS), 1)
        if calls == 2:
            raise ValueError("broken off")
        return x.repeat_interleave(torch.tensor([1, 2, 3]), 2)

    module, picture = Net(break_off_once), _make_picture(1)
    with exportable_repeat_interleave(module, [(picture,)]):
        with pytest.raises(ValueError, match="broken off"):
            module(picture)
        made = module(picture), module(picture)
    assert all(torch.equal(result, module(picture)) for result in made)


def test_more_calls_in_the_trace_than_before_are_refused() -> None:
    repeated = 1

    def repeat_more(net: nn.Module, x: Tensor) -> Tensor:
        for _ in range(repeated):
            x = x.repeat_interleave(2, 1)
        return x

    module, picture = Net(repeat_more), _make_picture(1)
    with exportable_repeat_interleave(module, [(picture,)]):
        repeated = 2
        with pytest.raises(InputError, match="more often while it is traced"):
            module(picture)


def test_torch_is_left_as_it_was_after_an_error() -> None:
    before = torch.repeat_interleave, torch.Tensor.repeat_interleave
    module = Net(FORMS["a buffer"])
    with (
        pytest.raises(ZeroDivisionError),
        exportable_repeat_interleave(module, [(_make_picture(1),)]),
    ):
        raise ZeroDivisionError
    assert (torch.repeat_interleave, torch.Tensor.repeat_interleave) == before
    assert not module._forward_pre_hooks
    depends = torch.tensor([1, 2])  # refused or wrong if calls were still replayed
    assert torch.arange(2).repeat_interleave(depends).tolist() == [0, 1, 1]


def test_a_network_may_keep_what_it_makes_in_its_first_run(tmp_path: Path) -> None:
    kept: dict[str, Tensor] = {}

    def keep(net: nn.Module, x: Tensor) -> Tensor:
        if "row" not in kept:
            kept["row"] = torch.arange(4.0)
        return (x + kept["row"]).repeat_interleave(2, 1)

    network = _make_network(keep)
    for exporter in TRACERS:
        _require_equal(_trace(network, exporter, dynamic_batch=False), network.module, batch=1)

"""The plain form: the pictures of the network, by the operators that its public code leads to."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from vtopt.benchmarks.engines import open_engine
from vtopt.benchmarks.plain_warp import export_plainly, plain_warps, trace_plainly
from vtopt.optimize.errors import VtoptError
from vtopt.optimize.networks import InputSpec, Network, warping
from vtopt.optimize.weights import load_network

SIZE = (64, 48)


@pytest.fixture
def network(small_checkpoint: Path) -> Network:
    return load_network(small_checkpoint)


def _make_inputs(batch: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(batch, 3, *SIZE, generator=generator) * 2 - 1 for _ in range(2)]


def test_plain_warps_makes_the_same_pictures(network: Network) -> None:
    inputs = _make_inputs(2)
    with torch.no_grad():
        expected = network.module(*inputs)
        with plain_warps():
            made = network.module(*inputs)
    assert torch.allclose(made, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert not torch.equal(made, expected)


def test_plain_warps_ends_when_it_is_closed_also_by_an_error() -> None:
    before = warping.sample_border, warping.DeformableAttentionWarp.forward
    with pytest.raises(ValueError, match="inside"), plain_warps():
        assert warping.sample_border is not before[0]
        raise ValueError("inside")
    assert (warping.sample_border, warping.DeformableAttentionWarp.forward) == before


@pytest.mark.parametrize("batch", [1, 3])
def test_export_plainly_keeps_the_copies_and_the_border(network: Network, tmp_path: Path, batch: int) -> None:
    path = export_plainly(network, tmp_path / "plain.onnx", SIZE, batch)
    model = onnx.load(path)
    ops = Counter(node.op_type for node in model.graph.node)
    samplings = [node for node in model.graph.node if node.op_type == "GridSample"]
    padding = {attribute.s for node in samplings for attribute in node.attribute if attribute.name == "padding_mode"}
    levels, branches = 2, 2
    warps = branches * (1 + 2 * (levels - 1) + 1)  # once in the first level, twice in the others, once to render
    copied = branches * (levels + 1)  # both warps of a level copy the same features
    assert ops["Split"] == warps
    assert ops["Tile"] == warps + copied
    assert padding == {b"border"}
    assert model.opset_import[0].version == 16
    sides = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim]
    assert sides == [batch, 3, *SIZE]


def test_export_plainly_makes_the_pictures_of_the_network(network: Network, tmp_path: Path) -> None:
    engine = open_engine(export_plainly(network, tmp_path / "plain.onnx", SIZE, 2), threads=1)
    inputs = _make_inputs(2)
    made = engine.run({"person": inputs[0].numpy(), "clothes": inputs[1].numpy()})["tryon"]
    with torch.no_grad():
        expected = network.module(*inputs).numpy()
    assert np.abs(made - expected).max() <= 1e-4 * np.abs(expected).max()


def test_trace_plainly_names_the_network_that_cannot_be_exported() -> None:
    network = Network(torch.nn.Conv2d(5, 3, 1), inputs=(InputSpec("person"),), name="five")
    with pytest.raises(VtoptError, match="network 'five'"):
        trace_plainly(network, SIZE)

"""The plain form: the pictures of the network, by the operators that its public code leads to."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch

from vtopt.benchmarks.engines.engine import open_engine
from vtopt.benchmarks.studies.plain_warp import export_plainly, plain_warps, trace_plainly
from vtopt.optimize.errors import VtoptError
from vtopt.optimize.networks import InputSpec, Network, build_network, warping
from vtopt.optimize.networks.correlation import Correlation
from vtopt.optimize.weights import load_network

SIZE = (64, 48)

WARP = {"pyramid_widths": (4, 6), "pyramid_dim": 8, "flow_filters": (6, 4)}
OTHERS: dict[str, dict[str, Any]] = {
    "pfafn_warp": WARP,
    "pfafn_warp_aligned": WARP,
    "pfafn": WARP | {"generator_widths": (4, 6, 6)},
    "pfafn_aligned": WARP | {"generator_widths": (4, 6, 6)},
    "hrviton_tocg": {"width": 3},
}
"""Networks at small widths, whose public code warps as torch does."""
OTHER_SIZE = (64, 32)


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
    def list_forms() -> tuple[object, ...]:
        return warping.sample_clamped, warping.DeformableAttentionWarp.forward, Correlation.forward

    usual = list_forms()
    with pytest.raises(ValueError, match="inside"), plain_warps():
        assert not {*usual} & {*list_forms()}
        raise ValueError("inside")
    assert list_forms() == usual


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


class Traced(NamedTuple):
    """One of OTHERS, with random weights that move places by a pixel or more, and its plain form for a batch."""

    name: str
    network: Network
    model: onnx.ModelProto


BATCH = 2


@pytest.fixture(scope="module", params=OTHERS)
def traced(request: pytest.FixtureRequest) -> Traced:
    network = _build(request.param)
    return Traced(request.param, network, trace_plainly(network, OTHER_SIZE, BATCH))


def _build(name: str) -> Network:
    torch.manual_seed(0)
    network = build_network(name, OTHERS[name])
    network.module.eval()
    for module in network.module.modules():
        if isinstance(module, torch.nn.Conv2d) and module.out_channels == 2 and module.bias is not None:
            torch.nn.init.uniform_(module.bias, -3, 3)
    return network


def test_the_plain_form_of_every_network_makes_its_pictures(traced: Traced, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = {spec.name: (BATCH, spec.channels, *OTHER_SIZE) for spec in traced.network.inputs}
    inputs = {name: torch.rand(shape, generator=generator) * 2 - 1 for name, shape in shapes.items()}
    with torch.no_grad():
        expected = traced.network.module(*inputs.values())
        with plain_warps():
            plain = traced.network.module(*inputs.values())
    onnx.save(traced.model, tmp_path / "plain.onnx")
    engine = open_engine(tmp_path / "plain.onnx", threads=1)
    exported = engine.run({name: value.numpy() for name, value in inputs.items()})
    for usual, made, ran in zip(expected, plain, exported.values(), strict=True):
        largest = float(usual.abs().max())
        assert (made - usual).abs().max() <= 1e-4 * largest
        assert np.abs(ran - usual.numpy()).max() <= 1e-4 * largest


def test_a_plain_export_samples_as_the_public_code_asks(traced: Traced) -> None:
    nodes = traced.model.graph.node
    samplings = [
        {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        for node in nodes
        if node.op_type == "GridSample"
    ]
    edges = int(traced.name in ("pfafn", "pfafn_aligned"))  # outside the garment's edge there is none
    assert Counter(each["padding_mode"] for each in samplings)[b"zeros"] == edges
    assert {each["padding_mode"] for each in samplings} <= {b"border", b"zeros"}
    assert {each["align_corners"] for each in samplings} == {int(traced.name.endswith("aligned"))}
    assert not {"Max", "Min", "Clip", "Tile"} & {node.op_type for node in nodes}


def test_a_plain_export_correlates_by_shifted_slices(traced: Traced) -> None:
    nodes = traced.model.graph.node
    producers = {output: node.op_type for node in nodes for output in node.output}
    joined = [node for node in nodes if node.op_type == "Concat" and len(node.input) == 7 * 7]
    assert len(joined) == (len(WARP["pyramid_widths"]) if "pfafn" in traced.name else 0)
    assert {producers[value] for node in joined for value in node.input} <= {"ReduceMean"}
    assert "MatMul" not in producers.values()


def test_trace_plainly_names_the_network_that_cannot_be_exported() -> None:
    network = Network(torch.nn.Conv2d(5, 3, 1), inputs=(InputSpec("person"),), name="five")
    with pytest.raises(VtoptError, match="network 'five'"):
        trace_plainly(network, SIZE)

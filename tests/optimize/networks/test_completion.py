"""Fashion completion: the described counts, what each input does, training, folding, export and pruning."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vtopt.optimize.artifacts import Size
from vtopt.optimize.data import labels
from vtopt.optimize.data.pictures import PICTURES
from vtopt.optimize.errors import NetworkError
from vtopt.optimize.export import MAX_RELATIVE_DIFFERENCE, make_example, trace_dynamo
from vtopt.optimize.networks import Network, build_network
from vtopt.optimize.networks.completion import blocks, build_discriminator, stages
from vtopt.optimize.networks.completion.modules import Code
from vtopt.optimize.networks.spectral_norm import fold_network
from vtopt.optimize.pruning.removal import PruningRequest, prune_module

STAGES = ["completion_shape", "completion_texture"]
SAMPLINGS = ["mean", "seeded", "explicit", "garment"]
SMALL = {"first": 8, "most": 16}
SIZE = Size(64, 96)

QUERY_VECTORS = 128 // 4 + 128
"""Entries of both singular vectors of the attention's 1x1 convolution, which the description does not count."""


def _build(name: str, **settings: Any) -> Network:
    """A small network whose attention has a say, which it has not before training."""
    torch.manual_seed(0)
    network = build_network(name, {**SMALL, **settings})
    for entry, share in network.module.named_parameters():
        if entry.endswith("_share"):
            share.data.fill_(0.7)
    return network


def _make_inputs(network: Network, seed: int = 0) -> dict[str, Tensor]:
    made = dict(zip((spec.name for spec in network.inputs), make_example(network, SIZE, 1, seed), strict=True))
    hole = torch.zeros(1, 1, *SIZE)
    hole[:, :, 16:40, 20:70] = 1
    return made | {"hole": hole}


def _run(network: Network, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
    with torch.no_grad():
        made = network.module(*inputs.values())
    return made if isinstance(made, tuple) else (made,)


def _count(module: nn.Module) -> int:
    """Parameters, and the singular vectors that spectral norm keeps."""
    vectors = (entry for name, entry in module.named_buffers() if name.endswith(("weight_u", "weight_v")))
    return sum(entry.numel() for entry in (*module.parameters(), *vectors))


# The counts.


def test_texture_stage_has_the_described_counts() -> None:
    module = build_network("completion_texture").module
    counts = {name: _count(part) for name, part in module.named_children()}
    counts["generator"] -= QUERY_VECTORS
    assert {name: f"{count / 1e6:.4f}" for name, count in counts.items()} == {
        "generator": "3.0506",
        "encoder": "0.9601",
        "compatibility": "0.9631",
    }


def test_discriminator_has_the_described_count() -> None:
    assert f"{(_count(build_discriminator()) - QUERY_VECTORS) / 1e6:.4f}" == "1.5893"


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("counted", [_count, lambda module: sum(entry.numel() for entry in module.parameters())])
def test_counts_are_within_5_percent_however_they_are_counted(name: str, counted: Any) -> None:
    described = {"generator": 3.0506e6, "encoder": 0.9601e6, "compatibility": 0.9631e6}
    for part, module in build_network(name).module.named_children():
        assert counted(module) == pytest.approx(described[part], rel=0.05)
    channels = {"completion_shape": 8, "completion_texture": 3}[name]
    assert counted(build_discriminator(channels)) == pytest.approx(1.5893e6, rel=0.05)


def test_every_convolution_has_spectral_norm() -> None:
    for module in (build_network("completion").module, build_discriminator()):
        convolutions = [layer for layer in module.modules() if isinstance(layer, nn.modules.conv._ConvNd)]
        assert convolutions
        assert all("weight_orig" in layer._parameters and layer.bias is None for layer in convolutions)


def test_fresh_weights_are_divided_by_their_largest_singular_value() -> None:
    torch.manual_seed(0)
    for conv in (blocks.make_conv(6, 10), blocks._make_growing_conv(6, 10)):
        assert torch.linalg.matrix_norm(conv.weight.flatten(1), 2).item() == pytest.approx(1, rel=0.05)


# What goes in and comes out.


def test_shapes_of_inputs_and_outputs() -> None:
    network = _build("completion")
    assert {spec.name: spec.channels for spec in network.inputs} == {
        "person": 3,
        "layout": 8,
        "representation": 19,
        "hole": 1,
        "garments": 12,
    }
    assert network.outputs == ("tryon", "completed_layout")
    tryon, layout = _run(network, _make_inputs(network))
    assert (tryon.shape, layout.shape) == ((1, 3, *SIZE), (1, 8, *SIZE))
    assert network.size == (256, 256)


@pytest.mark.parametrize("name", [*STAGES, "completion"])
def test_what_is_in_the_hole_is_not_read_and_what_is_around_it_stays(name: str) -> None:
    network = _build(name)
    inputs = _make_inputs(network)
    hole = inputs["hole"].bool()
    other = {
        key: torch.where(hole, -value, value) if key in ("person", "layout") else value for key, value in inputs.items()
    }
    expected = _run(network, inputs)
    for made, first in zip(_run(network, other), expected, strict=True):
        assert torch.equal(made, first)
    kept = {"tryon": "person", "completed_layout": "layout"}
    for output, made in zip(network.outputs, expected, strict=True):
        if output in kept:
            outside = (~hole).expand_as(made)
            assert torch.equal(made[outside], inputs[kept[output]][outside])


@pytest.mark.parametrize("name", [*STAGES, "completion"])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_every_input_has_a_say(name: str, sampling: str) -> None:
    network = _build(name, sampling=sampling)
    inputs = _make_inputs(network)
    expected = _run(network, inputs)[0]
    deaf = {"garments"} if sampling == "garment" else set()
    for key in inputs:
        made = _run(network, {**inputs, key: 1 - inputs[key]})[0]
        assert torch.equal(made, expected) == (key in deaf), key


def test_made_layout_is_shares_of_classes_in_their_colours() -> None:
    network = _build("completion_shape")
    inputs = _make_inputs(network)
    inputs["layout"] = nn.functional.one_hot(torch.full((1, *SIZE), 3), 8).permute(0, 3, 1, 2).float()
    picture, layout = _run(network, inputs)
    torch.testing.assert_close(layout.sum(1), torch.ones(1, *SIZE))
    assert layout.min() >= 0
    torch.testing.assert_close(picture[0, :, 0, 0], torch.tensor(labels.LAYOUT_COLORS[3]) / 127.5 - 1)


def test_completion_is_both_stages_one_after_the_other() -> None:
    network = _build("completion")
    inputs = _make_inputs(network)
    module: Any = network.module
    person, *rest = inputs.values()
    with torch.no_grad():
        painted, layout = module.shape(*rest)
        tryon = module.texture(person, painted, inputs["hole"], inputs["garments"])
    assert all(torch.equal(*both) for both in zip(_run(network, inputs), (tryon, layout), strict=True))


# Codes.


def test_seeded_draws_are_the_same_for_a_seed_and_differ_between_seeds() -> None:
    first, again, other = (_build("completion_texture", sampling="seeded", seed=seed) for seed in (1, 1, 2))
    inputs = _make_inputs(first)
    assert torch.equal(_run(first, inputs)[0], _run(again, inputs)[0])
    assert not torch.equal(_run(first, inputs)[0], _run(other, inputs)[0])


def test_explicit_zeros_give_the_mean_and_the_seeds_numbers_its_draw() -> None:
    explicit, mean, seeded = (_build("completion_texture", sampling=name) for name in ("explicit", "mean", "seeded"))
    inputs = _make_inputs(mean)
    shape = (1, 8, *SIZE)
    assert torch.equal(_run(explicit, {**inputs, "z": torch.zeros(shape)})[0], _run(mean, inputs)[0])
    unit: Any = seeded.module.unit
    torch.testing.assert_close(_run(explicit, {**inputs, "z": unit.expand(shape)})[0], _run(seeded, inputs)[0])


def test_sampling_leaves_the_state_dict_alone() -> None:
    plain = build_network("completion_texture", SMALL).module.state_dict()
    for sampling in SAMPLINGS:
        assert list(build_network("completion_texture", {**SMALL, "sampling": sampling}).module.state_dict()) == list(
            plain
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampling": "random"}, "sampling takes 'mean', 'seeded'"),
        ({"levels": 2}, "begin at 3"),
        ({"scales": 6}, "1 to levels"),
    ],
)
def test_settings_that_cannot_be_built_are_explained(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        build_network("completion_texture", settings)


# Training.


@pytest.mark.parametrize("name", STAGES)
def test_training_reaches_every_parameter(name: str) -> None:
    network = _build(name)
    inputs = _make_inputs(network)
    module: Any = network.module.train()
    made = module.forward_training(*inputs.values(), torch.rand(1, 3, *SIZE))
    channels = made.outputs[-1].shape[1]
    assert [tuple(output.shape[2:]) for output in made.outputs] == [
        (SIZE.height // scale, SIZE.width // scale) for scale in (8, 4, 2, 1)
    ]
    judge = build_discriminator(channels, **SMALL)
    loss = sum(output.square().mean() for output in made.outputs) + judge(made.outputs[-1]).mean()
    (loss + stages.measure_divergence(made.garment, made.outfit)).backward()
    assert [
        entry for entry, value in [*module.named_parameters(), *judge.named_parameters()] if value.grad is None
    ] == []


def test_divergence_is_that_of_normal_distributions() -> None:
    code = Code(torch.tensor([1.0]), torch.tensor([2.0]))
    wanted = Code(torch.tensor([0.0]), torch.tensor([1.0]))
    assert stages.measure_divergence(code, wanted).item() == pytest.approx(0.5 * (4 + 1 - 1) - math.log(2))


# Attention, plainly.


def test_attention_gathers_by_likeness_and_keeps_what_is_around_the_hole() -> None:
    torch.manual_seed(0)
    attention = blocks.Attention(8, 6).eval()
    attention.own_share.data.fill_(0.5)
    attention.encoder_share.data.fill_(0.3)
    x, encoded, hole = torch.randn(2, 8, 3, 4), torch.randn(2, 6, 3, 4), torch.randint(2, (2, 1, 3, 4)).float()
    with torch.no_grad():
        query = attention.query(x)
        likeness = torch.einsum("nchw,ncij->nhwij", query, query).exp()
        likeness = likeness / likeness.sum((3, 4), keepdim=True)
        own = x + 0.5 * torch.einsum("nhwij,ncij->nchw", likeness, x)
        far = 0.3 * torch.einsum("nhwij,ncij->nchw", likeness, encoded)
        joined = torch.cat([own, torch.where(hole.bool(), far, encoded)], 1)
        torch.testing.assert_close(attention(x, encoded, hole), attention.merge(joined))


# Folding, export, pruning.


def test_folded_and_exported_it_makes_the_same() -> None:
    import onnxruntime

    network = _build("completion_texture", sampling="seeded", levels=3, scales=2)
    inputs = _make_inputs(network, seed=1)
    plain = _run(network, inputs)
    folded = fold_network(network)
    assert all(torch.equal(*both) for both in zip(_run(folded, inputs), plain, strict=True))
    model = trace_dynamo(folded, tuple(inputs.values()), 17)
    assert "RandomNormalLike" not in {node.op_type for node in model.graph.node}
    session = onnxruntime.InferenceSession(model.SerializeToString())
    made = session.run(list(network.outputs), {key: value.numpy() for key, value in inputs.items()})
    for values, expected in zip(made, plain, strict=True):
        assert np.abs(values - expected.numpy()).max() <= MAX_RELATIVE_DIFFERENCE * expected.abs().max()


def test_folded_it_can_be_pruned_and_attention_keeps_its_channels() -> None:
    network = fold_network(_build("completion_texture", first=16, most=32))
    before = _count(network.module)
    inputs = _make_inputs(network)
    removal = prune_module(network, PruningRequest({"": 0.4}), tuple(inputs.values()))
    assert removal.removed > 0.2 * removal.channels
    assert _count(network.module) < before
    module: Any = network.module
    assert module.generator.attention.query.out_channels == 32 // 4
    assert module.generator.encoder.blocks[1].conv2.out_channels < 32
    assert _run(network, inputs)[0].shape == (1, 3, *SIZE)


def test_a_code_that_z_does_not_have_is_refused() -> None:
    with pytest.raises(NetworkError, match="code is 4, and the picture z that sampling explicit reads has 8 channels"):
        build_network("completion", {**SMALL, "code": 4, "sampling": "explicit"})
    assert build_network("completion", {**SMALL, "code": 4, "sampling": "seeded"}).config["code"] == 4


def test_channels_of_pictures_are_those_that_pairs_have() -> None:
    network = build_network("completion", {**SMALL, "sampling": "explicit"})
    for spec in network.inputs:
        assert spec.channels == PICTURES[spec.fed_by].channels, spec.name

"""What is fenced, what a module without weights does to channels, and that it is found in no time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vtopt.optimize.artifacts import Size
from vtopt.optimize.export import make_example
from vtopt.optimize.networks import InputSpec, Network, build_network
from vtopt.optimize.pruning.leaves import Leaf, find_leaves, try_leaf
from vtopt.optimize.pruning.tracing import Traced, trace_network
from vtopt.optimize.pruning.trials import halve_shape, keeps_apart, shrinks


def _trace(network: Network) -> Traced:
    return trace_network(network, make_example(network, Size(*network.size), 1, 0))


def _list_fenced(network: Network) -> set[str]:
    fenced = _trace(network).fenced
    return {name for name, layer in network.module.named_modules() if layer in fenced}


@pytest.mark.parametrize(
    ("name", "fenced"),
    [
        ("inline_attention_warp", {"features.2", "head", "decoder.2"}),
        ("module_attention_warp", {"head", "decoder.2"}),
        ("inline_flow_warp", {"coarse.2", "fine.2", "decoder.2"}),
        ("inline_mask", {"mask.2", "decoder"}),
        ("two_outputs", {"picture", "mask"}),
        ("nested_outputs", {"stem.2", "picture", "mask"}),
        ("self_attention", {"stem.2", "query", "key", "value", "decoder.2"}),
        ("buffer_added", {"stem", "decoder"}),
        ("unet", {"last"}),
    ],
)
def test_trace_network_fences(name, fenced, build) -> None:
    assert _list_fenced(build(name)) == fenced


@pytest.mark.parametrize(
    ("name", "module", "rule"),
    [
        ("module_attention_warp", "warp", Leaf("follows", (0,))),
        ("module_correlation_9", "correlation", Leaf("mixes", (0, 1))),
        ("module_mask", "blend", Leaf("follows", (1, 2))),
    ],
)
def test_trace_network_tries_modules_without_weights(name, module, rule, build) -> None:
    assert _trace(build(name)).leaves == {module: rule}


def test_registered_warps_are_leaves() -> None:
    network = build_network("sdafn_plus_tiny")
    traced = trace_network(network, make_example(network, Size(64, 48), 1, 0))
    assert traced.leaves == {"dafnet.warp": Leaf("follows", (0,))}
    names = {name for name, layer in network.module.named_modules() if layer in traced.fenced}
    heads = {f"dafnet.{kind}_MFEs.{level}.layers.6" for kind in ("Self", "Cross", "Refine") for level in range(4)}
    assert names == heads | {"dafnet.lights_decoder.2"}


@pytest.mark.parametrize("name", ["joined_picture_first", "module_correlation_9"])
def test_stand_ins_are_the_same_each_time(name, build) -> None:
    pairs = []
    for seed in (1, 2):
        network = build(name)
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        pairs.append(_trace(network).model.get_submodule("stand_ins").state_dict())
        assert torch.equal(torch.get_rng_state(), before)
    assert pairs[0] and all(torch.equal(pairs[0][key], pairs[1][key]) for key in pairs[0])


@pytest.mark.parametrize("name", ["unet", "own_size", "in_place", "spade"])
def test_tracing_leaves_the_network_as_it_was(name, build, run) -> None:
    network = build(name)
    expected = run(network.module, network)
    asked = [entry.requires_grad for entry in network.module.parameters()]
    _trace(network)
    assert all(torch.equal(*pair) for pair in zip(expected, run(network.module, network), strict=True))
    assert [entry.requires_grad for entry in network.module.parameters()] == asked
    assert not any(layer._forward_hooks or "forward" in vars(layer) for layer in network.module.modules())


class _Move(nn.Module):
    def forward(self, x: Tensor, turned: bool) -> Tensor:
        return x.flip(1) if turned else x + 1


class _CalledInTwoWays(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.middle, self.last = (nn.Conv2d(*widths, 1) for widths in ((3, 8), (8, 8), (8, 3)))
        self.move = _Move()

    def forward(self, person: Tensor) -> Tensor:
        return self.last(self.move(self.middle(self.move(self.stem(person), False)), True))


class _UnderNoGrad(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.middle, self.last = (nn.Conv2d(*widths, 1) for widths in ((3, 8), (8, 8), (8, 3)))

    def forward(self, person: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.middle(self.stem(person).relu())
        return self.last(x)


class _OnLastDimension(nn.Module):
    """A linear layer and a norm over columns, as many as there are channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.columns = nn.Conv2d(3, 8, 1), nn.LayerNorm(8), nn.Linear(8, 8)
        self.middle, self.last = nn.Conv2d(8, 6, 1), nn.Conv2d(6, 3, 1)

    def forward(self, person: Tensor) -> Tensor:
        return self.last(self.middle(self.columns(self.norm(self.stem(person)))))


class _NamedInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1)

    def forward(self, person: Tensor) -> Tensor:
        return self.last(input=self.stem(input=person).relu())


class _JoinsFlattened(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.side = nn.Conv2d(3, 4, 8, 8), nn.Conv2d(3, 6, 8, 8)
        self.hidden, self.last = nn.Linear(10, 6), nn.Linear(6, 192)

    def forward(self, person: Tensor) -> Tensor:
        joined = torch.cat([self.stem(person).flatten(1), self.side(person).flatten(1)], 1)
        return self.last(self.hidden(joined).relu()).view(-1, 3, 8, 8)


class _Wrong(nn.Module):
    """A width that stands in the code as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.middle, self.last = (nn.Conv2d(*widths, 1) for widths in ((3, 8), (8, 6), (6, 3)))

    def forward(self, person: Tensor) -> Tensor:
        return self.last(self.middle(self.stem(person).reshape(-1, 8, 8, 8)))


@pytest.mark.parametrize(
    ("module", "fenced"),
    [
        (_CalledInTwoWays, {"middle", "last"}),
        (_UnderNoGrad, {"last"}),
        (_OnLastDimension, {"stem", "norm", "columns", "middle", "last"}),
        (_NamedInputs, {"last"}),
        (_Wrong, {"stem", "last"}),
        (_JoinsFlattened, {"last"}),
    ],
)
def test_habits_of_code(module, fenced) -> None:
    network = Network(module=module().eval(), inputs=(InputSpec("person"),), size=(8, 8))
    assert _list_fenced(network) == fenced


def test_find_leaves_takes_the_outermost_modules_without_weights(build) -> None:
    network = build("module_mask").module
    assert list(find_leaves(network)) == [network.blend]
    assert list(find_leaves(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1)))) == []


FEATURES = torch.randn(2, 8, 5, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        pytest.param(lambda x, y: x + y, Leaf("follows", (0, 1)), id="elementwise, of both"),
        pytest.param(lambda x, y: x * y[:, :1], Leaf("follows", (0,)), id="a mask made of the other"),
        pytest.param(lambda x, y: (x * y).sum(1, keepdim=True), Leaf("mixes", (0, 1)), id="one product"),
        pytest.param(lambda x, y: torch.cat([x, y], 1), Leaf("fixed"), id="joined"),
        pytest.param(lambda x, y: x.flip(1) + y, Leaf("fixed"), id="reversed"),
        pytest.param(lambda x, y: x[:, [1, 0, 3, 2, 5, 4, 7, 6]], Leaf("fixed"), id="neighbours change places"),
        pytest.param(lambda x, y: x.view(-1, 8, 5, 4) + 1, Leaf("fixed"), id="a width in the code"),
        pytest.param(lambda x, y: (x, y), Leaf("fixed"), id="two results"),
        pytest.param(lambda x, y: x.add_(y), Leaf("follows", (0, 1)), id="in place"),
        pytest.param(lambda x, y: x + y * torch.randn_like(x), Leaf("follows", (0, 1)), id="noise"),
    ],
)
def test_try_leaf(call, rule) -> None:
    given = FEATURES.clone(), FEATURES.flip(0).clone()
    kept = tuple(value.clone() for value in given)
    assert try_leaf(call, given) == rule
    assert all(torch.equal(*pair) for pair in zip(given, kept, strict=True))


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8])
def test_keeps_apart_finds_any_two_channels_that_change_places(width) -> None:
    value = FEATURES[:, :width]
    assert keeps_apart(lambda x: [x.relu(), x.mean((2, 3))], value)
    for one in range(width):
        for other in range(one):
            order = list(range(width))
            order[one], order[other] = other, one
            assert not keeps_apart(lambda x, order=order: [x[:, order]], value)


def test_keeps_apart_of_comparisons_and_of_other_dimensions() -> None:
    assert keeps_apart(lambda x: [~x], FEATURES > 0)
    assert keeps_apart(lambda x: [x.log()], FEATURES)
    assert keeps_apart(lambda x: [x.cumsum(1)], FEATURES, 3)
    assert not keeps_apart(lambda x: [x.cumsum(1)], FEATURES, 1)


def test_shrinks() -> None:
    half = [halve_shape(FEATURES.shape)]
    assert shrinks(lambda values: [values[0] + values[1]], [FEATURES, FEATURES], half)
    assert not shrinks(lambda values: [values[0] + FEATURES], [FEATURES], half)
    assert not shrinks(lambda values: [values[0].sum(1, keepdim=True)], [FEATURES], half)

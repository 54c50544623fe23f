"""Training for int8: the network computes what its file will, where the file will, and keeps its names."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.nn import functional as F

from vtopt.optimize.artifacts import Size
from vtopt.optimize.cpu_target import TARGETS
from vtopt.optimize.data.pairs import open_pairs
from vtopt.optimize.data.synthetic import write_pairs
from vtopt.optimize.errors import InputError
from vtopt.optimize.int8 import Int8Settings
from vtopt.optimize.int8.trained import ModuleRanges, Trained, TrainedRanges
from vtopt.optimize.int8.trained_engine import quantize_trained
from vtopt.optimize.int8.trained_graph import trace_named
from vtopt.optimize.networks import InputSpec, Network
from vtopt.optimize.training.int8 import open_calibration, prepare_int8_training, split_int8_state
from vtopt.optimize.training.int8_rounding import Int8Conv2d, round_weight

WIDE = 16
SIZE = (32, 24)
CPU = TARGETS["vnni"]
GRID_CONVOLUTIONS = {"head"}


class Warping(nn.Module):
    """What the networks are made of: batch-norms before and behind convolutions, a head, a warp, one module twice."""

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.BatchNorm2d(3)
        self.feature = nn.Conv2d(3, WIDE, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(WIDE)
        self.deep = nn.Conv2d(WIDE, WIDE, 3, padding=1)
        self.deeper = nn.Conv2d(WIDE, WIDE, 1)
        self.head = nn.Conv2d(WIDE, 2, 3, padding=1)
        self.shallow = nn.Conv2d(3, WIDE, 3, padding=1)
        self.paint = nn.Conv2d(3 * WIDE, 3, 1)

    def forward(self, person: Tensor, clothes: Tensor) -> Tensor:
        features = F.relu(self.norm(self.feature(F.relu(self.early(clothes)))))
        deep = self.deeper(self.deep(features))
        flow = torch.tanh(self.head(F.leaky_relu(deep, 0.1))) * 0.5
        warped = F.grid_sample(features, flow.permute(0, 2, 3, 1), align_corners=False)
        return self.paint(torch.cat([warped, self.shallow(person), self.shallow(clothes * 0.5)], 1))


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    module: Any = Warping().eval()
    for norm in (module.early, module.norm):
        norm.running_mean.uniform_(-0.3, 0.3)
        norm.running_var.uniform_(0.3, 2)
        nn.init.uniform_(norm.weight, -1.5, 1.5)
        nn.init.uniform_(norm.bias, -0.3, 0.3)
    return Network(module, (InputSpec("person"), InputSpec("clothes")), size=SIZE, name="warping")


@pytest.fixture(scope="module")
def prepared(network: Network) -> Network:
    return prepare_int8_training(network, _make_feeds(), CPU).network


@pytest.fixture(scope="module")
def traced(network: Network) -> ModelProto:
    return trace_named(network, Size(*SIZE))


@pytest.fixture
def trained(prepared: Network) -> Network:
    return replace(prepared, module=copy.deepcopy(prepared.module))


def _make_feeds(count: int = 3) -> Iterator[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    for _ in range(count):
        yield {name: rng.uniform(-1, 1, (1, 3, *SIZE)).astype(np.float32) for name in ("person", "clothes")}


def _make_batch() -> list[Tensor]:
    return [torch.from_numpy(picture) for picture in next(_make_feeds()).values()]


def _take_steps(network: Network, count: int = 10) -> None:
    optimizer = torch.optim.AdamW(network.module.parameters(), lr=1e-2)
    for _ in range(count):
        loss = network.module.train()(*_make_batch()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.module.eval()


def _write(plain: Network, trained: Network) -> bytes:
    """Write the int8 file of a training as `vtopt finetune` and `vtopt quantize` do: from weights and ranges."""
    weights, ranges = split_int8_state(trained.module.state_dict(), CPU)
    module = copy.deepcopy(plain.module)
    module.load_state_dict(weights)
    return quantize_trained(Trained(replace(plain, module=module), ranges), (), Int8Settings(CPU)).SerializeToString()


def _measure_psnr(file: bytes, network: Network) -> float:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    made: Any = session.run(None, next(_make_feeds()))[0]
    with torch.no_grad():
        expected = network.module(*_make_batch()).numpy()
    return 10 * np.log10(np.ptp(expected) ** 2 / np.mean((made.astype(np.float64) - expected) ** 2))


def test_the_network_computes_what_its_file_will(network: Network, trained: Network) -> None:
    _take_steps(trained)
    file = _write(network, trained)
    weights, _ = split_int8_state(trained.module.state_dict(), CPU)
    plain = copy.deepcopy(network.module)
    plain.load_state_dict(weights)
    assert _measure_psnr(file, trained) > 60
    assert _measure_psnr(file, replace(network, module=plain)) < 50, "float32 is as near, and the test shows nothing"


def test_steps_change_ranges_and_what_makes_no_grid_rounds(network: Network, trained: Network) -> None:
    before, _ = split_int8_state(trained.module.state_dict(), CPU)
    _, ranges = split_int8_state(trained.module.state_dict(), CPU)
    convolutions = {name for name, part in network.module.named_modules() if isinstance(part, nn.Conv2d)}
    assert ranges.modules.keys() == convolutions - GRID_CONVOLUTIONS
    assert type(trained.module.get_submodule("head")) is nn.Conv2d
    plain = network.module.state_dict()
    assert before.keys() == plain.keys()
    assert all(torch.equal(before[name], plain[name]) for name in plain if not name.endswith("bias"))
    _take_steps(trained, 2)
    after, moved = split_int8_state(trained.module.state_dict(), CPU)
    assert all(moved.modules[name] != ranges.modules[name] for name in ranges.modules)
    norms = [name for name in plain if "running" in name]
    assert all(torch.equal(after[name], plain[name]) for name in norms), "statistics of small batches crept in"


@pytest.mark.parametrize(("name", "last"), [("deeper", "deeper"), ("feature", "norm"), ("paint", "paint")])
def test_biases_make_up_for_rounded_weights(network: Network, prepared: Network, name: str, last: str) -> None:
    """On what they were calibrated on, channels come to the means of float32, but for the border's zeros."""
    whole, rounded = (dict(each.module.named_modules()) for each in (network, prepared))
    seen: list[Tensor] = []
    handle = whole[name].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        for feeds in _make_feeds():
            network.module(*(torch.from_numpy(picture) for picture in feeds.values()))
    handle.remove()

    def run(weight: Tensor, biases: dict[str, nn.Module]) -> Tensor:
        convolution, norm = whole[name], whole[last]
        bias = biases[last].bias.detach()
        made = F.conv2d(torch.cat(seen), weight, bias if last == name else None, padding=convolution.padding)
        if last == name:
            return made
        return F.batch_norm(made, norm.running_mean, norm.running_var, norm.weight, bias)

    def find_shift(biases: dict[str, nn.Module]) -> float:
        weight = whole[name].weight.detach()
        gap = run(round_weight(weight, 127), biases) - run(weight, whole)
        return float(gap.detach().mean((0, 2, 3)).abs().max())

    assert find_shift(rounded) < 0.3 * find_shift(whole)


def test_one_tensor_has_one_range(trained: Network) -> None:
    _, found = split_int8_state(trained.module.state_dict(), CPU)
    assert found.modules["deep"].input == found.modules["feature"].output
    assert found.modules["deep"].output == found.modules["deeper"].input
    assert found.modules["feature"].output.low == 0, "the ReLU is not part of it"
    person = max(abs(picture["person"]).max() for picture in _make_feeds())
    assert found.modules["shallow"].input.high >= person * 0.99, "the range of its second call alone"


def test_a_copy_rounds_by_its_own_ranges(trained: Network) -> None:
    copied: Any = copy.deepcopy(trained.module)
    before = trained.module(*_make_batch())
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert torch.equal(trained.module(*_make_batch()), before)


def test_mixed_precision_leaves_rounded_numbers_alone(trained: Network) -> None:
    convolution = trained.module.get_submodule("shallow")
    picture = _make_batch()[0]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        mixed = convolution(picture.bfloat16().float())
    with torch.no_grad():
        assert torch.equal(mixed, convolution(picture.bfloat16().float()))


def test_the_state_is_taken_up_again(network: Network, trained: Network) -> None:
    _take_steps(trained, 2)
    other, _ = prepare_int8_training(network, _make_feeds(), CPU)
    other.module.load_state_dict(trained.module.state_dict())
    assert torch.equal(other.module(*_make_batch()), trained.module(*_make_batch()))


def test_seven_bits_where_the_target_asks(network: Network) -> None:
    module = prepare_int8_training(network, _make_feeds(1), TARGETS["avx2"]).network.module
    assert {part.int8_limit for part in module.modules() if isinstance(part, Int8Conv2d)} == {64}


def test_the_network_is_not_changed(network: Network, prepared: Network) -> None:
    assert prepared.module is not network.module
    assert not any(isinstance(part, Int8Conv2d) for part in network.module.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.module.modules())


class Odd(Warping):
    """With a convolution that is no module, and one that is called a second time without its batch-norm."""

    def __init__(self) -> None:
        super().__init__()
        self.loose = nn.Parameter(torch.rand(3, 3, 1, 1))

    def forward(self, person: Tensor, clothes: Tensor) -> Tensor:
        bare = self.feature(F.conv2d(person, self.loose))
        return super().forward(person, clothes) + bare[:, :3]


def test_what_is_not_trained_is_told(network: Network) -> None:
    torch.manual_seed(0)
    odd = prepare_int8_training(replace(network, module=Odd().eval()), _make_feeds(1), CPU)
    assert len(odd.untrained) == 2
    assert all(any(name in each for each in odd.untrained) for name in ("feature", "loose"))
    assert prepare_int8_training(network, _make_feeds(1), CPU).untrained == []


@pytest.mark.parametrize(("pairs", "used"), [(1, 1), (3, 2), (18, 16)])
def test_what_is_held_out_is_not_calibrated_on(network: Network, tmp_path: Path, pairs: int, used: int) -> None:
    folder = write_pairs(tmp_path, pairs, size=SIZE)
    notices: list[str] = []
    feeds = list(open_calibration(network, folder, Size(*SIZE), notices))
    learned = open_pairs(folder, SIZE)[:used]
    assert [each["person"][0].tolist() for each in feeds] == [pair.person.tolist() for pair in learned]
    assert (
        notices == []
        if used == 16
        else [f"int8 was calibrated on {used} of 16 pairs: {folder} has no more to learn from"]
    )


def test_nothing_to_calibrate_on_is_refused(network: Network) -> None:
    with pytest.raises(InputError, match="no pairs to calibrate on"):
        prepare_int8_training(network, (), CPU)


def test_ranges_of_another_network_are_refused(network: Network, trained: Network) -> None:
    _, ranges = split_int8_state(trained.module.state_dict(), CPU)
    other = TrainedRanges("vnni", {**ranges.modules, "elsewhere": next(iter(ranges.modules.values()))})
    with pytest.raises(InputError, match="elsewhere"):
        quantize_trained(Trained(network, other), (), Int8Settings(CPU))


def test_two_ranges_of_one_tensor_are_refused(traced: ModelProto, trained: Network) -> None:
    _, ranges = split_int8_state(trained.module.state_dict(), CPU)
    found = ranges.modules["deep"]
    wider = ModuleRanges(found.input._replace(high=found.input.high * 2), found.output)
    with pytest.raises(InputError, match="disagree"):
        quantize_trained(
            Trained(traced, TrainedRanges("vnni", {**ranges.modules, "deep": wider})), (), Int8Settings(CPU)
        )


def test_what_was_not_trained_is_calibrated(traced: ModelProto, trained: Network) -> None:
    _, ranges = split_int8_state(trained.module.state_dict(), CPU)
    fewer = {name: each for name, each in ranges.modules.items() if name != "paint"}
    model = quantize_trained(Trained(traced, TrainedRanges("vnni", fewer)), _make_feeds(), Int8Settings(CPU))
    whole = quantize_trained(Trained(traced, ranges), (), Int8Settings(CPU))
    assert len(model.graph.node) == len(whole.graph.node)

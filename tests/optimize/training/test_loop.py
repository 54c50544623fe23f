"""The loop: its learning rate, when it stops, and which weights it keeps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vtopt.optimize.training.devices import start_accelerator
from vtopt.optimize.training.loop import WARM_UP_STEPS, Plan, run_training, set_rate
from vtopt.optimize.training.state import Training, hold_average, start_training


class _Distance(nn.Module):
    """The distance of one weight to 1; dropout makes it random."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8))
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return (self.dropout(self.weight) - batch["wanted"]).abs().sum()


def _make_batches(count: int) -> Iterator[dict[str, Tensor]]:
    return ({"wanted": torch.ones(8)} for _ in range(count))


def _run(
    module: nn.Module, plan: Plan, *, validate: Callable[[nn.Module], float] | None = None, save: Any = lambda _: None
) -> Training:
    training = start_training(module, plan.learning_rate, "cpu")
    batches = _make_batches(plan.total)
    run_training(
        training, module, batches, plan, start_accelerator(), label="test", save=save, path=None, validate=validate
    )
    return training


def test_the_rate_warms_up_and_then_falls() -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))])
    rates = []
    for step in range(1000):
        set_rate(optimizer, Plan(1000, 1.0), step)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(1 / WARM_UP_STEPS)
    assert rates[WARM_UP_STEPS:] == sorted(rates[WARM_UP_STEPS:], reverse=True)
    assert rates[500] == pytest.approx(0.5)
    assert min(rates) == pytest.approx(0.01)


@pytest.mark.parametrize(("patience", "steps"), [(1, 6), (2, 8), (0, 20)])
def test_training_stops_when_validation_is_no_better_for_long(patience: int, steps: int) -> None:
    scores = iter([1.0, 2.0, 3.0, *itertools.repeat(3.0, 99)])
    plan = Plan(20, 0.1, validate_every=2, patience=patience)
    training = _run(_Distance(), plan, validate=lambda _: next(scores))
    assert training.step == steps
    assert training.best_score == (4, 3.0)


def test_the_best_average_is_kept_and_not_the_last() -> None:
    seen = {}

    def validate(module: nn.Module) -> float:
        assert not module.training
        step = len(seen)
        seen[step] = module.state_dict()["weight"].clone()
        return [0.0, 5.0, 1.0][step]

    module = _Distance()
    training = _run(module, Plan(4, 0.1, validate_every=2), validate=validate)
    assert training.best is not None
    assert torch.equal(training.best["weight"], seen[1])
    assert not torch.equal(seen[1], seen[2])
    assert torch.equal(seen[2], training.ema["weight"])
    assert not torch.equal(module.weight, training.ema["weight"])
    assert module.training


def test_weights_that_only_became_worse_are_those_it_began_with() -> None:
    scores = itertools.count(0, -1)
    training = _run(_Distance(), Plan(4, 0.1, validate_every=1), validate=lambda _: next(scores))
    assert training.best is not None
    assert torch.equal(training.best["weight"], torch.zeros(8))


def test_the_average_is_held_and_given_back() -> None:
    module = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1).eval())
    training = start_training(module, 0.1, "cpu")
    module[1].eval()
    for tensor in training.ema.values():
        tensor.add_(1)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with hold_average(training) as held:
        assert not any(part.training for part in held.modules())
        assert all(torch.equal(tensor, training.ema[name]) for name, tensor in held.state_dict().items())
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert (module[0].training, module[1].training) == (True, False)


def test_parts_may_have_an_epsilon_of_their_own() -> None:
    module = nn.Sequential(nn.Linear(2, 2), _Distance(), nn.Linear(2, 2))
    module[1].adam_epsilon = 1e-12  # type: ignore[assignment]
    groups = start_training(module, 0.1, "cpu").optimizer.param_groups
    assert [(group["eps"], len(group["params"]), group["lr"]) for group in groups] == [(1e-8, 4, 0.1), (1e-12, 1, 0.1)]
    assert groups[1]["params"][0] is module[1].weight
    assert groups[0]["weight_decay"] == groups[1]["weight_decay"]


def test_what_is_random_in_a_network_depends_on_seed_and_step_alone() -> None:
    weights = []
    for seed in (0, 0, 1):
        torch.rand(len(weights))
        module = _Distance(dropout=0.5)
        _run(module, Plan(3, 0.1, seed, warm_up=1))
        weights.append(module.weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_it_saves_every_so_many_steps_and_at_the_end() -> None:
    saved = []
    _run(_Distance(), Plan(7, 0.1, save_every=3), save=lambda training: saved.append(training.step))
    assert saved == [3, 6, 7]

"""Training on drawn pairs: resumable, reproducible, and careful with what is on disk."""

from __future__ import annotations

import math
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_sdafn import SMALL
from torch import Tensor

from vtopt.optimize import train
from vtopt.optimize.artifacts import Size
from vtopt.optimize.errors import NetworkError, OutputError, UsageError, VtoptError
from vtopt.optimize.networks import NETWORKS, InputSpec, build_network
from vtopt.optimize.provenance import read_history
from vtopt.optimize.strip import strip_checkpoint
from vtopt.optimize.train import train_network
from vtopt.optimize.training import loop, losses
from vtopt.optimize.training.state import Training
from vtopt.optimize.weights import load_network

NAME = "sdafn_plus_tiny"
SETTINGS: dict[str, Any] = {
    "coarse_size": Size(32, 24),
    "coarse_steps": 3,
    "size": Size(64, 48),
    "steps": 3,
    "batch_size": 2,
    "workers": 0,
}
TOTAL = SETTINGS["coarse_steps"] + SETTINGS["steps"]


@pytest.fixture(autouse=True)
def _small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, NAME, (NETWORKS[NAME][0], SMALL))  # type: ignore[arg-type]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "net.pth"


def _read(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def _equals(one: Any, other: Any) -> bool:
    """Whether nested containers hold the same, tensors bit for bit."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equals(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equals, one, other))
    return one == other


@contextmanager
def _replacing_step(k: int, change: Callable[[], Any]) -> Iterator[None]:
    """At step `k` (from 0), `change` happens in place of the loss; None leaves the loss as it is."""
    with pytest.MonkeyPatch.context() as patch:
        measure, count = losses.measure_truth_loss, iter(range(1000))

        def measure_or_change(levels: Any, batch: Any) -> Tensor:
            loss = measure(levels, batch)
            changed = change() if next(count) == k else None
            return loss if changed is None else loss * changed

        patch.setattr(losses, "measure_truth_loss", measure_or_change)
        yield


def test_train(output: Path) -> None:
    assert train_network(output, **SETTINGS) == output
    checkpoint = _read(output)
    assert checkpoint["network"] == NAME
    assert checkpoint["config"].items() >= SMALL.items()
    assert checkpoint["step"] == TOTAL
    assert math.isfinite(checkpoint["loss"])
    assert checkpoint["settings"]["stages"] == [[32, 24, 3, 2], [64, 48, 3, 1]]
    assert checkpoint["state_dict"].keys() == checkpoint["ema"].keys()
    assert not _equals(checkpoint["state_dict"], checkpoint["ema"])
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_a_trained_checkpoint_is_stripped_to_its_averaged_weights(output: Path) -> None:
    train_network(output, **SETTINGS)
    weights = strip_checkpoint(output, output.with_suffix(".safetensors"))
    assert _equals(load_file(weights), dict(sorted(_read(output)["ema"].items())))
    assert read_history(weights)[0].figures["from"] == "ema"
    network = load_network(weights)
    assert network.name == NAME
    assert network.config.items() >= SMALL.items()


def test_equal_settings_train_equally_and_another_seed_does_not(output: Path) -> None:
    checkpoints = []
    for name, seed in (("one.pth", 3), ("same.pth", 3), ("other.pth", 4)):
        checkpoints.append(_read(train_network(output.with_name(name), seed=seed, **SETTINGS)))
    assert _equals(checkpoints[0], checkpoints[1])
    assert not _equals(checkpoints[0]["state_dict"], checkpoints[2]["state_dict"])


@pytest.mark.parametrize("k", [1, 3, TOTAL - 1], ids=lambda k: f"before step {k}")
def test_an_interrupted_training_resumes_bit_for_bit(k: int, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _read(train_network(output.with_name("whole.pth"), **SETTINGS))
    take_step = loop.take_step

    def interrupt(training: Training, *rest: Any) -> float:
        if training.step == k:
            raise KeyboardInterrupt
        return take_step(training, *rest)

    monkeypatch.setattr(loop, "take_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_network(output, **SETTINGS)
    assert _read(output)["step"] == k
    monkeypatch.setattr(loop, "take_step", take_step)
    assert _equals(_read(train_network(output, **SETTINGS)), whole)


def _interrupt() -> None:
    """Call what hears Ctrl-C. No signal is sent: OpenVINO, in another test, may have left a signal stack of
    its own that is freed by now, and the next signal ends the process."""
    handler = signal.getsignal(signal.SIGINT)
    assert callable(handler)
    handler(signal.SIGINT, None)


def test_ctrl_c_in_the_middle_of_a_step_resumes_bit_for_bit(output: Path) -> None:
    """The forward pass has moved the BatchNorm statistics by then; the step must be finished."""
    whole = _read(train_network(output.with_name("whole.pth"), **SETTINGS))
    # A shell in the background starts its children, pytest too, with Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with _replacing_step(2, _interrupt), pytest.raises(KeyboardInterrupt):
            train_network(output, **SETTINGS)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert _read(output)["step"] == 3
    assert _equals(_read(train_network(output, **SETTINGS)), whole)


def test_an_interruption_before_the_first_step_writes_nothing(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "take_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_network(output, **SETTINGS)
    assert list(output.parent.iterdir()) == []


@pytest.mark.parametrize("setting", [{"steps": 4}, {"seed": 1}, {"learning_rate": 1e-4}, {"batch_size": 4}])
def test_a_training_with_other_settings_is_refused_and_untouched(setting: dict[str, Any], output: Path) -> None:
    before = train_network(output, **SETTINGS).read_bytes()
    with pytest.raises(OutputError, match=r"net\.pth: holds a training with other settings; .*--force"):
        train_network(output, **SETTINGS | setting)
    assert output.read_bytes() == before


def test_a_finished_training_is_refused_unless_forced(output: Path) -> None:
    before = _read(train_network(output, **SETTINGS))
    with pytest.raises(OutputError, match="this training is finished; pass --force"):
        train_network(output, **SETTINGS)
    assert _equals(_read(train_network(output, force=True, **SETTINGS)), before)


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda path: path.write_bytes(b"precious"), id="no checkpoint"),
        pytest.param(lambda path: torch.save({"weight": torch.ones(3)}, path), id="someone's weights"),
        pytest.param(lambda path: torch.save([1, 2], path), id="a list"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.mkdir(), id="a folder"),
    ],
)
def test_a_foreign_file_is_refused_and_untouched(write: Callable[[Path], Any], output: Path) -> None:
    write(output)
    before = output.read_bytes() if output.is_file() else None
    with pytest.raises(VtoptError, match=r"net\.pth: "):
        train_network(output, **SETTINGS)
    assert (output.read_bytes() if output.is_file() else None) == before
    assert [path.name for path in output.parent.iterdir()] == [output.name]


@pytest.mark.parametrize("name", ["net.pt", "net", "net.safetensors"])
def test_another_suffix_is_refused_before_the_first_step(
    name: str, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(loop, "take_step")
    with pytest.raises(OutputError, match=r"name it net\.pth"):
        train_network(output.with_name(name), **SETTINGS)


def test_a_resumable_checkpoint_of_another_network_is_refused(output: Path) -> None:
    train_network(output, **SETTINGS)
    changed = _read(output) | {"step": 1, "state_dict": {"weight": torch.ones(1)}}
    torch.save(changed, output)
    with pytest.raises(VtoptError, match=r"net\.pth: cannot be resumed .*delete it to start anew"):
        train_network(output, **SETTINGS)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_diverges_stops_and_keeps_the_last_good_checkpoint(
    value: float, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "SAVE_EVERY", 2)
    message = rf"diverged at step 4: the loss is {value}; .*net\.pth keeps step 2\. .*lower --learning-rate"
    with _replacing_step(3, lambda: value), pytest.raises(VtoptError, match=message):
        train_network(output, **SETTINGS)
    checkpoint = _read(output)
    assert checkpoint["step"] == 2
    assert all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())


def test_weights_that_diverge_under_a_good_loss_are_not_saved(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def poison(training: Training, *_: Any) -> float:
        next(training.module.parameters()).data.fill_(math.nan)
        return 0.5

    monkeypatch.setattr(loop, "take_step", poison)
    with pytest.raises(VtoptError, match=r"NaN or infinite values in \S+; no checkpoint was written"):
        train_network(output, **SETTINGS | {"coarse_steps": 1, "steps": 0})
    assert list(output.parent.iterdir()) == []


def test_an_error_in_a_step_leaves_the_last_checkpoint(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise MemoryError

    monkeypatch.setattr(train, "SAVE_EVERY", 2)
    with _replacing_step(3, fail), pytest.raises(MemoryError):
        train_network(output, **SETTINGS)
    assert _read(output)["step"] == 2
    assert _read(train_network(output, **SETTINGS))["step"] == TOTAL


def test_a_full_disk_is_told_and_leaves_the_last_checkpoint(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))

    monkeypatch.setattr(train, "SAVE_EVERY", 2)
    try:
        with (
            _replacing_step(2, fill_disk),
            pytest.raises(OutputError, match=r"net\.pth: cannot be written"),
        ):
            train_network(output, **SETTINGS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert _read(output)["step"] == 2
    assert [path.name for path in output.parent.iterdir()] == [output.name]


@pytest.mark.parametrize("size", [Size(64, 64), Size(44, 33), Size(2, 1)], ids=str)
def test_a_size_that_cannot_be_drawn_or_halved_is_refused(size: Size, output: Path) -> None:
    with pytest.raises(UsageError, match=rf"size {size}: .* divisible by 4; take 16x12 or a multiple"):
        train_network(output, **SETTINGS | {"size": size})
    assert list(output.parent.iterdir()) == []


def test_the_size_of_a_stage_without_steps_does_not_matter(output: Path) -> None:
    train_network(output, **SETTINGS | {"size": Size(2, 1), "steps": 0})
    assert _read(output)["step"] == SETTINGS["coarse_steps"]


def test_a_network_that_training_cannot_feed_is_refused(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = build_network(NAME)
    inputs = (InputSpec("person"), InputSpec("depth"))
    monkeypatch.setattr(train, "build_network", lambda name: replace(built, inputs=inputs))
    with pytest.raises(NetworkError, match=f"'{NAME}' takes depth, which drawn pairs have not"):
        train_network(output, **SETTINGS)


def test_a_teacher_is_fed_pose_and_agnostic_person(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "sdafn_tiny", (NETWORKS["sdafn_tiny"][0], SMALL))  # type: ignore[arg-type]
    train_network(output, network="sdafn_tiny", **SETTINGS)
    assert _read(output)["network"] == "sdafn_tiny"
    assert _read(output)["step"] == TOTAL


def test_a_negative_seed_which_would_reach_the_held_out_is_refused(output: Path) -> None:
    with pytest.raises(UsageError, match="--seed"):
        train_network(output, seed=-1, **SETTINGS)


def test_the_loss_falls(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = []
    take_step = loop.take_step
    monkeypatch.setattr(loop, "take_step", lambda *args: losses.append(take_step(*args)) or losses[-1])
    settings = SETTINGS | {"coarse_steps": 30, "steps": 0, "batch_size": 4, "learning_rate": 1e-2}
    train_network(output, **settings)
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])

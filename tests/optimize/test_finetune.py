"""vtopt finetune: what it writes, what it refuses before work, and that an interruption changes no bit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_sdafn import SMALL

from vtopt.optimize.artifacts import hash_artifact
from vtopt.optimize.errors import InputError, NetworkError, OutputError, UsageError, VtoptError
from vtopt.optimize.finetune import finetune_network
from vtopt.optimize.int8.ranges import Range
from vtopt.optimize.int8.static import Calibrated
from vtopt.optimize.int8.trained import read_ranges
from vtopt.optimize.networks import build_network
from vtopt.optimize.provenance import read_history, read_metadata
from vtopt.optimize.strip import strip_checkpoint
from vtopt.optimize.training import loop, recovery
from vtopt.optimize.training.state import Training
from vtopt.optimize.weights import describe_network, load_network, save_weights

NAME = "sdafn_plus_tiny"
SETTINGS: dict[str, Any] = {
    "coarse_size": (32, 24),
    "coarse_steps": 3,
    "size": (32, 24),
    "steps": 4,
    "batch_size": 1,
    "validate_every": 2,
    "validation_count": 1,
    "workers": 0,
}
TOTAL = SETTINGS["coarse_steps"] + SETTINGS["steps"]

KILLED = """
import json, os, signal, sys
import torch
from pathlib import Path
from vtopt.optimize.artifacts import Size
from vtopt.optimize.finetune import finetune_network
from vtopt.optimize.training import loop, student

torch.set_num_threads(1)
student.SAVE_EVERY = 2
take_step = loop.take_step

def take_or_die(training, *rest):
    if training.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return take_step(training, *rest)

loop.take_step = take_or_die
source, output, teacher, settings = sys.argv[1:]
settings = json.loads(settings)
settings |= {key: Size(*settings[key]) for key in ("size", "coarse_size")}
finetune_network(Path(source), Path(output), teacher=Path(teacher), **settings)
"""

OWN = """
import torch
from torch import nn
from vtopt.optimize.networks import InputSpec, Network

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(7, 3, 3, padding=1)
        self.unused = nn.Linear(2, 2)

    def forward(self, person, clothes, edge):
        return self.layer(torch.cat([person, clothes, edge], 1))

def build():
    return Network(Own(), (InputSpec("person"), InputSpec("clothes"), InputSpec("edge", 1)), size=(32, 24))
"""


pytestmark = pytest.mark.usefixtures("one_thread")


def _write_weights(path: Path, seed: int, name: str = NAME, config: dict[str, Any] = SMALL) -> Path:
    torch.manual_seed(seed)
    network = build_network(name, config)
    save_weights(network.module.state_dict(), path, describe_network(name, network))
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return _write_weights(tmp_path / "small.safetensors", 0)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    return _write_weights(tmp_path / "original.safetensors", 1)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "net.safetensors"


def _finetune(source: Path, output: Path, **settings: Any) -> Path:
    from vtopt.optimize.artifacts import Size

    sizes = {key: Size(*SETTINGS[key]) for key in ("size", "coarse_size")}
    return finetune_network(source, output, **{**SETTINGS, **sizes, **settings})


def _list_left(output: Path) -> list[str]:
    return sorted(path.name for path in output.parent.iterdir())


def test_finetune(source: Path, teacher: Path, output: Path) -> None:
    assert _finetune(source, output, teacher=teacher) == output
    assert _list_left(output) == [output.name]
    before, after = load_file(source), load_file(output)
    assert before.keys() == after.keys()
    assert load_network(output).config == load_network(source).config
    (record,) = read_history(output)
    assert record.step == "finetune"
    assert record.settings["teacher"] == "original.safetensors"
    assert record.settings["teacher_sha256"] == hash_artifact(teacher)
    assert record.figures["steps"] == TOTAL
    assert record.figures["against"] == "truth"
    changed = any(not torch.equal(before[name], after[name]) for name in before)
    assert changed == (record.figures["best_step"] > 0)


def test_sizes_that_were_left_to_the_network_are_recorded(source: Path, output: Path) -> None:
    network = load_network(source)
    _finetune(source, output, size=None, coarse_size=None, steps=0, coarse_steps=1, learning_rate=0.0)
    (record,) = read_history(output)
    assert record.settings["size"] == "{}x{}".format(*network.size)
    assert record.settings["coarse_size"] == "{}x{}".format(*(side // 2 for side in network.size))
    assert record.settings["teacher_sha256"] is None


def test_history_goes_on_from_the_source(small_checkpoint: Path, output: Path) -> None:
    stripped = strip_checkpoint(small_checkpoint, output.with_name("stripped.safetensors"))
    _finetune(stripped, output)
    assert [record.step for record in read_history(output)] == ["strip", "finetune"]
    assert read_metadata(output)["vtopt.network"] == NAME


@pytest.mark.parametrize("k", [1, 3, TOTAL - 1], ids=lambda k: f"before step {k}")
def test_an_interrupted_finetune_goes_on_bit_for_bit(
    k: int, source: Path, teacher: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _finetune(source, output.with_name("whole.safetensors"), teacher=teacher, learning_rate=1e-2)
    take_step = loop.take_step

    def interrupt(training: Training, *rest: Any) -> float:
        if training.step == k:
            raise KeyboardInterrupt
        return take_step(training, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "take_step", interrupt)
        _finetune(source, output, teacher=teacher, learning_rate=1e-2)
    assert _list_left(output) == ["net.training.pth", whole.name]
    assert _finetune(source, output, teacher=teacher, learning_rate=1e-2).read_bytes() == whole.read_bytes()
    assert _list_left(output) == [output.name, whole.name]


def test_a_validation_that_was_interrupted_is_made_up_for(
    source: Path, teacher: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _finetune(source, output.with_name("whole.safetensors"), teacher=teacher, learning_rate=1e-2)
    make_validation = recovery.make_validation

    def make_interrupted(*arguments: Any, **settings: Any) -> Any:
        validate, count = make_validation(*arguments, **settings), iter(range(99))

        def interrupt(module: Any) -> float:
            if next(count) == 2:
                raise KeyboardInterrupt
            return validate(module)

        return interrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(recovery, "make_validation", make_interrupted)
        _finetune(source, output, teacher=teacher, learning_rate=1e-2)
    assert _finetune(source, output, teacher=teacher, learning_rate=1e-2).read_bytes() == whole.read_bytes()


def test_killed_finetune_goes_on_bit_for_bit(
    source: Path, teacher: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _finetune(source, output.with_name("whole.safetensors"), teacher=teacher)
    command = [sys.executable, "-c", KILLED, source, output, teacher, json.dumps(SETTINGS)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    state = output.with_name("net.training.pth")
    assert torch.load(state, weights_only=True)["step"] == 4
    began_at = []
    take_step = loop.take_step
    monkeypatch.setattr(
        loop, "take_step", lambda training, *rest: began_at.append(training.step) or take_step(training, *rest)
    )
    assert _finetune(source, output, teacher=teacher).read_bytes() == whole.read_bytes()
    assert began_at == list(range(4, TOTAL))
    assert not state.exists()


def test_an_error_after_the_last_step_costs_no_step(
    source: Path, teacher: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output could not be written: the same command writes it without training again."""

    def fail(*_: Any) -> None:
        raise OutputError("the disk is full")

    with monkeypatch.context() as patch, pytest.raises(OutputError):
        patch.setattr("vtopt.optimize.training.outcome.save_weights", fail)
        _finetune(source, output, teacher=teacher)
    monkeypatch.delattr(loop, "take_step")
    assert _finetune(source, output, teacher=teacher).exists()


def test_a_progress_file_that_was_not_deleted_is_used_up_with_force(
    source: Path, teacher: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two: the output is whole, and making it again costs no step."""

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "unlink", die)
        _finetune(source, output, teacher=teacher)
    whole = output.read_bytes()
    monkeypatch.delattr(loop, "take_step")
    message = (
        r"net\.safetensors: exists already, and .*net\.training\.pth .* delete net\.training\.pth .* or pass --force"
    )
    with pytest.raises(OutputError, match=message):
        _finetune(source, output, teacher=teacher)
    assert _finetune(source, output, teacher=teacher, force=True).read_bytes() == whole
    assert _list_left(output) == [output.name]


def test_training_for_int8_is_taken_up_again_and_writes_its_ranges(
    tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_net.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    source, whole = (
        _write_weights(tmp_path / "own.safetensors", 0, "own_net:build", {}),
        output.with_name("w.safetensors"),
    )
    settings = {"teacher": source, "network": "own_net:build", "int8": True, "target": "vnni", "learning_rate": 1e-2}
    take_step = loop.take_step

    def interrupt(training: Training, *rest: Any) -> float:
        if training.step == 4:
            raise KeyboardInterrupt
        return take_step(training, *rest)

    def interrupt_calibration(*_: Any) -> None:
        raise KeyboardInterrupt

    _finetune(source, whole, **settings)
    for place, interruption in (("int8.open_calibration", interrupt_calibration), ("loop.take_step", interrupt)):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(f"vtopt.optimize.training.{place}", interruption)
            _finetune(source, output, **settings)
    calibrate = Calibrated.find_ranges

    def calibrate_otherwise(calibrated: Calibrated, method: Any) -> dict[str, Range]:
        return {name: Range(low * 1.1, high * 1.1) for name, (low, high) in calibrate(calibrated, method).items()}

    with monkeypatch.context() as patch:  # as another machine's last bits do; the ranges in the progress file count
        patch.setattr(Calibrated, "find_ranges", calibrate_otherwise)
        assert _finetune(source, output, **settings).read_bytes() == whole.read_bytes()
    ranges = read_ranges(read_metadata(output), output)
    assert ranges
    assert (ranges.target, list(ranges.modules)) == ("vnni", ["layer"])
    figures = read_history(output)[-1].figures
    assert (figures["convolutions_trained"], figures["convolutions_untrained"]) == (1, 0)
    assert load_file(output).keys() == load_file(source).keys()
    sys.modules.pop("own_net")


def test_an_existing_output_is_refused_before_work_unless_forced(
    source: Path, teacher: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output.write_bytes(b"precious")
    with monkeypatch.context() as patch, pytest.raises(OutputError, match="exists already"):
        patch.delattr(loop, "take_step")
        _finetune(source, output, teacher=teacher)
    assert output.read_bytes() == b"precious"
    assert load_network(_finetune(source, output, teacher=teacher, force=True))


def test_a_state_of_other_settings_is_refused_unless_forced(
    source: Path, teacher: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> float:
        raise KeyboardInterrupt

    take_step = loop.take_step
    monkeypatch.setattr(
        loop, "take_step", lambda training, *rest: (interrupt if training.step else take_step)(training, *rest)
    )
    with pytest.raises(KeyboardInterrupt):
        _finetune(source, output, teacher=teacher)
    monkeypatch.setattr(loop, "take_step", take_step)
    with pytest.raises(OutputError, match=r"net\.training\.pth: holds a training with other settings; .*--force"):
        _finetune(source, output, teacher=teacher, seed=1)
    assert _finetune(source, output, teacher=teacher, seed=1, force=True).exists()


def test_a_loss_that_diverges_stops_and_writes_nothing(source: Path, teacher: Path, output: Path) -> None:
    with pytest.raises(VtoptError, match=r"net\.training\.pth: the training diverged at step \d: the loss is"):
        _finetune(source, output, teacher=teacher, learning_rate=1e30)
    assert _list_left(output) == []


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"truth": False}, UsageError, "nothing to learn from; pass --teacher ORIGINAL"),
        ({"target": "avx2"}, UsageError, "--target goes with --int8"),
        ({"precision": "fp16"}, UsageError, "--precision fp16 needs a GPU; on a CPU take fp32 or bf16"),
        ({"network": "sdafn_plus_6"}, NetworkError, "sdafn_plus_6"),
        ({"pairs": Path("no_folder")}, InputError, "no_folder: there is no such folder"),
    ],
    ids=["nothing to learn from", "a target without int8", "half precision on a CPU", "unknown network", "no pairs"],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_what_cannot_be_is_refused_before_work(
    settings: dict[str, Any], error: type[VtoptError], message: str, source: Path, output: Path
) -> None:
    with pytest.raises(error, match=message):
        _finetune(source, output, **settings)
    assert _list_left(output) == []

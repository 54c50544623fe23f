"""vtopt prune: narrower weights in one file, that every later step and engine takes; what it refuses and how."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_networks import SDAFN
from typer.testing import CliRunner, Result

from vtopt.optimize.artifacts import Size
from vtopt.optimize.cli import app
from vtopt.optimize.data.synthetic import write_pairs
from vtopt.optimize.errors import NetworkError, UsageError, VtoptError
from vtopt.optimize.networks import build_network
from vtopt.optimize.networks.widths import PRUNED
from vtopt.optimize.provenance import CONFIG, NETWORK, PICTURES, read_history, read_metadata
from vtopt.optimize.prune import prune_network
from vtopt.optimize.pruning.figures import count_network, make_inputs
from vtopt.optimize.pruning.macs import count_macs
from vtopt.optimize.pruning.ratio import parse_ratio
from vtopt.optimize.weights import describe_network, load_network, save_weights

FACTORY = "small_networks:build"
SMALL = "small_networks:build_sdafn"
HALF = {"ratio": parse_ratio("0.5"), "round_to": 4, "pair_count": 1, "network": SMALL}


def _save(name: str, config: dict[str, Any], path: Path) -> Path:
    torch.manual_seed(0)
    network = build_network(name, config)
    save_weights(network.module.state_dict(), path, describe_network(network.name, network))
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a small SDAFN_plus."""
    return _save(SMALL, {}, tmp_path_factory.mktemp("weights") / "small.safetensors")


@pytest.fixture(scope="module")
def pruned(weights: Path) -> Path:
    return prune_network(weights, weights.with_name("pruned.safetensors"), **HALF)


@pytest.fixture
def own_weights(tmp_path: Path) -> Callable[[str], Path]:
    """name of a small network -> its weights."""
    return lambda which: _save(FACTORY, {"which": which}, tmp_path / f"{which}.safetensors")


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """A folder with a drawn pair and no truth."""
    folder = write_pairs(tmp_path / "pairs", 1, size=Size(64, 48))
    shutil.rmtree(folder / "test_truth")
    return folder


def _invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _read_problem(result: Result) -> tuple[int, str]:
    """Return the exit code and what the command line says: of its own errors, and of those `main` prints."""
    if isinstance(result.exception, VtoptError):
        return result.exception.exit_code, str(result.exception)
    return result.exit_code, " ".join(result.output.replace("│", " ").split())


def _count_macs(path: Path) -> int:
    network = load_network(path, SMALL)
    return sum(count_macs(network.module, make_inputs(network)).values())


def _read_figures(path: Path) -> dict[str, Any]:
    return dict(read_history(path)[-1].figures)


def test_prune_network(weights: Path, pruned: Path) -> None:
    whole, network = load_network(weights, SMALL), load_network(pruned, SMALL)
    before, after = count_network(whole), count_network(network)
    assert all(after[key] < 0.5 * before[key] for key in before)
    figures = _read_figures(pruned)
    assert {key: figures[key] for key in after} == after
    assert {key: figures[f"{key}_before"] for key in before} == before
    assert pruned.stat().st_size < weights.stat().st_size
    assert sum(tensor.nbytes for tensor in load_file(pruned).values()) == pytest.approx(
        after["size_mb"] * 2**20, rel=1e-3, abs=4096
    )
    head = network.module.get_submodule("dafnet.Cross_MFEs.0.layers.4")
    assert head.out_channels == 3 * SDAFN["heads"]


def test_same_input_same_bytes(weights: Path, pruned: Path, tmp_path: Path) -> None:
    again = prune_network(weights, tmp_path / "again.safetensors", **HALF)
    assert again.read_bytes() == pruned.read_bytes()


def test_pruned_weights_are_pruned_again(pruned: Path, weights: Path, tmp_path: Path) -> None:
    twice = prune_network(pruned, tmp_path / "twice.safetensors", **{**HALF, "round_to": 1})
    assert (
        count_network(load_network(twice, SMALL))["parameters"]
        < count_network(load_network(pruned, SMALL))["parameters"]
    )
    assert [record.step for record in read_history(twice)] == ["prune", "prune"]
    shapes = json.loads(read_metadata(twice)[CONFIG])[PRUNED]
    assert shapes == {name: list(tensor.shape) for name, tensor in load_file(twice).items() if name in shapes}


@pytest.mark.parametrize(
    "which",
    [
        "unet",
        "inline_flow_warp",
        "squeeze_excite_linear",
        "spectral_norm_hook",
        "depthwise",
        "flattened",
        "two_outputs",
        "own_size",
    ],
)
def test_a_users_own_network(which: str, own_weights: Callable[[str], Path], tmp_path: Path) -> None:
    source, output = own_weights(which), tmp_path / "out.safetensors"
    result = _invoke(
        "prune", source, output, "--ratio", "0.5", "--round-to", 4, "--network", FACTORY, "--pair-count", 1
    )
    assert result.exit_code == 0, result.output
    before, after = load_network(source, FACTORY), load_network(output, FACTORY)
    assert count_network(after)["parameters"] < count_network(before)["parameters"]
    assert count_network(after)["gflops"] < count_network(before)["gflops"]


def test_spectral_norms_are_folded(own_weights: Callable[[str], Path], tmp_path: Path) -> None:
    source, output = own_weights("spectral_norm_hook"), tmp_path / "out.safetensors"
    prune_network(source, output, **{**HALF, "network": FACTORY})
    assert not any("weight_" in name for name in load_file(output))
    widths = [
        layer.out_channels for layer in load_network(output, FACTORY).module.modules() if hasattr(layer, "out_channels")
    ]
    assert widths == [8, 8, 8, 4, 3]


@pytest.mark.parametrize("which", ["one_convolution", "nothing"])
def test_a_network_of_one_convolution(which: str, own_weights: Callable[[str], Path], tmp_path: Path) -> None:
    output = tmp_path / "out.safetensors"
    result = _invoke("prune", own_weights(which), output, "--ratio", "0.5", "--network", FACTORY)
    code, text = _read_problem(result)
    assert code == 1
    assert "nothing can be removed" in text
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ratio", "0"], "a ratio of 0 removes nothing"),
        (["--ratio", "1"], "a ratio of 1 removes every channel"),
        (["--ratio", "1.5"], "a ratio of 1.5 removes every channel"),
        (["--ratio", "abc"], "'abc' is no ratio; write 0.4"),
        (["--ratio=-0.4"], "would add channels"),
        (["--ratio", "nan"], "is no ratio"),
        (["--ratio", "head=0.4"], "the network has no part 'head'"),
        ([], "give one of --ratio 0.4 and --max-macs 40G"),
        (["--ratio", "0.4", "--max-macs", "1G"], "give one of --ratio 0.4 and --max-macs 40G"),
        (["--max-macs", "1000"], "cannot be reached"),
        (["--max-macs", "few"], "is no number of multiply-adds"),
        (["--ratio", "0.4", "--recover-steps", "5"], "after the last, run vtopt finetune"),
        (["--ratio", "0.4", "--round-to", "0"], "--round-to"),
        (["--ratio", "0.4", "--importance", "size"], "--importance"),
    ],
)
def test_settings_that_are_refused(arguments: list[str], message: str, weights: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.safetensors"
    code, text = _read_problem(_invoke("prune", weights, output, "--network", SMALL, *arguments))
    assert code == 2
    assert message in text
    assert not output.exists()


def test_a_ratio_that_rounds_to_nothing(weights: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.safetensors"
    code, text = _read_problem(_invoke("prune", weights, output, "--network", SMALL, "--ratio", 0.2, "--round-to", 8))
    assert code == 1
    assert "rounded to multiples of 8" in text and "take a lower --round-to, or a higher ratio" in text
    assert not output.exists()


def test_parts_that_a_network_does_not_declare(own_weights: Callable[[str], Path], tmp_path: Path) -> None:
    ratio = "encoder=0.4,decoder=0.25"
    result = _invoke("prune", own_weights("unet"), tmp_path / "o.safetensors", "--ratio", ratio, "--network", FACTORY)
    code, text = _read_problem(result)
    assert code == 2
    assert "the network has no part 'encoder'; it has down, up, last" in text


def test_a_part_of_the_network(weights: Path, tmp_path: Path) -> None:
    output = tmp_path / "part.safetensors"
    prune_network(weights, output, **{**HALF, "ratio": parse_ratio("dafnet.lights_encoder=0.5")})
    shapes = json.loads(read_metadata(output)[CONFIG])[PRUNED]
    assert set(shapes) and all(name.startswith("dafnet.lights_") for name in shapes)


def test_max_macs(weights: Path, tmp_path: Path) -> None:
    before = _count_macs(weights)
    most = round(before * 0.6)
    output = prune_network(weights, tmp_path / "m.safetensors", network=SMALL, max_macs=most, round_to=1, pair_count=1)
    assert 0.5 * before < _count_macs(output) <= most


def test_max_macs_that_are_met_already(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="nothing was removed"):
        prune_network(weights, tmp_path / "m.safetensors", network=SMALL, max_macs=10**15, pair_count=1)


def test_taylor_without_a_truth(weights: Path, tmp_path: Path, drawn: Path) -> None:
    with pytest.raises(UsageError, match="taylor needs the truth"):
        prune_network(weights, tmp_path / "t.safetensors", **HALF, importance="taylor", pairs=drawn)


@pytest.mark.parametrize("importance", ["batch-norm", "taylor", "hessian"])
@pytest.mark.parametrize("settings", [{}, {"scope": "global", "steps": 2}])
def test_importances_and_scopes(importance: Any, settings: Any, weights: Path, tmp_path: Path) -> None:
    output = prune_network(weights, tmp_path / "out.safetensors", **HALF, importance=importance, **settings)
    assert _read_figures(output)["ratio_reached"] > 0.2


@pytest.mark.parametrize(
    "shapes",
    [
        {"dafnet.lights_decoder.0.weight": [10**9, 8, 1, 1]},
        {"dafnet.lights_decoder.0.weight": [0, 8, 1, 1]},
        {"dafnet.lights_decoder.0.weight": "all"},
        {"no.such.name": [1]},
        [1, 2],
        "text",
    ],
)
def test_a_header_with_absurd_shapes_is_refused(shapes: Any, pruned: Path, tmp_path: Path) -> None:
    header = read_metadata(pruned)
    config = json.loads(header[CONFIG]) | {PRUNED: shapes}
    path = tmp_path / "crafted.safetensors"
    save_file(load_file(pruned), path, metadata={**header, CONFIG: json.dumps(config)})
    with pytest.raises(NetworkError, match=r"crafted.safetensors: .*(fit the network|are no shapes)"):
        load_network(path, SMALL)


def test_a_header_whose_shapes_contradict_each_other_is_refused(pruned: Path, tmp_path: Path) -> None:
    header, tensors = read_metadata(pruned), load_file(pruned)
    config = json.loads(header[CONFIG])
    name = "dafnet.lights_decoder.0.weight"
    tensors[name] = tensors[name][:1].clone()
    config[PRUNED][name] = list(tensors[name].shape)
    path = tmp_path / "crafted.safetensors"
    save_file(tensors, path, metadata={**header, CONFIG: json.dumps(config)})
    with pytest.raises(NetworkError, match=r"crafted.safetensors: the pruned shapes contradict each other"):
        load_network(path, SMALL)


@pytest.fixture(scope="module")
def exported(pruned: Path) -> Path:
    """The pruned network, stripped and exported."""
    stripped, onnx = (pruned.with_name(name) for name in ("stripped.safetensors", "pruned.onnx"))
    for command in (("strip", pruned, stripped), ("export", stripped, onnx, "--pair-count", 1)):
        result = _invoke(*command, "--network", SMALL)
        assert result.exit_code == 0, (command, result.output)
    return onnx


def test_later_steps_take_pruned_weights(pruned: Path, exported: Path, tmp_path: Path, drawn: Path) -> None:
    folders = {"--person": "test_img", "--clothes": "test_clothes"}
    pictures = [part for option, folder in folders.items() for part in (option, next((drawn / folder).iterdir()))]
    for command in (
        ("inspect", pruned),
        ("verify", exported, pruned, "--network", SMALL, "--pair-count", 1),
        ("tryon", pruned, *pictures, "--network", SMALL, "--output", tmp_path / "picture.png"),
        ("bench", "report", pruned, exported, "--network", SMALL, "--pair-count", 1, "--runs", 1),
    ):
        result = _invoke(*command)
        assert result.exit_code == 0, (command, result.output)
    assert [record.step for record in read_history(exported)] == ["prune", "strip", "export"]


@pytest.mark.parametrize("precision", ["--int8", "--fp16"])
def test_a_pruned_network_is_quantised(precision: str, exported: Path, drawn: Path, tmp_path: Path) -> None:
    output = tmp_path / "small.onnx"
    counts = ("--pair-count", 1, *(("--calibration-count", 1) if precision == "--int8" else ()))
    result = _invoke("quantize", exported, output, precision, "--pairs", drawn, *counts)
    assert result.exit_code == 0, (result.output, result.exception)
    assert output.stat().st_size < exported.stat().st_size
    header, before = read_metadata(output), read_metadata(exported)
    assert {key: header[key] for key in (NETWORK, CONFIG, PICTURES)} == {
        key: before[key] for key in (NETWORK, CONFIG, PICTURES)
    }
    assert json.loads(header[CONFIG])[PRUNED]
    assert [record.step for record in read_history(output)] == ["prune", "strip", "export", "quantize"]


def test_the_declared_parts_of_sdafn_lose_their_own_ratios(weights: Path, tmp_path: Path) -> None:
    ratio = parse_ratio("encoder=0.5,decoder=0.25")
    output = prune_network(
        weights, tmp_path / "parts.safetensors", network=SMALL, ratio=ratio, round_to=1, pair_count=1
    )
    module = load_network(output, SMALL).module
    widths = {name: layer.out_channels for name, layer in module.named_modules() if isinstance(layer, torch.nn.Conv2d)}
    assert widths["source_FPN.smooth.0"] == SDAFN["pyramid_dim"] // 2
    assert widths["dafnet.lights_encoder.0"] == SDAFN["shallow_hidden"] * 3 // 4
    assert widths["dafnet.Cross_MFEs.0.layers.0"] == SDAFN["mfe_filters"][0], "a part that is not named stays whole"


def test_a_part_without_removable_channels_is_told(weights: Path, tmp_path: Path) -> None:
    ratio = parse_ratio("encoder=0.5,dafnet.lights_decoder.2=0.5")
    output = prune_network(
        weights, tmp_path / "parts.safetensors", network=SMALL, ratio=ratio, round_to=4, pair_count=1
    )
    said = "part 'dafnet.lights_decoder.2' has no channels that can be removed"
    assert list(read_history(output)[-1].notices) == [said]


def test_a_network_that_does_not_run_is_said_to_be_so(own_weights: Callable[[str], Path], tmp_path: Path) -> None:
    output = tmp_path / "out.safetensors"
    with pytest.raises(NetworkError, match=r"the network does not run: RuntimeError: sized for nothing"):
        prune_network(own_weights("never_runs"), output, **{**HALF, "network": FACTORY})
    assert not output.exists()


def test_recovery_between_steps_trains(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[int, int]] = []

    def recover(student: Any, teacher: Any, request: Any, *, label: str) -> dict[str, Any]:
        count = count_network(student)["parameters"]
        trained.append((count, request.steps))
        assert count < count_network(teacher)["parameters"], "it learns from what was not pruned"
        return {"psnr_before": 10.0, "psnr_best": 11.0, "against": "truth"}

    monkeypatch.setattr("vtopt.optimize.training.recovery.recover", recover)
    settings = {**HALF, "round_to": 1, "steps": 3, "recover_steps": 7}
    output = prune_network(weights, tmp_path / "steps.safetensors", **settings)
    counts = [count for count, _ in trained]
    assert [steps for _, steps in trained] == [7, 7]
    assert counts[0] > counts[1] > count_network(load_network(output, SMALL))["parameters"]
    assert _read_figures(output)["recovered_2"] == "10.0 to 11.0 dB to the truth"

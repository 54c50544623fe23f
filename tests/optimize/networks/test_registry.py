"""Networks by name: the registered ones, and a user's own from the working folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from small_registered import SMALL
from torch import nn

from vtopt.optimize.errors import NetworkError
from vtopt.optimize.networks import NETWORKS, InputSpec, Network, build_network
from vtopt.optimize.networks.registry import prefix_parts

OWN = """
import torch
from vtopt.optimize.networks import InputSpec, Network

def build(channels=3):
    return Network(module=torch.nn.Conv2d(channels, 3, 1), inputs=(InputSpec("person", channels),))

def forget():
    return torch.nn.Identity()

def import_late():
    import own_late_helper
    return own_late_helper.build()

def import_missing():
    import package_that_is_missing

def look_up():
    return {}["width"]

def index():
    return [][0]

SETTING = 3
"""

_STAGE_PARTS = "{0}.generator {0}.encoder {0}.compatibility"


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], str]]:
    """Write a module into the working folder and return its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    known = set(sys.modules)

    def write(name: str, text: str) -> str:
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return name

    yield write
    for name in [name for name in sys.modules if name not in known and name.startswith("own")]:
        del sys.modules[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_registered_network_builds_in_evaluation_mode(name: str) -> None:
    network = build_network(name)
    assert network.name == name
    assert not any(module.training for module in network.module.modules())
    assert all(side % network.multiple_of == 0 for side in network.size)
    assert len({*network.outputs}) == len(network.outputs) > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_parts_cover_every_weight(name: str) -> None:
    with torch.device("meta"):
        network = build_network(name, SMALL[name][0])
    starts = {f"{module}." for modules in network.parts.values() for module in modules}
    weights = [weight for weight, _ in network.module.named_parameters()]
    assert [weight for weight in weights if not any(weight.startswith(start) for start in starts)] == []
    assert [start for start in starts if not any(weight.startswith(start) for weight in weights)] == []
    wholes = [part for part in network.parts if "." not in part]
    layers = {weight: [part for part in wholes if _has(network, part, weight)] for weight in weights}
    assert all(len(parts) == 1 for parts in layers.values()), "a weight lies in one part"


def _has(network: Network, part: str, weight: str) -> bool:
    return any(weight.startswith(f"{module}.") for module in network.parts[part])


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("sdafn", ["encoder", "flows", "decoder"]),
        ("pfafn_warp", ["encoder", "flows"]),
        ("pfafn", ["warp", "warp.encoder", "warp.flows", "generator"]),
        (
            "hrviton",
            [
                *("conditions", "conditions.encoder", "conditions.flows", "conditions.decoder"),
                *("generator", "generator.middle", "generator.decoder"),
            ],
        ),
        (
            "completion",
            [part for stage in ("shape", "texture") for part in (stage, *_STAGE_PARTS.format(stage).split())],
        ),
    ],
)
def test_a_network_inside_another_has_parts_behind_its_name(name: str, parts: list[str]) -> None:
    with torch.device("meta"):
        assert [*build_network(name, SMALL[name][0]).parts] == parts


def test_prefix_parts() -> None:
    assert prefix_parts("warp", {"flows": ("net.a", "b")}) == {
        "warp": ("warp",),
        "warp.flows": ("warp.net.a", "warp.b"),
    }
    assert prefix_parts("warp") == {"warp": ("warp",)}


def test_what_the_truth_of_pairs_does_not_show_says_why() -> None:
    with torch.device("meta"):
        said = {name: build_network(name, SMALL[name][0]).without_truth for name in NETWORKS}
    warps = {"pfafn_warp", "pfafn_warp_aligned", "hrviton_tocg"}
    dresses = {"pfafn_gen", "hrviton_gen"}
    completes = {"completion", "completion_shape", "completion_texture"}
    assert {name for name, why in said.items() if why} == warps | dresses | completes
    for names in (warps, dresses, completes):
        assert len({said[name] for name in names}) == 1


def test_settings_override_the_registered_ones() -> None:
    network = build_network("sdafn_plus_tiny", {"pyramid_widths": [4, 6], "heads": 2})
    assert network.config["pyramid_widths"] == (4, 6)
    assert network.config["heads"] == 2
    assert network.config["pyramid_dim"] == NETWORKS["sdafn_plus_tiny"][1]["pyramid_dim"]


def test_a_built_config_builds_the_same_network_again() -> None:
    first = build_network("sdafn_plus_tiny", {"heads": 2})
    second = build_network("sdafn_plus_tiny", first.config)
    assert first.config == second.config
    shapes = [{name: t.shape for name, t in net.module.state_dict().items()} for net in (first, second)]
    assert shapes[0] == shapes[1]


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(NetworkError) as caught:
        build_network("sdafn_plus_6")
    assert all(name in str(caught.value) for name in ("sdafn_plus_6", *NETWORKS, "package.module:factory"))


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"widths": (4,)}, id="an unknown key"),
        pytest.param({"heads": -1}, id="a negative width"),
        pytest.param({"pyramid_widths": 8}, id="a number for a list"),
        pytest.param({"pyramid_widths": ("8", "8")}, id="text for numbers"),
    ],
)
def test_settings_that_do_not_fit_are_refused(config: dict[str, object]) -> None:
    with pytest.raises(NetworkError, match="network 'sdafn_plus_tiny' cannot be built"):
        build_network("sdafn_plus_tiny", config)


@pytest.mark.parametrize("module", ["own", "own_package.deep.net"])
def test_a_factory_in_the_working_folder(module: str, write_module: Callable[[str, str], str]) -> None:
    network = build_network(f"{write_module(module, OWN)}:build", {"channels": 4})
    assert network.name == f"{module}:build"
    assert network.inputs == (InputSpec("person", 4),)
    assert isinstance(network.module, nn.Conv2d)
    assert not network.module.training


def test_a_factory_may_import_from_the_working_folder_when_called(
    write_module: Callable[[str, str], str],
) -> None:
    write_module("own_late_helper", OWN)
    module = write_module("own_late", OWN)
    assert isinstance(build_network(f"{module}:import_late"), Network)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("forget", r"the factory returned Identity; return vtopt\.optimize\.networks\.Network"),
        ("absent", r"own has no function 'absent'"),
        ("SETTING", r"own has no function 'SETTING'"),
        ("import_missing", r"'own:import_missing' cannot be built: No module named 'package_that_is_missing'"),
        ("look_up", r"'own:look_up' cannot be built: KeyError 'width'"),
        ("index", r"'own:index' cannot be built: IndexError list index out of range"),
        ("", r"own has no function ''"),
    ],
)
def test_a_factory_that_cannot_be_used_is_refused(
    function: str, message: str, write_module: Callable[[str, str], str]
) -> None:
    module = write_module("own", OWN)
    with pytest.raises(NetworkError, match=message):
        build_network(f"{module}:{function}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("import package_that_is_missing", "No module named 'package_that_is_missing'", id="import"),
        pytest.param("def build(:", "SyntaxError", id="syntax"),
        pytest.param("None.build", "AttributeError", id="attribute"),
        pytest.param("raise KeyError('weights')", "KeyError: 'weights'", id="any other error"),
    ],
)
def test_a_module_that_cannot_be_imported_is_refused(
    text: str, message: str, write_module: Callable[[str, str], str]
) -> None:
    module = write_module("own_broken", text)
    with pytest.raises(NetworkError, match=rf"'own_broken:build': cannot import own_broken: .*{message}"):
        build_network(f"{module}:build")


@pytest.mark.parametrize("name", ["own_that_is_nowhere:build", ":build", ".own:build"])
def test_a_module_that_is_nowhere_is_refused(name: str, write_module: Callable[[str, str], str]) -> None:
    with pytest.raises(NetworkError, match="cannot import"):
        build_network(name)


@pytest.mark.parametrize("listed", [False, True], ids=["folder not on the path", "folder on the path already"])
@pytest.mark.parametrize("function", ["build", "absent"])
def test_the_import_path_is_as_before(
    listed: bool,
    function: str,
    tmp_path: Path,
    write_module: Callable[[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, *[str(tmp_path)] * listed])
    before = list(sys.path)
    module = write_module("own", OWN)
    if function == "build":
        build_network(f"{module}:build")
    else:
        with pytest.raises(NetworkError):
            build_network(f"{module}:{function}")
    assert sys.path == before


def test_a_module_that_changes_folder_leaves_the_import_path_as_before(
    tmp_path: Path, write_module: Callable[[str, str], str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    before = list(sys.path)
    module = write_module("own", "import os; os.chdir('elsewhere')" + OWN)
    build_network(f"{module}:build")
    assert sys.path == before


def test_a_registered_network_is_never_looked_for_in_the_working_folder(
    write_module: Callable[[str, str], str],
) -> None:
    write_module("sdafn", "raise SystemExit('the wrong sdafn')")
    assert build_network("sdafn_plus_tiny").inputs[0] == InputSpec("person")


def test_an_input_is_fed_by_the_picture_of_its_name_unless_told() -> None:
    assert InputSpec("person").fed_by == "person"
    assert InputSpec("ref_input", 6, picture="person").fed_by == "person"
    assert InputSpec("ref_input", 6, picture=("pose", "agnostic")).fed_by == "pose+agnostic"

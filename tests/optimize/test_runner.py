from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Annotated, Any

import pytest
import torch

from vtopt.optimize import runner
from vtopt.optimize.artifacts import Reads, SizeOption, Writes
from vtopt.optimize.errors import (
    BudgetError,
    DifferenceError,
    InputError,
    NetworkError,
    OutputError,
    RecipeError,
    UsageError,
)
from vtopt.optimize.provenance import NETWORK
from vtopt.optimize.recipe import Stage
from vtopt.optimize.run_state import read_run, recall_run, remember_run
from vtopt.optimize.runner import RunBudgetError, RunResult, run_recipe
from vtopt.optimize.weights import save_weights

Weights = Annotated[Path, Reads(("checkpoint", "weights"))]
WeightsMade = Annotated[Path, Writes("weights")]
Onnx = Annotated[Path, Reads(("onnx",))]
OnnxMade = Annotated[Path, Writes("onnx")]

RECIPE = """
    steps:
      - strip:
      - export:
        name: fp32
      - mark: {tag: a}
        name: a
      - mark: {tag: b}
        name: b
        from: fp32
"""


class Bench:
    """A folder with weights, a table of steps that count their calls, and a way to run recipes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weights = folder / "last.pth"
        self.weights.write_bytes(b"PK\x03\x04 weights")
        self.output = folder / "out"
        self.calls: list[str] = []
        self.raises: dict[str, BaseException] = {}
        self.seen: dict[str, Any] = {}
        self.steps: dict[str, str | Callable[..., Path]] = {
            "strip": self.strip,
            "export": self.export,
            "mark": self.mark,
            "learn": self.learn,
            "join": self.join,
        }

    def write(self, output: Path, content: bytes) -> Path:
        self.calls.append(output.stem[3:])
        error = self.raises.get(output.stem[3:])
        if error is None or isinstance(error, BudgetError):
            output.parent.mkdir(exist_ok=True)
            output.write_bytes(content)
        if error:
            raise error
        return output

    def strip(self, source: Weights, output: WeightsMade, *, force: bool = False) -> Path:
        return self.write(output, source.read_bytes().strip())

    def export(
        self,
        source: Weights,
        output: OnnxMade,
        *,
        network: str | None = None,
        size: SizeOption = None,
        force: bool = False,
    ) -> Path:
        self.seen = {"network": network, "size": size, "force": force}
        return self.write(output, source.read_bytes() + b" onnx")

    def mark(
        self,
        source: Onnx,
        output: OnnxMade,
        *,
        tag: str = "",
        pairs: Path | None = None,
        table: Path | None = None,
        force: bool = False,
    ) -> Path:
        self.seen = {"tag": tag, "pairs": pairs}
        return self.write(output, source.read_bytes() + b" " + tag.encode())

    def learn(
        self, source: Weights, output: WeightsMade, *, teacher: Weights, network: str | None = None, force: bool = False
    ) -> Path:
        self.seen = {"teacher": teacher}
        return self.write(output, source.read_bytes() + b" and " + teacher.read_bytes())

    def join(
        self,
        source: Weights,
        output: WeightsMade,
        *,
        with_: list[Path] | None = None,
        network: str | None = None,
        force: bool = False,
    ) -> Path:
        self.seen = {"with": with_, "network": network}
        return self.write(output, b"".join(path.read_bytes() for path in (source, *(with_ or ()))))

    def run(self, text: str = RECIPE, **changed: Any) -> RunResult:
        recipe = self.folder / "recipe.yaml"
        recipe.write_text(dedent(text))
        self.calls.clear()
        settings = {"weights": self.weights, "network": None, "pairs": None, "output": self.output}
        return run_recipe(recipe, **{**settings, "steps": self.steps, **changed})


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Bench(tmp_path)


def test_run_recipe_makes_an_artifact_per_stage(bench: Bench) -> None:
    result = bench.run()
    assert [artifact.path.name for artifact in result.artifacts] == [
        "01-strip.safetensors",
        "02-fp32.onnx",
        "03-a.onnx",
        "04-b.onnx",
    ]
    assert result.artifacts[3].path.read_bytes() == b"PK\x03\x04 weights onnx b"  # from fp32, not from a
    assert [artifact.name for artifact in result.artifacts] == bench.calls == ["strip", "fp32", "a", "b"]
    assert result.recipe.report == ("fp32", "a", "b")
    assert result.notices == ()
    assert sorted(path.name for path in bench.output.iterdir())[-1] == "run.json"


def test_run_recipe_noop_when_nothing_changed(bench: Bench) -> None:
    first, state = bench.run(), (bench.output / "run.json").read_bytes()
    again = bench.run()
    assert bench.calls == []
    assert all(artifact.skipped for artifact in again.artifacts)
    assert [artifact.path for artifact in again.artifacts] == [artifact.path for artifact in first.artifacts]
    assert (bench.output / "run.json").read_bytes() == state


def test_run_recipe_writes_the_same_state_for_the_same_run(bench: Bench, tmp_path: Path) -> None:
    bench.run()
    bench.run(output=tmp_path / "other")
    assert (tmp_path / "other" / "run.json").read_bytes() == (bench.output / "run.json").read_bytes()


@pytest.mark.parametrize(
    ("change", "made"),
    [
        pytest.param("setting", ["a"], id="a changed setting remakes its stage and leaves its siblings"),
        pytest.param("input", ["strip", "fp32", "a", "b"], id="other weights remake everything"),
        pytest.param("spaces", ["strip"], id="a stage that gives the same bytes stops the remaking"),
        pytest.param("damaged", ["fp32"], id="a damaged artifact is remade, what followed from it stays"),
        pytest.param("deleted", ["a"], id="a deleted artifact is remade"),
        pytest.param("network", ["fp32"], id="the network argument counts where a step takes it"),
        pytest.param("pairs", ["a", "b"], id="pairs count where a step takes them"),
        pytest.param("size", ["fp32"], id="a setting written out with another value"),
        pytest.param("default", [], id="a setting written out with its default value"),
        pytest.param("renamed", ["c"], id="another name is another file"),
        pytest.param("force", ["strip", "fp32", "a", "b"], id="force remakes everything"),
    ],
)
def test_run_recipe_remakes_what_changed(
    change: str, made: list[str], bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.run()
    text, changed = RECIPE, {}
    if change == "setting":
        text = RECIPE.replace("tag: a", "tag: c")
    elif change == "input":
        bench.weights.write_bytes(b"PK\x03\x04 others")
    elif change == "spaces":
        bench.weights.write_bytes(bench.weights.read_bytes() + b" ")
    elif change == "damaged":
        (bench.output / "02-fp32.onnx").write_bytes(b"half")
    elif change == "deleted":
        (bench.output / "03-a.onnx").unlink()
    elif change == "network":
        changed = {"network": "sdafn"}
    elif change == "pairs":
        monkeypatch.setattr(runner, "hash_pairs", lambda folder: "others")
    elif change == "size":
        text = RECIPE.replace("export:", "export: {size: 256x192}")
    elif change == "default":
        text = RECIPE.replace("export:", "export: {size: null}")
    elif change == "renamed":
        text = RECIPE.replace("name: a", "name: c")
    elif change == "force":
        changed = {"force": True}
    bench.run(text, **changed)
    assert bench.calls == made
    bench.run(text, **{**changed, "force": False})
    assert bench.calls == []


def test_run_recipe_counts_a_file_that_is_a_setting_by_its_content(bench: Bench) -> None:
    table = bench.folder / "table.txt"
    text = f"steps: [export, {{mark: {{table: {table}}}}}]"
    table.write_text("one")
    bench.run(text)
    bench.run(text)
    assert bench.calls == []
    table.write_text("two")
    bench.run(text)
    assert bench.calls == ["mark"]


def test_run_recipe_remakes_when_the_source_of_the_step_changes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    source = bench.folder / "own_step.py"
    source.write_text(
        "from typing import Annotated\nfrom pathlib import Path\nimport shutil\n"
        "from vtopt.optimize.artifacts import Reads, Writes\n"
        "def copy(source: Annotated[Path, Reads(('onnx',))], output: Annotated[Path, Writes('onnx')], *,"
        " force: bool = False) -> Path:\n    return Path(shutil.copy(source, output))\n"
    )
    monkeypatch.syspath_prepend(bench.folder)
    bench.steps["copy"] = importlib.import_module("own_step").copy
    text = "steps: [export, copy]"
    bench.run(text)
    assert [artifact.skipped for artifact in bench.run(text).artifacts] == [True, True]
    source.write_text(source.read_text() + "# better\n")
    assert [artifact.skipped for artifact in bench.run(text).artifacts] == [True, False]


def test_run_recipe_remakes_when_a_package_changes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run()
    monkeypatch.setattr(runner, "list_versions", lambda: {"onnx": "99"})
    bench.run()
    assert bench.calls == ["strip", "fp32", "a", "b"]


def test_run_recipe_gives_a_stage_its_settings_and_the_arguments_of_the_run(bench: Bench) -> None:
    bench.run("steps: [{export: {size: 64x48}}]", network="sdafn")
    assert bench.seen == {"network": "sdafn", "size": (64, 48), "force": True}
    bench.run("steps: [{export: {network: pfafn}}]", network="sdafn")
    assert bench.seen["network"] == "pfafn"


def test_run_recipe_goes_on_where_it_was_interrupted(bench: Bench) -> None:
    bench.raises["a"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        bench.run()
    assert list(read_run(bench.output).stages) == ["01-strip.safetensors", "02-fp32.onnx"]
    bench.raises.clear()
    bench.run()
    assert bench.calls == ["a", "b"]


def test_run_recipe_never_records_a_failed_stage(bench: Bench) -> None:
    bench.run()
    before = (bench.output / "03-a.onnx").read_bytes()
    bench.raises["a"] = DifferenceError("pictures differ")
    changed = RECIPE.replace("tag: a", "tag: c")
    with pytest.raises(DifferenceError):
        bench.run(changed)
    state = read_run(bench.output)
    assert list(state.stages) == ["01-strip.safetensors", "02-fp32.onnx"]
    assert state.reported == {"fp32": "02-fp32.onnx"}
    assert (bench.output / "03-a.onnx").read_bytes() == before
    bench.raises.clear()
    bench.run(changed)
    assert bench.calls == ["a"]  # b is still that of the first run


@pytest.mark.parametrize("kind", [DifferenceError, NetworkError, InputError])
def test_run_recipe_puts_the_place_before_an_error_and_keeps_its_class(kind: type[Exception], bench: Bench) -> None:
    bench.raises["a"] = kind("pictures differ; lower --ratio")
    with pytest.raises(kind) as caught:
        bench.run()
    assert type(caught.value) is kind
    assert str(caught.value) == "step 3 of 4, mark 'a': pictures differ; lower --ratio"


def test_run_recipe_names_a_stage_by_its_step_alone_when_it_has_no_name(bench: Bench) -> None:
    bench.raises["strip"] = InputError("cut short")
    with pytest.raises(InputError, match=r"^step 1 of 4, strip: cut short$"):
        bench.run()
    assert not (bench.output / "run.json").exists()


def test_run_recipe_notes_the_place_beside_a_programming_error(bench: Bench) -> None:
    bench.raises["a"] = ZeroDivisionError("division by zero")
    with pytest.raises(ZeroDivisionError) as caught:
        bench.run()
    assert caught.value.__notes__ == ["step 3 of 4, mark 'a'"]


def test_run_recipe_goes_on_after_a_missed_budget_and_raises_it_at_the_end(bench: Bench) -> None:
    bench.raises["a"] = BudgetError("PSNR 21 dB, the budget is 30")
    with pytest.raises(BudgetError) as caught:
        bench.run()
    assert bench.calls == ["strip", "fp32", "a", "b"]
    assert caught.value.exit_code == BudgetError.exit_code
    assert str(caught.value) == "step 3 of 4, mark 'a': PSNR 21 dB, the budget is 30"
    assert isinstance(caught.value, RunBudgetError)
    assert [artifact.missed for artifact in caught.value.result.artifacts] == [
        "", "", "PSNR 21 dB, the budget is 30", ""
    ]  # fmt: skip
    assert (bench.output / "03-a.onnx").exists()


def test_run_recipe_raises_a_missed_budget_again_without_the_work(bench: Bench) -> None:
    bench.raises["a"] = BudgetError("too dark")
    with pytest.raises(BudgetError):
        bench.run()
    with pytest.raises(BudgetError, match="mark 'a': too dark"):
        bench.run()
    assert bench.calls == []


def test_run_recipe_stops_at_a_missed_budget_that_left_no_artifact(bench: Bench) -> None:
    def refuse(source: Onnx, output: OnnxMade, *, force: bool = False) -> Path:
        raise BudgetError("nothing fits")

    bench.steps["mark"] = refuse
    with pytest.raises(BudgetError, match=r"^step 2 of 3, mark: nothing fits$"):
        bench.run("steps: [export, mark, {mark: , name: more}]")


def test_run_recipe_tells_how_each_stage_goes(bench: Bench) -> None:
    told: list[tuple[int, int, str, str]] = []

    def tell(number: int, total: int, stage: Stage, phase: str) -> None:
        told.append((number, total, stage.name, phase))

    bench.run("steps: [export]")
    bench.raises["mark"] = BudgetError("too dark")
    with pytest.raises(BudgetError):
        bench.run("steps: [export, mark, {mark: , name: more}]", progress=tell)
    assert told == [
        (1, 3, "export", "start"),
        (1, 3, "export", "skipped"),
        (2, 3, "mark", "start"),
        (2, 3, "mark", "missed"),
        (3, 3, "more", "start"),
        (3, 3, "more", "done"),
    ]


def test_run_recipe_refuses_a_file_that_no_run_made(bench: Bench) -> None:
    bench.output.mkdir()
    (bench.output / "03-a.onnx").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"03-a\.onnx: no run made it here; choose another folder or pass"):
        bench.run()
    assert bench.calls == []
    bench.run(force=True)
    assert bench.calls == ["strip", "fp32", "a", "b"]


def test_run_recipe_leaves_other_files_alone(bench: Bench) -> None:
    bench.output.mkdir()
    (bench.output / "03-mine.onnx").write_bytes(b"mine")
    assert bench.run().notices == ()
    assert (bench.output / "03-mine.onnx").read_bytes() == b"mine"


def test_run_recipe_says_what_an_earlier_run_left(bench: Bench) -> None:
    bench.run()
    result = bench.run("steps: [strip, {export: , name: fp32}]")
    assert bench.calls == []
    assert result.notices == tuple(
        f"{bench.output / name}: an earlier run left it, this recipe does not make it"
        for name in ("03-a.onnx", "04-b.onnx")
    )


def test_run_recipe_refuses_to_overwrite_what_it_reads(bench: Bench) -> None:
    bench.run()
    with pytest.raises(OutputError, match="would overwrite it"):
        bench.run(weights=bench.output / "01-strip.safetensors")


def test_run_recipe_refuses_a_file_for_a_folder(bench: Bench) -> None:
    with pytest.raises(OutputError, match=r"last\.pth: is a file; name a folder"):
        bench.run(output=bench.weights)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="an empty run.json"),
        pytest.param(b'{"format": "vtopt run 1", "stag', id="a run.json cut short"),
        pytest.param(b"\xff\x00", id="a run.json that is no text"),
        pytest.param(b'{"stages": ["train"]}', id="a run.json of another program"),
    ],
)
def test_run_recipe_ignores_a_run_json_it_cannot_use_and_says_so(content: bytes, bench: Bench) -> None:
    bench.output.mkdir()
    (bench.output / "run.json").write_bytes(content)
    (notice,) = bench.run().notices
    assert notice.startswith(f"{bench.output}/run.json: is damaged, or not of a run's making")
    assert bench.run().notices == ()
    assert bench.calls == []


def test_run_recipe_keeps_the_run_json_of_another_program(bench: Bench) -> None:
    bench.output.mkdir()
    (bench.output / "run.json").write_text("{}")
    bench.run()
    assert (bench.output / "run.json.old").read_text() == "{}"


def test_run_recipe_checks_the_pairs_before_any_work(bench: Bench) -> None:
    with pytest.raises(InputError, match="there is no such folder"):
        bench.run(pairs=bench.folder / "none")
    assert not bench.output.exists()


def test_run_recipe_checks_the_recipe_before_any_work(bench: Bench) -> None:
    with pytest.raises(RecipeError, match="step 1 'mark': reads onnx, but the run starts from checkpoint"):
        bench.run("steps: [mark]")
    assert not bench.output.exists()


def export_with_history(source: Weights, output: OnnxMade, *, force: bool = False) -> Path:
    """Write an empty ONNX model that says what it was made from, as real steps do."""
    import onnx

    from vtopt.optimize.provenance import add_record, set_onnx_metadata

    model = onnx.ModelProto()
    set_onnx_metadata(model, add_record({}, "export", source, settings={}, figures={"psnr": 99.0}))
    output.parent.mkdir(exist_ok=True)
    output.write_bytes(model.SerializeToString())
    return output


def test_run_recipe_returns_what_the_artifact_says_of_itself(bench: Bench) -> None:
    bench.steps["export"] = export_with_history
    for _ in ("made", "skipped"):
        record = bench.run("steps: [export]").artifacts[0].record
        assert record is not None
        assert (record.step, record.parent, record.figures) == ("export", "last.pth", {"psnr": 99.0})
    assert bench.run("steps: [strip]", force=True).artifacts[0].record is None


def test_run_recipe_knows_its_artifacts_without_run_json(bench: Bench) -> None:
    bench.steps["export"] = export_with_history
    bench.run("steps: [export]")
    (bench.output / "run.json").unlink()  # as when a run is killed before it notes a finished stage
    assert not bench.run("steps: [export]").artifacts[0].skipped
    (bench.output / "run.json").unlink()
    bench.weights.write_bytes(b"PK\x03\x04 others")
    with pytest.raises(OutputError, match="no run made it here"):
        bench.run("steps: [export]")


def test_read_run_lists_what_the_report_compares_in_its_order(bench: Bench) -> None:
    bench.run(RECIPE + "\n    report: [b, fp32]", network="sdafn")
    state = read_run(bench.output)
    assert list(state.reported.items()) == [("b", "04-b.onnx"), ("fp32", "02-fp32.onnx")]
    assert (state.weights, state.network, state.pairs) == (str(bench.weights), "sdafn", None)


def test_read_run_names_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r": holds no run; run a recipe into it first"):
        read_run(tmp_path)


def test_run_recipe_names_a_run_json_it_cannot_write(bench: Bench) -> None:
    (bench.output / ".vtopt-run.json").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"step 1 of 4, strip: .*run\.json: cannot be written"):
        bench.run()


def test_run_json_holds_no_times(bench: Bench) -> None:
    bench.run()
    assert set(json.loads((bench.output / "run.json").read_text())["stages"]["03-a.onnx"]) == {
        "name", "key", "sha256", "missed"
    }  # fmt: skip


def test_recall_run_returns_the_folder_of_the_last_run(bench: Bench) -> None:
    assert recall_run() is None
    bench.run()
    assert recall_run() == bench.output


def test_recall_run_forgets_a_folder_that_is_gone(bench: Bench) -> None:
    remember_run(bench.output)
    assert recall_run() is None


def test_remember_run_is_silent_where_it_cannot_write(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(bench.weights))  # a file, not a folder
    remember_run(bench.output)
    assert recall_run() is None


def test_remember_run_goes_to_the_home_without_xdg_state_home(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(bench.folder))
    bench.output.mkdir()
    remember_run(bench.output)
    assert (bench.folder / ".local/state/vtopt/last_run").read_text() == str(bench.output)


LEARNING = """
    steps:
      - strip:
        name: teacher
      - strip:
        name: student
      - learn: {teacher: teacher}
"""


def test_run_recipe_gives_a_step_the_file_of_the_step_it_names(bench: Bench) -> None:
    bench.run(LEARNING)
    assert bench.seen == {"teacher": bench.output / "01-teacher.safetensors"}
    assert bench.calls == ["teacher", "student", "learn"]
    bench.run(LEARNING)
    assert bench.calls == []


def test_run_recipe_remakes_a_step_when_the_one_it_learns_from_changed(bench: Bench) -> None:
    other = dedent(LEARNING).replace("- strip:\n    name: student", "- strip:\n    name: student\n    from: teacher")
    bench.run(other)
    teacher = bench.output / "01-teacher.safetensors"
    teacher.write_bytes(b"another")
    bench.run(other)
    assert bench.calls == ["teacher"]
    bench.weights.write_bytes(b"PK\x03\x04 others")
    bench.run(other)
    assert bench.calls == ["teacher", "student", "learn"]
    assert bench.output.joinpath("03-learn.safetensors").read_bytes().count(b"others") == 2


JOINING = """
    network: pfafn_aligned
    steps:
      - join:
"""


def test_run_recipe_gives_further_files_to_the_step_that_joins_them(bench: Bench) -> None:
    further = bench.folder / "gen.pth"
    further.write_bytes(b"PK\x03\x04 further")
    bench.run(JOINING, with_=[further])
    assert bench.seen == {"with": [further], "network": "pfafn_aligned"}
    bench.run(JOINING, with_=[further])
    assert bench.calls == []
    further.write_bytes(b"PK\x03\x04 changed")
    bench.run(JOINING, with_=[further])
    assert bench.calls == ["join"]


def test_run_recipe_refuses_further_files_that_no_step_joins(bench: Bench) -> None:
    with pytest.raises(UsageError, match="has no step that joins files of weights; leave --with out"):
        bench.run(RECIPE, with_=[bench.weights])
    assert not bench.output.exists()


def test_a_recipes_network_gives_way_to_the_users_and_to_what_the_weights_say(bench: Bench) -> None:
    bench.run(JOINING, network="sdafn")
    assert bench.seen["network"] == "sdafn"
    save_weights({"w": torch.zeros(1)}, weights := bench.folder / "w.safetensors", {NETWORK: "pfafn"})
    bench.run(JOINING, weights=weights)
    assert bench.seen["network"] is None
    said = {"network": "sdafn_plus_tiny", "config": {}, "state_dict": {"a.weight": torch.zeros(1)}}
    torch.save(said, path := bench.folder / "said.pth")
    bench.run(JOINING, weights=path)
    assert bench.seen["network"] is None
    bench.run(JOINING, weights=path, with_=[weights])  # what a part says is not the whole's name
    assert bench.seen["network"] == "pfafn_aligned"


def test_run_recipe_refuses_to_overwrite_a_further_file(bench: Bench) -> None:
    bench.output.mkdir()
    (bench.output / "01-join.safetensors").write_bytes(further := b"PK\x03\x04 further")
    with pytest.raises(OutputError, match="the run reads it and would overwrite it"):
        bench.run(JOINING, with_=[bench.output / "01-join.safetensors"], force=True)
    assert (bench.output / "01-join.safetensors").read_bytes() == further

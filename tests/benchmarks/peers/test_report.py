"""The tables of peers, their JSON and CSV, and the command; on rows made up here."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from vtopt.benchmarks.peers import figures
from vtopt.benchmarks.peers.figures import PeersGroup
from vtopt.benchmarks.peers.report import COLUMNS, format_peers, write_peers_csv
from vtopt.optimize.cli import app
from vtopt.optimize.errors import InputError

TOOLS = {"cpu": "a cpu", "olive": "absent"}
HOW = {"runs": 2, "warmup": 3, "threads": 1, "pairs": 4, "calibrated on": 16, "pairs from": "my_pairs"}


def _make_row(tool: str, form: str, runtime: str, **values: Any) -> dict[str, Any]:
    return {
        "network": "one",
        "tool": tool,
        "form": form,
        "runtime": runtime,
        "median ms": None,
        "note": "",
        "picture size": "64x48",
        **HOW,
        **values,
    }


GROUP = PeersGroup(
    (
        _make_row("plain", "float32", "onnxruntime", **{"median ms": 4.0, "PSNR dB": float("inf")}),
        _make_row("Tool", "int8", "onnxruntime", note="it cannot load it"),
        _make_row("Tool", "int8", "openvino", **{"median ms": 2.0}),
        _make_row("Other", "int8", "onnxruntime", note="it has broken"),
        _make_row("Other", "int8", "openvino", note="it has broken"),
    ),
    ("one: memory does not hold all models",),
)


def test_each_network_has_a_table_and_below_it_the_reasons() -> None:
    second = PeersGroup(({**GROUP.rows[0], "network": "two"},), ())
    text = format_peers([GROUP, second], TOOLS)
    assert text.startswith("- **one: memory does not hold all models**\n\n**one**\n\n| tool ")
    assert "\n\n**two**\n\n| tool " in text
    assert "\n- Tool, int8 on onnxruntime: it cannot load it\n" in text
    assert text.count("it has broken") == 1
    assert "\n- Other, int8 on onnxruntime and openvino: it has broken\n" in text
    assert "pairs 4 from my_pairs, calibrated on 16, size 64x48, runs 2 in turns after 3 of warm-up" in text
    assert "olive absent" in text


def test_json_has_only_numbers_that_json_knows() -> None:
    data = json.loads(format_peers([GROUP], TOOLS, as_json=True))
    assert data["rows"][0]["PSNR dB"] == "inf"
    assert data["rows"][1]["note"] == "it cannot load it"
    assert data["conditions"]["cpu"] == "a cpu"


def test_csv_has_reasons_and_conditions_as_columns(tmp_path: Path) -> None:
    path = write_peers_csv([GROUP], TOOLS, tmp_path / "peers.csv")
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert tuple(rows[0]) == (*COLUMNS, *TOOLS)
    assert [row["note"] for row in rows[:2]] == ["", "it cannot load it"]
    assert rows[1]["median ms"] == ""


def test_nothing_measured_says_why() -> None:
    with pytest.raises(InputError, match="nothing was measured; one is left out: it is too large"):
        format_peers([PeersGroup((), ("one is left out: it is too large",))], TOOLS)


def test_command_writes_the_csv_after_each_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    output = tmp_path / "peers.csv"

    def measure(networks: Any, **options: Any) -> Any:
        asked.update(options, networks=list(networks))
        yield GROUP
        assert output.exists()
        yield PeersGroup((), ("two is left out",))

    monkeypatch.setattr(figures, "measure_peers", measure)
    options = ["--network", "one", "--network", "two", "--pair-count", "4", "--olive", str(tmp_path / "olive")]
    result = CliRunner().invoke(app, ["bench", "peers", *options, "--output", str(output)])
    assert result.exit_code == 0, result.output
    assert "| Tool " in result.output
    assert "- **two is left out**" in result.output
    assert asked == {
        "networks": ["one", "two"],
        "pairs": None,
        "pair_count": 4,
        "threads": 2,
        "runs": 10,
        "olive": str(tmp_path / "olive"),
    }
    again = CliRunner().invoke(app, ["bench", "peers", *options, "--output", str(output)])
    assert again.exit_code == 1

"""Every measured figure of the README is that of a committed CSV, and every CSV says where it was measured."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vtopt.benchmarks.readme.blocks import read_blocks
from vtopt.benchmarks.readme.figures import list_rows, pick_figure, read_rows
from vtopt.benchmarks.readme.making import list_absent, make_table
from vtopt.benchmarks.readme.tables import TABLES

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
TEXT = README.read_text(encoding="utf-8")
PROSE = " ".join(TEXT.split())

UNMEASURED = {
    "networks-completion.csv",
    "networks-hrviton.csv",
    "networks-pfafn_aligned.csv",
    "pruned-sdafn_plus_3.csv",
}
"""Named by the README's tables and sentences, and not there yet."""
WITHOUT_MACHINE = {
    "distill-sdafn_plus_tiny-truth-200.csv",
    "int8-sdafn_plus_tiny-truth-200.csv",
    "pruning-sdafn_plus_tiny-truth-200.csv",
    "qat-sdafn_plus_tiny-truth-200.csv",
    "sdafn_plus_tiny-truth-200.csv",
}
"""Written before a report's CSV said where it was measured."""
MACHINE = ("cpu", "torch", "onnxruntime", "openvino")
CONDITIONS = ("reference", "pairs", "pairs from", "size", "batch", "runs", "threads", *MACHINE)
RATIOS = {"correlation": "slices", "int8": "plain", "rewrites": "plain", "warp_forms": "plain"}
"""How files of ratios begin -> the form that each is a ratio to."""
TABLES_OF_WORDS = ("| command | effect |", "| rewrite | effect |", "| network | from | parameters M | recipe |")
UNCOVERED = (
    "took 133 minutes beside other work",
    "600 steps took 35 minutes on one busy core; the checkpoint itself took 80 minutes on two",
    "changes to 63 dB when the last bit of an input does",
    "takes 5.4 GiB of memory",
)
"""Measured once, by no command that writes a CSV."""
SETTINGS = (
    "Python 3.11 or newer",
    "version below 2.14",
    "within 45 dB",
    "pruned by 0.4, goes",
    "(0.3 also after",
    "for 0.4 and 0.5",
    "pruned by 0.3,",
)
"""Numbers that look like measurements, and are what was asked for."""

FIGURE = r".{,30}(?<![\w.-])(?:\d[\d,]*\.\d|\d[\d,]* (?:%|(?:dB|ms|MiB|GiB|GFLOPs|minutes|px)\b)).{,9}"
"""A fraction, or a number with a unit, and what stands around it."""


def figure(file: str, column: str, **where: str) -> Any:
    """Return a figure of a committed CSV; the test is skipped where the CSV is listed as not measured yet."""
    if file in UNMEASURED:
        pytest.skip(f"{file} is not measured yet")
    return pick_figure(read_rows(RESULTS / file), column, where)


def total(file: str, column: str, **where: str) -> float:
    return sum(float(row[column]) for row in list_rows(read_rows(RESULTS / file), where))


def rewrites(column: str, form: str) -> Any:
    return figure("rewrites-sdafn_plus_3.csv", column, form=form, runtime="onnxruntime", threads="2")


def pfafn_warp(form: str, runtime: str) -> float:
    return figure("rewrites-pfafn_warp.csv", "median ms", form=form, runtime=runtime, threads="2")


def correlation(form: str, runtime: str) -> float:
    return total("correlation.csv", "median ms", form=form, runtime=runtime, threads="2")


def truth(file: str, model: str, column: str = "truth PSNR dB", **where: str) -> float:
    return figure(f"{file}-sdafn_plus_tiny-truth-200.csv".removeprefix("-"), column, model=model, **where)


def int8(network: str, form: str, column: str, runtime: str = "onnxruntime") -> float:
    return figure(f"int8-{network}.csv", column, form=form, runtime=runtime)


def pruned(column: str, model: str) -> float:
    return figure("pruned-sdafn_plus_3.csv", column, model=model, runtime="onnxruntime")


def of_int8_run(column: str) -> Any:
    return figure("cpu-int8-sdafn_plus_tiny.csv", column, model="int8", runtime="onnxruntime")


def parameters(*networks: str) -> list[float]:
    torch = pytest.importorskip("torch")
    from vtopt.optimize.networks import build_network

    with torch.device("meta"):
        modules = [build_network(network).module for network in networks]
    return [sum(weight.numel() for weight in module.parameters()) / 1e6 for module in modules]


UNCHANGED = "(person unchanged)"
SENTENCES: dict[str, Callable[[], list[Any]]] = {
    "here on {} pairs (`--pair-count {}`)": lambda: [of_int8_run("pairs")] * 2,
    f"Measured: {', '.join(f'{column} {{}}' for column in CONDITIONS)}. PSNR and": lambda: [
        of_int8_run(column) for column in CONDITIONS
    ],
    "int8 takes {:.2f} of its float32's time": lambda: [
        int8("sdafn_plus_3", "vtopt int8", "median ms") / int8("sdafn_plus_3", "vtopt fp32", "median ms")
    ],
    "convolutions: {:.0%} of {:,.0f} ms, as long": lambda: [
        rewrites(column, "all rewrites") for column in ("conv share", "median ms")
    ],
    "The warps went from {:.0%} of {:,.0f} ms to {:.0%} of {:,.0f}.": lambda: [
        rewrites(column, form) for form in ("plain", "all rewrites") for column in ("warp share", "median ms")
    ],
    "OpenVINO's files (NNCF's is {:.2f} MiB)": lambda: [
        int8("sdafn_plus_tiny", "NNCF defaults", "size MiB", "openvino")
    ],
    "to the truth by {:.2f} dB, float32 by {:.2f}; int8 comes to float32 by {:.1f} dB, on the worst pair by {:.1f}.": (
        lambda: [
            *(truth("int8", model) for model in ("int8", "fp32")),
            *(truth("int8", "int8", column) for column in ("PSNR dB", "worst dB")),
        ]
    ),
    "Its own defaults bring the demo checkpoint to {:.1f} dB,": lambda: [
        int8("sdafn_plus_tiny", "neural-compressor defaults", "PSNR dB")
    ],
    "it comes to {:.1f} dB in {:.2f} MiB.": lambda: [
        int8("sdafn_plus_tiny", "vtopt int8 --engine neural-compressor", column) for column in ("PSNR dB", "size MiB")
    ],
    "from {:.0f} to {:.0f} GFLOPs, from {:.1f} to {:.1f} MiB and from {:.0f} to {:.0f} ms on onnxruntime": lambda: [
        scale * pruned(column, model)
        for column, scale in (("GMACs", 2), ("size MiB", 1), ("median ms", 1))
        for model in ("original", "pruned")
    ],
    "int8 of the demo checkpoint to {:.2f} dB on the same 200 pairs on onnxruntime and {:.2f} on OpenVINO, "
    "post-training int8 is at {:.2f}, float32 at {:.2f}.": lambda: [
        *(truth("qat", "qat-int8", runtime=runtime) for runtime in ("onnxruntime", "openvino")),
        *(truth("qat", model) for model in ("original-int8", "original")),
    ],
    "950 steps {:.2f} dB against the truth with lessons and {:.2f} by copying (200 drawn pairs at 128x96, "
    "teacher {:.2f}, the person unchanged {:.2f})": lambda: [
        truth("distill", model) for model in ("tutored", "copied", "teacher", UNCHANGED)
    ],
    "takes {:,.0f} ms in place of {:,.0f} on onnxruntime and {:,.0f} in place of {:,.0f} on OpenVINO": lambda: [
        pfafn_warp(form, runtime) for runtime in ("onnxruntime", "openvino") for form in ("export", "plain")
    ],
    "takes {:.0f} ms in place of {:.0f} on onnxruntime, and {:.0f} in place of {:.0f} on OpenVINO": lambda: [
        correlation(form, runtime) for runtime in ("onnxruntime", "openvino") for form in ("tiles", "slices")
    ],
    "it comes to the truth by {:.1f} dB PSNR and {:.3f} SSIM (medians at 256x192), where returning the person "
    "unchanged comes to {:.1f} dB and {:.3f}.": lambda: [
        truth("", model, column)
        for model in ("sdafn_plus_tiny", UNCHANGED)
        for column in ("truth PSNR dB", "truth SSIM")
    ],
    "`sdafn_plus_tiny` is SDAFN_plus with small widths ({:,.0f} parameters)": lambda: [
        1e6 * truth("", "sdafn_plus_tiny", "params M")
    ],
    "2207.09161)) | {:.2f} |": lambda: parameters("sdafn"),
    "by pyramid levels | {:.2f} (3) |": lambda: parameters("sdafn_plus_3"),
    "2103.04559)), of two files | {:.2f} |": lambda: parameters("pfafn_aligned"),
    "`pfafn_gen` | its halves | {:.2f}, {:.2f} |": lambda: parameters("pfafn_warp", "pfafn_gen"),
    "2206.14180)), of two files | {:.2f} |": lambda: parameters("hrviton"),
    "`hrviton_gen` | its halves | {:.2f}, {:.2f} |": lambda: parameters("hrviton_tocg", "hrviton_gen"),
    "(docs/completion.md) | {:.2f}, exported": lambda: parameters("completion"),
    "exported {:.2f} |": lambda: [
        figure("networks-completion.csv", "params M", model="04-fp32", runtime="onnxruntime")
    ],
}
"""A part of a sentence -> the figures it tells."""


def is_measured(name: str) -> bool:
    return not list_absent(TABLES[name], RESULTS)


@pytest.mark.parametrize("name", [name for name in TABLES if is_measured(name)])
def test_a_table_is_what_the_results_make(name: str) -> None:
    assert read_blocks(TEXT)[name] == make_table(TABLES[name], RESULTS), (
        "run python -m vtopt.benchmarks.readme README.md"
    )


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_sentence_tells_the_figures_of_the_results(sentence: str) -> None:
    assert sentence.format(*SENTENCES[sentence]()).replace("%", " %") in PROSE


def test_comparisons_in_words_hold() -> None:
    warps = [
        total("warp_forms.csv", "median ms", runtime="onnxruntime", threads="2", **how)
        for how in ({"form": "plain"}, {"chosen": "yes"})
    ]
    assert "runs ten times as fast on onnxruntime" in PROSE
    assert warps[0] / warps[1] > 10
    assert "spends more than half of its time there" in PROSE
    assert rewrites("warp share", "plain") > 0.5


def test_each_table_of_figures_stands_between_markers() -> None:
    outside = re.sub(r"<!-- figures.*?/figures -->", "", TEXT, flags=re.S)
    assert tuple(re.findall(r"^(\|.*)\n\| *-", outside, re.M)) == TABLES_OF_WORDS


def test_no_other_figure_is_told() -> None:
    text = re.sub(r"^```.*?^```$|<!-- figures.*?/figures -->|^\|[^\n]*$", "", TEXT, flags=re.M | re.S)
    text = " ".join(text.split())
    for sentence in SENTENCES:
        parts = map(re.escape, re.split(r"\{.*?\}", sentence))
        text = re.sub(r"\S.{,40}?".join(parts), "", text)
    for said in (*UNCOVERED, *SETTINGS):
        assert said in text
        text = text.replace(said, "")
    text = re.sub(r"`[^`]*`", "", text)
    assert re.findall(FIGURE, text) == []


def test_what_is_not_measured_yet_is_listed() -> None:
    assert {file for table in TABLES.values() for file in list_absent(table, RESULTS)} <= UNMEASURED
    assert not [file for file in UNMEASURED if (RESULTS / file).exists()]


def test_each_result_is_listed_with_its_command() -> None:
    listed = re.findall(r"^## `(\S+\.csv)`$", (RESULTS / "README.md").read_text(encoding="utf-8"), re.M)
    assert listed == sorted({path.name for path in RESULTS.glob("*.csv")} | UNMEASURED)


@pytest.mark.parametrize("file", sorted({path.name for path in RESULTS.glob("*.csv")} - WITHOUT_MACHINE))
def test_a_result_names_the_machine_and_the_versions(file: str) -> None:
    assert all(row.get(column) for row in read_rows(RESULTS / file) for column in MACHINE)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.csv")), ids=lambda path: path.stem)
def test_a_ratio_is_that_of_the_medians(path: Path) -> None:
    rows, first = read_rows(path), RATIOS.get(re.split("[-.]", path.name)[0])
    column = next((column for column in ("ratio", "of plain") if column in rows[0]), None)
    assert column is None or first
    for row in rows if column else ():
        alike = {key: row[key] for key in ("case", "network", "threads", "batch") if key in row}
        where = {**alike, "form": first, "runtime": row["runtime"].replace("torch", "onnxruntime")}
        before = pick_figure(rows, "median ms", where)
        assert float(row[column]) == pytest.approx(float(row["median ms"]) / before, rel=1e-9)


def test_only_listed_results_name_no_machine() -> None:
    assert all("cpu" not in read_rows(RESULTS / file)[0] for file in WITHOUT_MACHINE)

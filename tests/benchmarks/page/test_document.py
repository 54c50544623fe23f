"""The page as text: it is whole, asks for nothing, escapes what files say, and keeps the figures."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise

import pytest
from bench_pages import make_page, make_point, make_view

from vtopt.benchmarks.page.content import Artifact, Page, Profile
from vtopt.benchmarks.page.document import format_page
from vtopt.benchmarks.reports.report import Report

NASTY = '<script>alert("x")</script>&amp;\'">$title'


class _Reader(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "img", "input", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_every_tag_is_closed_and_headings_are_in_order() -> None:
    reader = _Reader(format_page(make_page()))
    assert reader.open == []
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(level <= before + 1 for before, level in pairwise(levels))


def test_the_page_asks_for_nothing() -> None:
    text = format_page(make_page())
    for _, attributes in _Reader(text).tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    assert not re.search(r"url\(|@import|https?:|//[a-z]", text)


def test_the_policy_allows_this_style_and_this_script_alone() -> None:
    text = format_page(make_page())
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.S)
        assert f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'" in policy
    assert not any("style" in attributes for _, attributes in _Reader(text).tags)


def _make_nasty_page() -> Page:
    """Return a page all of whose texts are such as close a tag."""
    key = (NASTY, NASTY)
    (row, other), columns = make_page().table.rows, ("model", "runtime", "median ms", NASTY)
    rows = tuple(each | {"model": NASTY, "runtime": NASTY, NASTY: NASTY} for each in (row, other))
    record = {"step": NASTY, "parent": NASTY, "parent_sha256": NASTY, "notices": [NASTY]}
    record |= {name: {NASTY: NASTY, "b": [NASTY], "c": {NASTY: 1}} for name in ("settings", "figures", "versions")}
    return make_page(
        title=NASTY,
        table=Report(rows, columns, {}, ()),
        points=(make_point(NASTY, 10.0, runtime=NASTY), make_point("other", 5.0, 36.0, runtime=NASTY)),
        reference=key,
        baseline=key,
        profiles=(Profile(NASTY, NASTY, 1, {NASTY: 1.0}),),
        views=(replace(make_view(NASTY, NASTY, runtime=NASTY), pair=NASTY),),
        artifacts=(Artifact(NASTY, NASTY, NASTY, 1, (record,)),),
        conditions={NASTY: NASTY, "cpu": NASTY},
        notices=(NASTY,),
        noise=NASTY,
    )


def test_what_files_say_is_text() -> None:
    text = format_page(_make_nasty_page())
    assert _Reader(text).open == []
    assert text.count("<script>") == 1
    assert text.count("&lt;script&gt;alert(&quot;x&quot;)") > 20
    assert text.count("$title") > 20


def test_equal_pages_are_equal_bytes() -> None:
    assert format_page(make_page()) == format_page(make_page())


def test_cells_keep_unrounded_figures() -> None:
    page = make_page()
    cells = [
        attributes["data-value"] for tag, attributes in _Reader(format_page(page)).tags if "data-value" in attributes
    ]
    wanted = [repr(row[name]) for row in page.table.rows for name in page.table.columns if isinstance(row[name], float)]
    assert cells[: len(wanted)] == wanted


def test_sections_without_content_are_left_out() -> None:
    points = (make_page().points[0], make_point("int8", 10.0, None))
    text = format_page(make_page(points=points, profiles=(), views=()))
    ids = [attributes.get("id") for tag, attributes in _Reader(text).tags if tag == "section"]
    assert ids == ["summary", "figures", "provenance", "method"]
    assert "No model is recommended" in text


def _strip(text: str) -> str:
    return re.sub(r"<[^>]+>", "", text).replace("\N{NO-BREAK SPACE}", " ")


def test_the_summary_says_why() -> None:
    text = _strip(format_page(make_page()))
    assert (
        "Use int8: 10 ms a run, 2.00 times as fast as fp32 (20 ms) by their fastest runs, "
        "and 2.00 MiB instead of 8.00 MiB." in text
    )
    assert "Its pictures stay close to those of fp32: 38.0 dB on the worst pair, 44.0 dB on the median pair." in text
    assert "Of the models whose worst pair is at least 35 dB" in text


def test_the_summary_warns_where_no_model_is_close() -> None:
    points = (make_page().points[0], make_point("int8", 10.0, 28.0, 2.0))
    text = _strip(format_page(make_page(points=points)))
    assert "Keep fp32 on onnxruntime, 20 ms a run and 8.00 MiB. No other model keeps 35 dB on its worst pair: " in text
    assert ": int8 on onnxruntime comes closest with 28.0 dB from fp32, which is not close enough." in text


def test_the_summary_says_where_all_others_are_broken() -> None:
    points = (make_page().points[0], make_point("int8", 10.0, -math.inf, 2.0))
    text = _strip(format_page(make_page(points=points)))
    assert "Keep fp32 on onnxruntime, 20 ms a run and 8.00 MiB. No other model keeps 35 dB on its worst pair: " in text
    assert ": their pictures are broken." in text


def test_the_summary_keeps_the_reference_where_nothing_is_better() -> None:
    points = (make_page().points[0], make_point("int8", 30.0, 38.0, 2.0))
    text = _strip(format_page(make_page(points=points)))
    assert "Keep fp32 on onnxruntime, 20 ms a run and 8.00 MiB: of those close to it none is faster beyond" in text


def test_the_summary_names_what_is_as_fast() -> None:
    points = (*make_page().points, make_point("fp16", 10.1, 50.0, 4.0))
    text = _strip(format_page(make_page(points=points)))
    assert "; fp16 cannot be told from it in speed, and is no smaller." in text


def test_the_summary_calls_no_noise_a_gain() -> None:
    points = (make_page().points[0], make_point("int8", 19.9, 40.0, 4.0))
    text = _strip(format_page(make_page(points=points)))
    assert "Use int8: 19.9 ms a run, within the noise the same as 20 ms of fp32, and 4.00 MiB instead of" in text
    assert "times as fast" not in text


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ((1.9, 2.2), "2.00 times as fast as fp32 by the fastest rounds of each process"),
        ((0.9, 2.2), "within the noise as fast as fp32 by the fastest rounds of each process"),
    ],
    ids=["faster", "noise"],
)
def test_the_summary_says_what_a_measured_speed_is_of(interval: tuple[float, float], said: str) -> None:
    fp32 = make_point("fp32", 20.0, math.inf, 8.0, speed_interval=(1.0, 1.0))
    points = (fp32, make_point("int8", 10.0, 38.0, 2.0, speed_interval=interval))
    text = _strip(format_page(make_page(points=points)))
    assert f"Use int8: {said}, its median 10 ms instead of 20 ms, and 2.00 MiB instead of 8.00 MiB" in text
    assert f", {interval[0]:.2f} to {interval[1]:.2f}" in text


def test_the_summary_compares_no_model_with_itself() -> None:
    text = _strip(format_page(make_page(baseline=("int8", "onnxruntime"))))
    assert "Use int8, 10 ms a run and 2.00 MiB." in text


def test_the_front_says_what_it_is_of() -> None:
    points = (*make_page().points, make_point("slow", 15.0, 37.0), make_point("small", 16.0, 36.0, 1.0))
    text = _strip(format_page(make_page(points=points)))
    assert ", ringed, of what no other beats in latency, quality and size together: int8 on onnxruntime, small" in text


def test_models_with_equal_pictures_are_told_in_place_of_their_pairs() -> None:
    points = (make_page().points[0], make_point("slim", 10.0, math.inf, 2.0))
    text = _strip(format_page(make_page(points=points, views=())))
    assert "The pictures of slim equal those of fp32 on every pair." in text
    assert "Drag the line" not in text


def test_a_provenance_names_every_step_and_repeats_no_versions() -> None:
    (artifact,) = make_page().artifacts
    text = _strip(format_page(make_page(artifacts=(replace(artifact, history=artifact.history * 2),))))
    assert "quantize → quantize" in text
    assert text.count("vtopt 0.1.0, onnxruntime 1.0") == text.count("as in the step before") == 1
    assert text.count("psnr_worst_db 38.5") == text.count("1" * 64) == 2


def _read_colours(style: str) -> list[dict[str, str]]:
    return [dict(re.findall(r"--(\w+): (#\w{6});", block)) for block in re.findall(r":root \{(.*?)\}", style, re.S)]


def _measure_luminance(colour: str) -> float:
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(scheme: int) -> None:
    colours = _read_colours((files("vtopt.benchmarks.page") / "style.css").read_text())[scheme]
    for text in ("ink", "quiet", "accent"):
        for ground in ("paper", "raised", "wash"):
            darker, lighter = sorted(_measure_luminance(colours[name]) for name in (text, ground))
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (text, ground)
    for ground in ("paper", "raised"):
        darker, lighter = sorted(_measure_luminance(colours[name]) for name in ("mark", ground))
        assert (lighter + 0.05) / (darker + 0.05) >= 3, ground

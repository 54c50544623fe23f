"""The whole page: one HTML file that asks nothing of any network."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping
from importlib.resources import files
from string import Template
from typing import Any

from .comparison import show_views
from .content import Page, Point
from .markup import Markup, join, tag
from .number_text import show_db, show_mib, show_ms
from .operations import show_operations
from .origin import show_artifacts
from .recommend import Recommendation, recommend
from .scatter import draw_scatter, find_front, list_shown
from .summary import show_notices, show_summary
from .table import show_table

__all__ = ["format_page"]

OPERATIONS = tag(
    "p",
    "Profiled one model after another: read the shares within a model, and compare models by their latency.",
    class_="hint",
)
CONVENTIONS = (
    "One multiply-add is 1 MAC and 2 FLOPs; a MiB is 2**20 bytes.",
    "PSNR and SSIM are the median over the pairs, worst dB that of the worst pair, of pictures in [-1, 1] to those of "
    "the reference on the same pair. PSNR is inf where pictures are equal.",
    "Times of operations are from the runtime's own profiler, in runs apart from the timed ones: it slows them down, "
    "and leaves out what they do between nodes.",
)


def format_page(page: Page) -> str:
    """Return the page as HTML: the same page has the same bytes."""
    found = recommend(page.points, page.reference)
    style, script = (_read(name).strip() + "\n" for name in ("style.css", "page.js"))
    sections = [section for section in _make_sections(page, found) if section]
    links = (tag("a", name.capitalize(), href=f"#{name}") for name, *_ in sections)
    body = (
        tag("section", tag("h2", heading, id=f"{name}-title"), *parts, id=name, aria_labelledby=f"{name}-title")
        for name, heading, parts in sections
    )
    return Template(_read("page.html")).substitute(
        title=tag("title", f"{page.title} – vtopt report"),
        heading=tag("h1", page.title),
        facts=tag("p", _tell_facts(page.conditions), class_="facts"),
        links=join(links),
        sections=join(body, "\n"),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _make_sections(page: Page, found: Recommendation | None) -> list[tuple[str, str, tuple[object, ...]] | None]:
    """Return id, heading and content of each section; None for one that has nothing to show."""
    chosen = found.chosen.key if found else None
    compared = any(point.worst_db is not None for point in page.points if point.key != page.reference)
    summary = tag("div", show_summary(page, found), class_="summary"), show_notices(page.notices)
    return [
        ("summary", "Summary", summary),
        ("figures", "Figures", (show_table(page.table, chosen),)),
        ("trade-off", "Speed, size and quality", _show_scatter(page, found)) if compared else None,
        (
            "operations",
            "Where the time goes",
            (OPERATIONS, tag("div", show_operations(page.profiles), class_="profiles")),
        )
        if page.profiles
        else None,
        ("pictures", "Pictures", (*_tell_pictures(page), show_views(page.views, page.reference))) if compared else None,
        ("provenance", "Where the files come from", (show_artifacts(page.artifacts),)),
        ("method", "How it was measured", _show_method(page)),
    ]


def _show_scatter(page: Page, found: Recommendation | None) -> tuple[Markup, ...]:
    chosen = found.chosen.key if found else None
    shown = list_shown(page.points)
    names = ", ".join(f"{point.model} on {point.runtime}" for point in find_front(shown))
    bars = " Bars are 95\N{NO-BREAK SPACE}% intervals of the median."
    told = f"Further left is faster, higher is closer to {page.reference[0]}; the area of a dot is the size on disk."
    caption = tag(
        "figcaption",
        told,
        bars if any(point.interval for point in shown) else None,
        tag("br"),
        tag("b", "Pareto front"),
        f", ringed, of what no other beats in latency, quality and size together: {names}. Dashed is that of latency "
        "and quality alone.",
    )
    charts = (draw_scatter(page.points, chosen, narrow=narrow) for narrow in (False, True))
    key = tag("ol", *(tag("li", _name_point(point)) for point in list_shown(page.points)), class_="key")
    return (tag("figure", *charts, key, caption),)


def _name_point(point: Point) -> Markup:
    figures = join((show_ms(point.median_ms), show_db(point.closeness), show_mib(point.size_mib)), ", ")
    return tag("span", tag("b", point.model), f" on {point.runtime}, ", figures)


def _tell_pictures(page: Page) -> list[Markup]:
    """Say how to look at the pairs, and which models have none to show."""
    reference, _ = page.reference
    seen = {reference, *(view.model for view in page.views)}
    equal = dict.fromkeys(
        point.model for point in page.points if point.worst_db == math.inf and point.model not in seen
    )
    hint = (
        f"Left of the line is {reference}, right of it the model. Drag the line, or use the arrow keys, Home and End. "
        "The difference is that of the 8-bit pictures; black is equal."
    )
    said = [hint] if page.views else []
    said += [f"The pictures of {', '.join(equal)} equal those of {reference} on every pair."] if equal else []
    return [tag("p", text, class_="hint") for text in said]


def _show_method(page: Page) -> tuple[Markup, ...]:
    facts = {name: value for name, value in page.conditions.items() if value not in (None, "", ())}
    listed = tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts.items()))
    return listed, tag("ul", *(tag("li", line) for line in (page.noise, *CONVENTIONS)))


def _tell_facts(conditions: Mapping[str, Any]) -> str:
    wanted = (
        ("size", "{}"), ("pairs", "{} pairs"), ("cpu", "{}"), ("threads", "threads: {}"),
    )  # fmt: skip
    return " · ".join(text.format(conditions[name]) for name, text in wanted if conditions.get(name))


def _read(name: str) -> str:
    return (files(__name__.rpartition(".")[0]) / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return what a Content-Security-Policy names an inline style or script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"

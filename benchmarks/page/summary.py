"""The first thing that the page says: which model to use and why, and what was noticed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .content import Page, Point
from .figures import show_db, show_mib, show_ms, show_times
from .markup import Markup, join, tag
from .recommend import CLOSE_DB, RULE, Recommendation

__all__ = ["show_notices", "show_summary"]


def show_summary(page: Page, found: Recommendation | None) -> Markup:
    """Show the recommended model, its figures against the baseline's, and two sentences why."""
    if found is None:
        reference = page.reference[0]
        return tag(
            "p", f"No model is recommended: none has pictures to compare with those of {reference}.", class_="lead"
        )
    baseline = next(point for point in page.points if point.key == page.baseline)
    chosen = found.chosen
    return join(
        (
            tag("p", "Recommended", class_="over"),
            tag("p", tag("strong", chosen.model), f" on {chosen.runtime}", class_="choice"),
            _show_figures(found, baseline, page),
            tag("p", _explain_cost(found, baseline, page), " ", _explain_quality(found, page), class_="lead"),
            tag("details", tag("summary", "How this was chosen"), tag("p", RULE)),
        )
    )


def _show_figures(found: Recommendation, baseline: Point, page: Page) -> Markup:
    chosen = found.chosen
    same = chosen.key == baseline.key
    pace = "within the noise" if _is_noise(found, baseline) else f"as fast as {baseline.model}"
    entries = (
        ("speed", show_times(chosen.speed), "the baseline" if same else pace),
        ("latency", show_ms(chosen.median_ms), "median" if same else join(("from ", show_ms(baseline.median_ms)))),
        ("size on disk", show_mib(chosen.size_mib), _compare_sizes(chosen, baseline)),
        ("worst pair", show_db(_worst(chosen)), f"from {page.reference[0]}"),
    )
    shown = (
        tag("div", tag("dt", name), tag("dd", value, tag("small", more)), class_="figure")
        for name, value, more in entries
    )
    return tag("dl", *shown, class_="figures")


def _compare_sizes(chosen: Point, baseline: Point) -> Markup | str:
    if chosen.model == baseline.model:
        return "the baseline"
    return f"{chosen.size_mib / baseline.size_mib:.0%} of {baseline.model}"


def _explain_cost(found: Recommendation, baseline: Point, page: Page) -> Markup:
    chosen, name = found.chosen, tag("b", found.chosen.model)
    if chosen.model == page.reference[0]:
        takes = join((show_ms(chosen.median_ms), " and ", show_mib(chosen.size_mib)))
        return join(("Keep ", name, f" on {chosen.runtime}: of those close to it none is faster than its ", takes, "."))
    there = f"{baseline.model} on {baseline.runtime}" if baseline.runtime != chosen.runtime else baseline.model
    if _is_noise(found, baseline):
        pace = join((", within the noise the same as ", show_ms(baseline.median_ms), f" of {there}"))
    else:
        times = show_times(chosen.speed, " times")
        pace = join((", ", times, f" as fast as {there} (", show_ms(baseline.median_ms), ")"))
    size = join((show_mib(chosen.size_mib), " instead of ", show_mib(baseline.size_mib)))
    others = " and ".join(point.model for point in found.as_fast if point.model != baseline.model)
    tie = f"; {others} cannot be told from it in speed, and is no smaller" if others else ""
    return join(("Use ", name, ": ", show_ms(chosen.median_ms), " a run", pace, ", and ", size, tie, "."))


def _is_noise(found: Recommendation, baseline: Point) -> bool:
    """Tell whether the chosen model was not told from the baseline in speed."""
    return any(point.key == baseline.key for point in found.as_fast)


def _explain_quality(found: Recommendation, page: Page) -> Markup:
    chosen, reference = found.chosen, page.reference[0]
    worst = show_db(_worst(chosen))
    if chosen.key == page.reference:
        return join(("Its pictures are what the others are compared with.",))
    if chosen.model == reference:
        return join(("Its pictures are ", worst, f" from those on {page.reference[1]} on the worst pair."))
    if not found.is_close:
        limit = f"No model keeps {CLOSE_DB:g} dB on its worst pair, this one comes closest with "
        return join((limit, worst, f" from {reference}: look at the pictures below before you use it."))
    if _worst(chosen) == math.inf:
        return join((f"Its pictures equal those of {reference} on every pair.",))
    median = chosen.median_db if chosen.median_db is not None else _worst(chosen)
    return join((f"Its pictures stay close to those of {reference}: ", worst, " on the worst pair, ",
                 show_db(median), " on the median pair."))  # fmt: skip


def show_notices(notices: Sequence[str]) -> Markup | None:
    """Show what was noticed; None where there is nothing."""
    if not notices:
        return None
    return join((tag("h3", "Noticed"), tag("ul", *(tag("li", notice) for notice in notices), class_="notices")))


def _worst(point: Point) -> float:
    return point.worst_db if point.worst_db is not None else float("-inf")

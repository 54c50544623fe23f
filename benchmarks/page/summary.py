"""The first thing that the page says: which model to use and why, and what was noticed."""

from __future__ import annotations

from collections.abc import Sequence

from .content import Page, Point
from .figures import show_db, show_mib, show_ms, show_times
from .markup import Markup, join, tag
from .recommend import CLOSE_DB, RULE, Recommendation

__all__ = ["show_notices", "show_summary"]


def show_summary(page: Page, found: Recommendation | None) -> Markup:
    """Show the recommended model, its figures against the baseline's, and two sentences why."""
    if found is None:
        return tag("p", "No model is recommended: no pictures were compared, so only cost is known.", class_="lead")
    baseline = next(point for point in page.points if point.key == page.baseline)
    chosen = found.chosen
    return join(
        (
            tag("p", "Recommended", class_="over"),
            tag("p", tag("strong", chosen.model), f" on {chosen.runtime}", class_="choice"),
            _show_figures(chosen, baseline, page),
            tag("p", _explain_cost(found, baseline, page), " ", _explain_quality(found, page), class_="lead"),
            tag("details", tag("summary", "How this was chosen"), tag("p", RULE)),
        )
    )


def _show_figures(chosen: Point, baseline: Point, page: Page) -> Markup:
    against = f"of {baseline.model}" if chosen.key != baseline.key else "the baseline itself"
    entries = (
        ("speed", show_times(chosen.speed), against),
        ("latency", show_ms(chosen.median_ms), "median of a run"),
        ("size on disk", show_mib(chosen.size_mib), _compare_sizes(chosen, baseline)),
        ("worst pair", show_db(_worst(chosen)), f"to {page.reference[0]}"),
    )
    shown = (
        tag("div", tag("dt", name), tag("dd", value, tag("small", more)), class_="figure")
        for name, value, more in entries
    )
    return tag("dl", *shown, class_="figures")


def _compare_sizes(chosen: Point, baseline: Point) -> Markup | str:
    if chosen.model == baseline.model:
        return "the baseline itself"
    return join((f"{chosen.size_mib / baseline.size_mib:.0%} of ", show_mib(baseline.size_mib)))


def _explain_cost(found: Recommendation, baseline: Point, page: Page) -> Markup:
    chosen = found.chosen
    name = tag("b", chosen.model)
    takes = join((show_ms(chosen.median_ms), " and ", show_mib(chosen.size_mib)))
    if chosen.model == page.reference[0]:
        return join((name, " itself takes ", takes, ", and none of the others is faster and close enough to it."))
    pace = join((show_times(chosen.speed), " the speed of ", baseline.model))
    if chosen.key != baseline.key and baseline.runtime != chosen.runtime:
        pace = join((pace, f" on {baseline.runtime}"))
    before = join((" (", show_ms(baseline.median_ms), " and ", show_mib(baseline.size_mib), ")"))
    others = _list_names(found.as_fast)
    tie = f", and is the smallest of those that no noise tells apart: {others} runs as fast" if others else ""
    return join((name, " takes ", takes, ", ", pace, before, tie, "."))


def _explain_quality(found: Recommendation, page: Page) -> Markup:
    chosen, reference = found.chosen, page.reference[0]
    if chosen.model == reference:
        if chosen.key == page.reference:
            return Markup("Its pictures are what the others are compared with.")
        return join(("Its pictures are ", show_db(_worst(chosen)), f" from those on {page.reference[1]} at worst."))
    worst = join(("its worst pair is ", show_db(_worst(chosen)), f" from the picture of {reference}"))
    if not found.is_close:
        limit = f"No model keeps its worst pair at {CLOSE_DB:g} dB; this one comes closest: "
        return join((limit, worst, ". Look at the pictures below before you use it."))
    median = chosen.median_db if chosen.median_db is not None else _worst(chosen)
    return join((Markup("I"), Markup(worst[1:]), ", the median pair ", show_db(median), " from it."))


def show_notices(notices: Sequence[str]) -> Markup | None:
    """Show what was noticed; None where there is nothing."""
    if not notices:
        return None
    return join((tag("h3", "Noticed"), tag("ul", *(tag("li", notice) for notice in notices), class_="notices")))


def _worst(point: Point) -> float:
    return point.worst_db if point.worst_db is not None else float("-inf")


def _list_names(points: Sequence[Point]) -> str:
    return " and ".join(point.model for point in points)

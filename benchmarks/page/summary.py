"""The first thing that the page says: which model to use and why, and what was noticed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .content import Page, Point
from .markup import Markup, join, tag
from .number_text import show_db, show_mib, show_ms, show_times
from .recommend import CLOSE_DB, RULE, Recommendation

__all__ = ["show_notices", "show_summary"]


def show_summary(page: Page, found: Recommendation | None) -> Markup:
    """Show the recommended model, its figures against the baseline's, and two sentences why."""
    if found is None:
        reference = page.reference[0]
        compared = any(point.worst_db is not None for point in page.points if point.model != reference)
        why = "close to" if compared else "to compare with"
        return tag("p", f"No model is recommended: none has pictures {why} those of {reference}.", class_="lead")
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
    same = chosen.key == baseline.key
    pace = "within the noise" if chosen.within_noise else f"as fast as {baseline.model}"
    before = None if same else join((", from ", show_ms(baseline.median_ms)))
    entries = (
        ("speed", show_times(chosen.speed), "the baseline" if same else join((pace, _show_interval(chosen)))),
        (
            "latency",
            show_ms(chosen.median_ms),
            join(("median", before)),
        ),
        ("size on disk", show_mib(chosen.size_mib), _compare_sizes(chosen, baseline)),
        ("worst pair", show_db(chosen.closeness), f"from {page.reference[0]}"),
    )
    shown = (
        tag("div", tag("dt", name), tag("dd", value, tag("small", more)), class_="figure")
        for name, value, more in entries
    )
    return tag("dl", *shown, class_="figures")


def _show_interval(point: Point) -> Markup | None:
    """Show where other runs find the speed; None where that is not known, or anywhere."""
    if point.speed_interval is None or not math.isfinite(point.speed_interval[1]):
        return None
    low, high = point.speed_interval
    return join((", ", show_times(low, ""), " to ", show_times(high, "")))


def _compare_sizes(chosen: Point, baseline: Point) -> Markup | str:
    if chosen.model == baseline.model:
        return "the baseline"
    return f"{chosen.size_mib / baseline.size_mib:.0%} of {baseline.model}"


def _explain_cost(found: Recommendation, baseline: Point, page: Page) -> Markup:
    chosen, name = found.chosen, tag("b", found.chosen.model)
    takes = join((show_ms(chosen.median_ms), " a run and ", show_mib(chosen.size_mib)))
    if chosen.model == page.reference[0]:
        why = ": of those close to it none is faster beyond the noise" if found.is_close else None
        return join(("Keep ", name, f" on {chosen.runtime}, ", takes, why, "."))
    others = " and ".join(point.model for point in found.as_fast if point.key != baseline.key)
    tie = f"; {others} cannot be told from it in speed, and is no smaller" if others else ""
    if chosen.key == baseline.key:
        return join(("Use ", name, ", ", takes, tie, "."))
    size = join((show_mib(chosen.size_mib), " instead of ", show_mib(baseline.size_mib)))
    return join(("Use ", name, ": ", _compare_times(chosen, baseline), ", and ", size, tie, "."))


def _compare_times(chosen: Point, baseline: Point) -> Markup:
    """Say how fast the chosen model is, and its median beside the baseline's, of which speed is no ratio."""
    there = f"{baseline.model} on {baseline.runtime}" if baseline.runtime != chosen.runtime else baseline.model
    times, now, before = show_times(chosen.speed, " times"), show_ms(chosen.median_ms), show_ms(baseline.median_ms)
    if chosen.speed_interval is None:
        if chosen.within_noise:
            return join((now, " a run, within the noise the same as ", before, f" of {there}"))
        return join((now, " a run, ", times, f" as fast as {there} (", before, ") by their fastest runs"))
    pace = join(("within the noise" if chosen.within_noise else times, f" as fast as {there}"))
    return join((pace, " by the fastest rounds of each process, its median ", now, " instead of ", before))


def _explain_quality(found: Recommendation, page: Page) -> Markup:
    chosen, reference = found.chosen, page.reference[0]
    worst = show_db(chosen.closeness)
    if not found.is_close:
        return _explain_distance(found.closest, reference)
    if chosen.key == page.reference:
        return join(("Its pictures are what the others are compared with.",))
    if chosen.model == reference:
        return join(("Its pictures are ", worst, f" from those on {page.reference[1]} on the worst pair."))
    if chosen.closeness == math.inf:
        return join((f"Its pictures equal those of {reference} on every pair.",))
    median = chosen.median_db if chosen.median_db is not None else chosen.closeness
    return join((f"Its pictures stay close to those of {reference}: ", worst, " on the worst pair, ",
                 show_db(median), " on the median pair."))  # fmt: skip


def _explain_distance(closest: Point | None, reference: str) -> Markup:
    """Say that no model but the reference is close."""
    limit = f"No other model keeps {CLOSE_DB:g} dB on its worst pair"
    if closest is None:
        return join((f"{limit}: their pictures are broken.",))
    name = tag("b", closest.model), f" on {closest.runtime}"
    return join((limit, ": ", *name, " comes closest with ", show_db(closest.closeness), f" from {reference}, ",
                 "which is not close enough."))  # fmt: skip


def show_notices(notices: Sequence[str]) -> Markup | None:
    """Show what was noticed; None where there is nothing."""
    if not notices:
        return None
    return join((tag("h3", "Noticed"), tag("ul", *(tag("li", notice) for notice in notices), class_="notices")))

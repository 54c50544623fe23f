"""Where the time goes: a table of bars for each model and runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .content import Profile
from .markup import Markup, join, tag
from .number_text import keep_value, show_ms

__all__ = ["TOP", "show_operations", "take_top"]

TOP = 6


def take_top(by_op: Mapping[str, float], count: int = TOP) -> list[tuple[str, float]]:
    """Return the `count` operations that take most, and the sum of the others under "other" where there are some."""
    ordered = sorted(by_op.items(), key=lambda entry: (-entry[1], entry[0]))
    rest = sum(time for _, time in ordered[count:])
    return [*ordered[:count], *([(f"{len(ordered) - count} other", rest)] if len(ordered) > count else [])]


def show_operations(profiles: Sequence[Profile]) -> Markup:
    """Show each model's largest operations; all bars have one scale."""
    tops = [take_top(profile.by_op) for profile in profiles]
    longest = max((time for top in tops for _, time in top), default=0.0)
    return join(_show_one(profile, top, longest) for profile, top in zip(profiles, tops, strict=True))


def _show_one(profile: Profile, top: Sequence[tuple[str, float]], longest: float) -> Markup:
    total = sum(profile.by_op.values())
    rows = (
        tag(
            "tr",
            tag("th", op, scope="row"),
            tag("td", _draw_bar(time / longest if longest else 0.0, place == TOP), class_="bar"),
            tag("td", f"{time:.2f}", data_value=keep_value(time), class_="number"),
            tag("td", f"{time / total:.0%}" if total else "-", class_="number"),
        )
        for place, (op, time) in enumerate(top)
    )
    names = (("operation", None), ("", "bar"), ("ms", "number"), ("share", "number"))
    head = tag("tr", *(tag("th", name, scope="col", class_=kind) for name, kind in names))
    caption = tag(
        "caption", tag("b", profile.model), f" on {profile.runtime} ", tag("span", show_ms(total), " profiled")
    )
    return tag("table", caption, tag("thead", head), tag("tbody", *rows), class_="operations")


def _draw_bar(share: float, is_rest: bool) -> Markup:
    rect = tag("rect", width=f"{100 * share:.1f}%", height="100%", class_="rest" if is_rest else None)
    return tag("svg", rect, aria_hidden="true")

"""Write HTML so that text from files stays text."""

from __future__ import annotations

import html
from collections.abc import Iterable

__all__ = ["Markup", "join", "tag"]

Value = str | float | bool | None

VOID = frozenset({"br", "img", "input"})


class Markup(str):
    """Text that is HTML already; every other text is escaped where it is put into a tag."""

    __slots__ = ()


def tag(name: str, *children: object, **attributes: Value) -> Markup:
    """Return an element. Children that are no Markup are escaped, as are values of attributes.

    Attributes are named with "_" for "-" and may end in "_" (class_); True gives a bare one, None and False none.
    """
    written = "".join(_write_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[object], separator: str = "") -> Markup:
    """Return children one after another, escaped where they are no Markup; None is left out."""
    return Markup(separator.join(_escape(child) for child in children if child is not None))


def _escape(child: object) -> str:
    return child if isinstance(child, Markup) else html.escape(str(child))


def _write_attribute(key: str, value: Value) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f' {name}="{html.escape(text)}"'

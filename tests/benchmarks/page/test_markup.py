"""Markup: text stays text, tags stay tags."""

from __future__ import annotations

from vtopt.benchmarks.page.markup import Markup, join, tag


def test_text_is_escaped_where_it_is_put_in() -> None:
    assert tag("p", "<script>", " & ", tag("b", "x")) == "<p>&lt;script&gt; &amp; <b>x</b></p>"
    assert join(("<", Markup("<br>"), None)) == "&lt;<br>"


def test_an_attribute_cannot_be_left() -> None:
    assert tag("img", alt='"><script>') == '<img alt="&quot;&gt;&lt;script&gt;">'


def test_attributes_have_the_names_that_html_gives_them() -> None:
    assert tag("th", class_="a", aria_label="b", hidden=True, title=None, inert=False) == (
        '<th class="a" aria-label="b" hidden></th>'
    )


def test_coordinates_are_written_shortly() -> None:
    assert tag("line", x1=1.0, x2=0.123456, y1=-0.5) == '<line x1="1" x2="0.12" y1="-0.5"></line>'

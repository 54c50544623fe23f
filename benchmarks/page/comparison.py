"""Pictures before and after: two on one another under a slider, and what differs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from ..engines.sets import Key
from ..quality.sheets import GAIN, amplify_difference, read_picture
from .content import View
from .markup import Markup, join, tag
from .number_text import show_db

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["encode_picture", "show_views"]


def encode_picture(picture: Image.Image) -> str:
    """Return a picture as a data: URI that holds a PNG."""
    stream = io.BytesIO()
    picture.save(stream, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def show_views(views: Sequence[View], reference: Key) -> Markup:
    """Show each model's pairs."""
    return join(
        tag(
            "section",
            tag("h3", tag("b", model), f" on {runtime}"),
            tag("div", *(_show_view(view, reference[0]) for view in group), class_="pairs"),
            class_="model",
        )
        for (model, runtime), group in groupby(views, key=lambda view: (view.model, view.runtime))
    )


def _show_view(view: View, reference: str) -> Markup:
    width, height = view.picture.size
    size = {"width": width, "height": height}
    about = f"{view.role} pair {view.pair}"
    before = tag("img", src=encode_picture(view.reference), alt=f"{reference}, {about}", **size)
    after = tag("img", src=encode_picture(view.picture), alt=f"{view.model}, {about}", **size, class_="after")
    amplified = amplify_difference(read_picture(view.picture), read_picture(view.reference))
    difference = tag("img", src=encode_picture(amplified), alt=f"{GAIN} times the difference, {about}", **size)
    slider = tag(
        "input", type="range", min=0, max=100, value=50, step=1,
        aria_label=f"How much of {reference} is shown, left of {view.model}: {about}",
    )  # fmt: skip
    shown = tag(
        "div",
        *(before, after),
        tag("span", reference, class_="left", aria_hidden="true"),
        tag("span", view.model, class_="right", aria_hidden="true"),
        tag("i", aria_hidden="true"),
        slider,
        class_="slider",
    )
    told = tag("span", f"{GAIN}× difference", class_="left", aria_hidden="true")
    return tag(
        "figure",
        tag("div", shown, tag("div", difference, told, class_="difference"), class_="panels"),
        tag("figcaption", tag("b", f"{view.role.capitalize()} pair"), f" {view.pair}, ", show_db(view.psnr)),
    )

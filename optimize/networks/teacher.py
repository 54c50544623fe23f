"""SDAFN as the teacher of a distillation: told a person's pose, and of the person only what no garment may hide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .registry import InputSpec, Network
from .sdafn import build_sdafn

__all__ = ["build_teacher"]


def build_teacher(**settings: Any) -> Network:
    """Return SDAFN, fed as its authors feed it; `settings` are fields of `SdafnConfig`.

    Where it looks is decided from pose and agnostic person, and pixels of the person are copied from the agnostic
    one. Were they copied from the person, a teacher trained to put a garment on the person who wears it would learn
    to copy all of the picture.
    """
    network = build_sdafn(**settings)
    reference = InputSpec("ref_input", network.inputs[0].channels, picture=("pose", "agnostic"))
    return replace(
        network,
        inputs=(reference, InputSpec("source_image", picture="clothes"), InputSpec("ref_image", picture="agnostic")),
    )

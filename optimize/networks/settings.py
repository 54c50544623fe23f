"""Settings of networks, from a command line or a file, checked before anything is built of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

__all__ = ["Count", "Flag", "Seed", "Sides", "TwoWidths", "Widths", "make_config"]

Config = TypeVar("Config")

_WRITTEN = re.compile(r"(\d+)x(\d+)")


def _read_sides(value: object) -> object:
    written = _WRITTEN.fullmatch(value) if isinstance(value, str) else None
    return tuple(map(int, written.groups())) if written else value


Flag = Annotated[bool, Field(description="true or false")]
Count = Annotated[int, Field(gt=0, description="a whole number above 0")]
Seed = Annotated[int | None, Field(ge=0, description="a whole number from 0 on, or null for none")]
Widths = Annotated[
    tuple[Count, ...], Field(min_length=1, description="at least one whole number above 0, such as [64, 32]")
]
TwoWidths = Annotated[
    tuple[Count, ...], Field(min_length=2, description="at least two whole numbers above 0, such as [64, 32]")
]
Sides = Annotated[
    tuple[Count, Count],
    BeforeValidator(_read_sides),
    Field(description="a height and a width above 0, such as 256x192"),
]
"""Height and width; the text 256x192 is read as that."""


def make_config(kind: type[Config], settings: Mapping[str, Any]) -> Config:
    """Return a dataclass of settings, each of which must be what its field's annotation says.

    Nothing is guessed: the text "False" is no bool. Lists become tuples.

    Raises TypeError for a setting that the class has not, ValueError for a value that a setting does not take.
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if unknown := [str(name) for name in settings if name not in known]:
        raise TypeError(f"there is no setting {', '.join(unknown)}; they are {', '.join(known)}")
    annotations = get_type_hints(kind, include_extras=True)
    return kind(**{name: _check(name, value, annotations[name]) for name, value in settings.items()})


def _check(name: str, value: Any, annotation: Any) -> Any:
    try:
        return TypeAdapter(annotation).validate_python(tuple(value) if isinstance(value, list) else value, strict=True)
    except ValidationError as error:
        marks = getattr(annotation, "__metadata__", ())
        said = next((mark.description for mark in marks if isinstance(mark, FieldInfo)), None)
        takes = said or error.errors()[0]["msg"].removeprefix("Input should be ")
        raise ValueError(f"{name} takes {takes}, and not {json.dumps(value, default=repr):.60}") from error

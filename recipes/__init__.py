"""The recipes vtopt ships, one YAML file per use, and the two functions that find them."""

from __future__ import annotations

import difflib
from pathlib import Path

from ..optimize.errors import RecipeError

__all__ = ["find_recipe", "list_recipes"]


def list_recipes() -> dict[str, Path]:
    """Return the shipped recipes: name -> file, by name."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}


def find_recipe(name_or_path: str) -> Path:
    """Return the file of a shipped recipe, or of the user's own when a path is given.

    Raises RecipeError for neither.
    """
    shipped = list_recipes()
    path = shipped.get(name_or_path, Path(name_or_path))
    if path.is_file():
        return path
    close = difflib.get_close_matches(name_or_path, shipped, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    raise RecipeError(f"{name_or_path}: no such recipe or file; {hint}shipped are {', '.join(shipped)}")

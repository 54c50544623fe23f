"""A README's tables, made of the results beside it: renewed in place, or only compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...optimize.errors import BudgetError, InputError
from ..reports.files import save_text
from .blocks import fill_blocks, read_blocks
from .making import Table, list_absent, make_table
from .tables import TABLES

__all__ = ["check_readme", "renew_readme"]

RESULTS = Path("benchmarks", "results")

Absent = dict[str, list[str]]
"""Table -> the files it lacks."""


def renew_readme(readme: Path, tables: Mapping[str, Table] = TABLES) -> Absent:
    """Write every table that was measured into its block; the file is all of the old or all of the new.

    Returns the tables that stay as they are, as results are not there yet.

    Raises InputError for a README without a block for each table, or results that cannot be used.
    """
    text, made, absent = _make_tables(readme, tables)
    if (renewed := fill_blocks(text, made)) != text:
        save_text(renewed, readme)
    return absent


def check_readme(readme: Path, tables: Mapping[str, Table] = TABLES) -> Absent:
    """Raise BudgetError, naming the tables, when some are not what the results make; else as `renew_readme`."""
    text, made, absent = _make_tables(readme, tables)
    stands = read_blocks(text)
    if drifted := ", ".join(name for name, table in made.items() if stands[name] != table):
        raise BudgetError(
            f"{readme}: {drifted}: not what {RESULTS} says; run python -m vtopt.benchmarks.readme {readme}"
        )
    return absent


def _make_tables(readme: Path, tables: Mapping[str, Table]) -> tuple[str, dict[str, str], Absent]:
    """Return the text, the tables that can be made, and the files that others lack."""
    try:
        text = readme.read_text(encoding="utf-8")
        stands = read_blocks(text)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{readme}: cannot be read ({error}); name a text file") from error
    except InputError as error:
        raise InputError(f"{readme}: {error}") from error
    if odd := ", ".join(sorted(stands.keys() ^ tables.keys())):
        raise InputError(f"{readme}: figures {odd}: a table without a block, or a block without a table; add the other")
    results = readme.parent / RESULTS
    absent = {name: files for name, table in tables.items() if (files := list_absent(table, results))}
    made = {name: make_table(table, results) for name, table in tables.items() if name not in absent}
    return text, made, absent

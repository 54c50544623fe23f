"""Renew the README's tables: python -m vtopt.benchmarks.readme README.md."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ...optimize.console import print_error, print_notice
from ...optimize.errors import VtoptError
from .renewal import check_readme, renew_readme


def main(
    readme: Annotated[Path, typer.Argument(help="A README beside benchmarks/results.")],
    *,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit with 3 where a table differs.")] = False,
) -> None:
    """Make the README's tables anew from benchmarks/results, the text between them stays."""
    try:
        absent = check_readme(readme) if check else renew_readme(readme)
    except VtoptError as error:
        print_error(str(error))
        sys.exit(error.exit_code)
    for name, files in absent.items():
        print_notice(f"{name}: left as it is until there is {', '.join(files)}")


if __name__ == "__main__":
    typer.run(main)

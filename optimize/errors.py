"""What vtopt raises, and the exit code each error ends the command line with.

    VtoptError                 1   the message says what, where, what next
      InputError               1   a file or folder given by the user cannot be used
      OutputError              1   an output cannot be written, or exists already
      NetworkError             1   unknown network, or weights that do not fit it
      RecipeError              1   a recipe that cannot run; lists every problem
      DifferenceError          1   a step's output differs from its input; nothing was written
      MissingExtraError        1   an optional package is not installed
      UsageError               2   settings that contradict each other
    BudgetError                3   a quality budget was missed; the artifact was kept

Usage errors end with 2 (Typer), an interruption with 130.
"""

from __future__ import annotations

__all__ = [
    "BudgetError",
    "DifferenceError",
    "InputError",
    "MissingExtraError",
    "NetworkError",
    "OutputError",
    "RecipeError",
    "UsageError",
    "VtoptError",
]


class VtoptError(Exception):
    """An error whose message is written for the user and printed without a traceback."""

    exit_code = 1


class InputError(VtoptError):
    """A file or folder given by the user cannot be used."""


class OutputError(VtoptError):
    """An output cannot be written, or would overwrite an existing file."""


class NetworkError(VtoptError):
    """A network is unknown, or the weights do not fit it."""


class RecipeError(VtoptError):
    """A recipe cannot run; the message lists every problem found."""


class DifferenceError(VtoptError):
    """A step's output differs from its input by more than the step's tolerance; nothing was written."""


class MissingExtraError(VtoptError):
    """An optional package is not installed."""


class UsageError(VtoptError):
    """Settings contradict each other."""

    exit_code = 2


class BudgetError(VtoptError):
    """A quality budget was missed; the best artifact was kept."""

    exit_code = 3

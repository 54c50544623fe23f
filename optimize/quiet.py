"""Keep what other tools say off the terminal."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

__all__ = ["keep_quiet"]


@contextlib.contextmanager
def keep_quiet() -> Iterator[None]:
    """Keep logs, warnings and what is printed off the terminal; vtopt's own progress on stderr is seen."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
